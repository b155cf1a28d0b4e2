// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The device is asked for in words that are checked before any work.
#include "catch.hpp"
#include "cli/program.hpp"

#include <mad/cli/device_choice.hpp>

#include <algorithm>
#include <filesystem>
#include <string>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("a device has a name and, for GPUs, a number") {
  CHECK_FALSE(cli::parse_device("cpu").cuda);
  CHECK(cli::parse_device("cuda").name() == "cuda:0");
  CHECK(cli::parse_device("cuda:3").index == 3);
  CHECK(cli::parse_device("cpu").precision() == train::Precision::fp32);
  CHECK(cli::parse_device("cuda").precision() == train::Precision::bf16);
  CHECK_THROWS_WITH(cli::parse_device("cudda"), ContainsSubstring("Did you mean 'cuda'?"));
  for (const char* wrong : {"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"})
    CHECK_THROWS_AS(cli::parse_device(wrong), UsageError);
}

TEST_CASE("a run on the CPU is described as before there were devices") {
  nlohmann::ordered_json run;
  cli::DeviceChoice{}.describe(run);
  CHECK(run.empty());
  cli::parse_device("cuda:1").describe(run);  // which GPU changes no number
  CHECK(run.dump() == R"({"device":"cuda","precision":"bf16"})");
  cli::DeviceChoice in_parts = cli::parse_device("cuda");
  in_parts.micro_batch = 32;
  in_parts.describe(run);
  CHECK(run.dump() == R"({"device":"cuda","precision":"bf16","micro_batch":32})");
}

TEST_CASE("what a device cannot do is refused before any work") {
  const TemporaryFolder folder;
  const auto refused = [&](const Arguments& more) {
    const Said said = mad(folder.path(), with(small_training, "--dim", "128") + more + Arguments{"--log-path", "run"});
    CHECK(said.status == 2);
    CHECK_FALSE(std::filesystem::exists(folder / "run"));
    return said.err;
  };
  CHECK_THAT(refused({"--device", "tpu"}), ContainsSubstring("must be cpu, cuda or cuda:N"));
  CHECK_THAT(refused({"--precision", "bf16"}), ContainsSubstring("--precision bf16 is for --device cuda"));
  CHECK_THAT(refused({"--device", "cuda", "--precision", "fp8"}), ContainsSubstring("must be fp32 or bf16"));
  CHECK_THAT(refused({"--micro-batch", "32"}), ContainsSubstring("--micro-batch is for --device cuda"));
  CHECK_THAT(refused({"--device", "cuda", "--micro-batch", "-1"}), ContainsSubstring("--micro-batch"));
  // Without a driver, without such a GPU, or without CUDA in the program: one sentence that begins with the device.
  const std::string message = refused({"--device", "cuda:1000"});
  CHECK_THAT(message, ContainsSubstring("mad: device cuda"));
  CHECK(std::count(message.begin(), message.end(), '\n') == 1);
}

}  // namespace mad::testing
