// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/setting_json.hpp>

using Catch::Matchers::ContainsSubstring;
using mad::tasks::Setting;
using mad::tasks::setting_from_json;
using Json = nlohmann::json;

TEST_CASE("a setting survives the way through JSON in every field") {
  const Setting setting{.task = "copying",
                        .vocab_size = 1,
                        .seq_len = 2,
                        .frac_noise = 0.1,
                        .noise_vocab_size = 4,
                        .num_tokens_to_copy = 5,
                        .k_motif_size = 6,
                        .v_motif_size = 7,
                        .multi_query = false,
                        .num_train_examples = 8,
                        .num_test_examples = 9,
                        .seed = 10};
  const auto json = mad::tasks::to_json(setting);
  CHECK(json.size() == 12);
  CHECK(json.begin().key() == "task");
  CHECK(setting_from_json(Json::parse(json.dump()), "here") == setting);
  CHECK(setting_from_json(json, "here") == setting);
  CHECK(setting_from_json(Json::object(), "here") == Setting{});
}

TEST_CASE("a wrong field or value in a setting is refused, with the file and the field") {
  const auto read = [](const char* text) { return setting_from_json(Json::parse(text), "run.json"); };
  CHECK_THROWS_AS(read("[]"), mad::UsageError);
  CHECK_THROWS_AS(read(R"({"vocab": 3})"), mad::UsageError);
  CHECK_THROWS_WITH(read(R"({"size": 3})"), ContainsSubstring("run.json: unknown field 'size'") &&
                                                ContainsSubstring("task, vocab_size, seq_len,"));
  CHECK_THROWS_WITH(read(R"({"seq_len": 12.5})"), ContainsSubstring("run.json: seq_len is 12.5, must be an integer"));
  CHECK_THROWS_AS(read(R"({"seq_len": "12"})"), mad::UsageError);
  CHECK_THROWS_AS(read(R"({"seq_len": 9223372036854775808})"), mad::UsageError);
  CHECK(read(R"({"seq_len": -12})").seq_len == -12);  // whether a task can use it is for the task to say
  CHECK_THROWS_AS(read(R"({"seed": -1})"), mad::UsageError);
  CHECK_THROWS_AS(read(R"({"multi_query": 1})"), mad::UsageError);
  CHECK_THROWS_AS(read(R"({"frac_noise": "0.2"})"), mad::UsageError);
  CHECK_THROWS_AS(read(R"({"task": 3})"), mad::UsageError);
  CHECK(read(R"({"frac_noise": 0})").frac_noise == 0.0);
}
