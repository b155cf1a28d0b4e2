// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// `mad data` against the reference's arrays and the library's generator.
#include "cli/program.hpp"

#include <mad/tasks/npy.hpp>
#include <mad/tasks/registry.hpp>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

namespace {

const Arguments fuzzy{"data", "--task", "FR", "--baseline", "--num-train-examples", "20", "--num-test-examples", "10"};
const std::string fuzzy_name = "t-FR_vs-16_sl-128_ntr-20_nte-10_km-3_vm-3_mq-1_fn-0#0_nvs-0_ntc-0_s-12345";

}  // namespace

TEST_CASE("mad data writes a dataset in the reference's layout") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), fuzzy);
  REQUIRE(said.status == 0);
  CHECK_THAT(said.out, ContainsSubstring("generated and written to './data/" + fuzzy_name + "'"));
  CHECK_THAT(said.out, ContainsSubstring("train  20 x 128\ntest   10 x 128\n0 of 10 test sequences occur"));

  tasks::Setting setting = tasks::find_task("FR").baseline;
  setting.num_train_examples = 20;
  setting.num_test_examples = 10;
  const tasks::Dataset expected = tasks::generate(setting);
  const std::filesystem::path written = folder.path() / "data" / fuzzy_name;
  CHECK(tasks::read_npy<std::int64_t>(written / "train/inputs.npy").data == expected.train.inputs);
  CHECK(tasks::read_npy<std::int64_t>(written / "train/targets.npy").data == expected.train.targets);
  CHECK(tasks::read_npy<std::int64_t>(written / "test/inputs.npy").data == expected.test.inputs);
  CHECK(tasks::read_npy<std::int64_t>(written / "test/targets.npy").data == expected.test.targets);
}

TEST_CASE("data that are there are kept, damaged ones are made again") {
  const TemporaryFolder folder;
  REQUIRE(mad(folder.path(), fuzzy).status == 0);
  const std::filesystem::path inputs = folder.path() / "data" / fuzzy_name / "train/inputs.npy";
  const std::string whole = bytes_of(inputs);
  const auto written = std::filesystem::last_write_time(inputs);
  const Said again = mad(folder.path(), fuzzy);
  CHECK(again.status == 0);
  CHECK_THAT(again.out, ContainsSubstring("where it was already"));
  CHECK(std::filesystem::last_write_time(inputs) == written);

  put_bytes(inputs, whole.substr(0, whole.size() / 2));
  const Said damaged = mad(folder.path(), fuzzy);
  CHECK(damaged.status == 0);
  CHECK_THAT(damaged.out, ContainsSubstring("generated again"));
  CHECK_THAT(damaged.out, ContainsSubstring("inputs.npy"));
  CHECK(bytes_of(inputs) == whole);
}

TEST_CASE("options that a task does not use are remarked upon") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(),
                        {"data", "--num-train-examples", "4", "--num-test-examples", "2", "--num-tokens-to-copy", "3"});
  CHECK(said.status == 0);
  CHECK_THAT(said.err, ContainsSubstring("'in-context-recall' does not use --num-tokens-to-copy"));
  CHECK(said.err.find("--num-train-examples") == std::string::npos);
}

}  // namespace mad::testing
