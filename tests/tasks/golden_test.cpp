// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Every recorded dataset of the reference, bit for bit.
#include "catch.hpp"
#include "tasks/sha256.hpp"

#include <mad/tasks/registry.hpp>
#include <mad/tasks/setting_json.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

using mad::tasks::Dataset;
using mad::tasks::Examples;
using mad::tasks::Setting;
using mad::testing::sha256;

namespace {

nlohmann::json recorded_cases() {
  std::ifstream file(std::string(MAD_GOLDEN_DIR) + "/tasks/tasks.json");
  REQUIRE(file.good());
  return nlohmann::json::parse(file).at("cases");
}

void compare(const nlohmann::json& recorded, const std::vector<std::int64_t>& array, const Examples& half) {
  CHECK(recorded.at("shape").at(0) == half.rows);
  REQUIRE(recorded.at("shape").at(1) == half.columns);
  const auto columns = static_cast<std::size_t>(half.columns);
  for (std::size_t row = 0; row < recorded.at("head").size(); ++row) {
    const auto expected = recorded.at("head").at(row).get<std::vector<std::int64_t>>();
    CHECK(std::vector(array.begin() + static_cast<std::ptrdiff_t>(row * columns),
                      array.begin() + static_cast<std::ptrdiff_t>((row + 1) * columns)) == expected);
  }
  CHECK(sha256(array.data(), array.size() * sizeof(std::int64_t)) == recorded.at("sha256").get<std::string>());
}

}  // namespace

TEST_CASE("SHA-256 is right where the standard gives the answer") {
  const std::string_view two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(sha256("", 0) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc", 3) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256(two_blocks.data(), two_blocks.size()) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("generated datasets are those of the reference, bit for bit") {
  const nlohmann::json cases = recorded_cases();
  REQUIRE(cases.size() == 86);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const nlohmann::json& recorded = cases[i];
    nlohmann::json fields = recorded.at("setting");
    fields["seed"] = recorded.at("seed");
    INFO("case " << i << ": " << fields.dump());
    const Setting setting = mad::tasks::setting_from_json(fields, "tasks.json");
    const Dataset data = mad::tasks::generate(setting);
    const nlohmann::json& arrays = recorded.at("arrays");
    compare(arrays.at("train_inputs"), data.train.inputs, data.train);
    compare(arrays.at("train_targets"), data.train.targets, data.train);
    compare(arrays.at("test_inputs"), data.test.inputs, data.test);
    compare(arrays.at("test_targets"), data.test.targets, data.test);
  }
}
