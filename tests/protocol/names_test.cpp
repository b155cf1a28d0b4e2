// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/protocol/names.hpp>

#include "catch.hpp"

#include <stdlib.h>

#include <map>
#include <string>
#include <variant>

using Catch::Matchers::ContainsSubstring;
using namespace mad::protocol;

namespace {

RunName noisy_recall_of_the_benchmark() {
  RunName run;
  run.setting = {.task = "noisy-in-context-recall", .vocab_size = 32, .frac_noise = 0.2, .noise_vocab_size = 16};
  run.learning_rate = 1e-4;
  run.model = model_id({"mA", "Sg", "mA", "Sg"});
  return run;
}

}  // namespace

TEST_CASE("folders are named as by the reference") {
  RunName defaults;
  defaults.model = "mA-Sg-mA-Sg";
  CHECK(log_directory("./logs", defaults) ==
        "./logs/t-CR_vs-16_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_bs-128_e-200_lr-0#0005_wd-0#0_"
        "opt-adamw_sch-cosine_s-12345_model-mA-Sg-mA-Sg");
  CHECK(log_directory("./benchmark/logs", noisy_recall_of_the_benchmark()) ==
        "./benchmark/logs/t-NR_vs-32_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#2_nvs-16_ntc-0_bs-128_e-200_"
        "lr-0#0001_wd-0#0_opt-adamw_sch-cosine_s-12345_model-mA-Sg-mA-Sg");
}

TEST_CASE("rates, unknown tasks, further pairs and empty values") {
  RunName run;
  run.setting.task = "my-task";
  run.setting.multi_query = false;
  run.learning_rate = 1e-5;
  run.weight_decay = 2.5e-5;
  run.scheduler = "";
  run.model = "H";
  run.extra = {{"fidelity", "intended"}, {"empty", ""}};
  CHECK(log_directory_name(run) ==
        "t-my-task_vs-16_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_bs-128_e-200_lr-1e-05_wd-2#5e-05_"
        "opt-adamw_s-12345_model-H_fidelity-intended");
  run.task_shorthand = "MT";
  std::tm date{};
  date.tm_year = 126;
  date.tm_mon = 2;
  date.tm_mday = 7;
  date.tm_hour = 9;
  date.tm_min = 5;
  run.date = date;
  CHECK_THAT(log_directory_name(run), Catch::Matchers::StartsWith("t-MT_vs-16") &&
                                          Catch::Matchers::EndsWith("_fidelity-intended_date-Mar-07-2026-09-05h"));
}

TEST_CASE("a scheduler's original folder comes first") {
  ::setenv("TUNE_ORIG_WORKING_DIR", "/elsewhere", 1);
  const std::string path = log_directory("logs", RunName{}).string();
  ::unsetenv("TUNE_ORIG_WORKING_DIR");
  CHECK_THAT(path, Catch::Matchers::StartsWith("/elsewhere/logs/t-CR_"));
}

TEST_CASE("a name is taken apart by the reference's rules") {
  const auto pairs = parse_directory_name(log_directory_name(noisy_recall_of_the_benchmark()));
  std::map<std::string, NameValue> values(pairs.begin(), pairs.end());
  CHECK(pairs.front().first == "task");
  CHECK(pairs.back().first == "model");
  CHECK(pairs.size() == 19);
  const auto text = [&](const std::string& key) { return std::get<std::string>(values.at(key)); };
  const auto number = [&](const std::string& key) { return std::get<double>(values.at(key)); };
  CHECK(text("task") == "noisy-in-context-recall");
  CHECK(text("vocab_size") == "32");
  CHECK(text("num_test_examples") == "1280");
  CHECK(text("multi_query") == "1");
  CHECK(text("batch_size") == "128");
  CHECK(text("optimizer") == "adamw");
  CHECK(text("seed") == "12345");
  CHECK(text("model") == "mA-Sg-mA-Sg");
  CHECK(number("frac_noise") == 0.2);
  CHECK(number("lr") == 1e-4);
  CHECK(number("weight_decay") == 0);

  const auto others = parse_directory_name("t-copying_lr-1e-05_wd-2#5e-05_d-128_x-a-b");
  CHECK(std::get<std::string>(others[0].second) == "copying");
  CHECK(std::get<std::string>(others[1].second) == "1e-05");
  CHECK(std::get<double>(others[2].second) == 2.5e-5);
  CHECK(others[3].first == "dim");
  CHECK(others[4].first == "x");
  CHECK(std::get<std::string>(others[4].second) == "a-b");
}

TEST_CASE("what is no name of a run says where") {
  CHECK_THROWS_WITH(parse_directory_name("t-CR_checkpoints"), ContainsSubstring("has the part 'checkpoints'"));
  CHECK_THROWS_WITH(parse_directory_name("t-CR_fn-0#x"), ContainsSubstring("has the part 'fn-0#x'"));
}
