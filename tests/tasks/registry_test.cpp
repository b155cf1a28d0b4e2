// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/registry.hpp>

#include <string>
#include <vector>

using namespace mad::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The shortest task there can be: none of the optional members.
struct Constant {
  static constexpr std::string_view name = "constant";
  static void validate(const Setting&) {}
  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }
  explicit Constant(const Setting&) {}
  void make(Streams&, Mode mode, Example row) { row.targets[0] = mode == Mode::train ? 1 : 2; }
};

struct Elaborate : Constant {
  static constexpr std::string_view name = "elaborate";
  static constexpr std::string_view shorthand = "E";
  static constexpr std::string_view description = "has everything";
  static constexpr std::array<std::string_view, 1> fields{"seq_len"};
  static constexpr int version = 4;
  static constexpr bool auto_encoder = true;
  static Setting baseline() { return {.seq_len = 5}; }
  using Constant::Constant;
};

}  // namespace

TEST_CASE("the built-in tasks are found by name and by shorthand") {
  const std::vector<std::pair<std::string, std::string>> expected{{"in-context-recall", "CR"},
                                                                  {"noisy-in-context-recall", "NR"},
                                                                  {"fuzzy-in-context-recall", "FR"},
                                                                  {"memorization", "M"},
                                                                  {"compression", "C"},
                                                                  {"selective-copying", "SC"},
                                                                  {"copying", "copying"}};
  REQUIRE(built_in_tasks().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& [name, shorthand] = expected[i];
    const Task& task = built_in_tasks()[i];
    CHECK(task.name == name);
    CHECK(task.shorthand == shorthand);
    CHECK(task.baseline.task == name);
    CHECK_FALSE(task.description.empty());
    CHECK(task.auto_encoder == (name == "compression"));
    CHECK(&find_task(name) == &task);
    CHECK(&find_task(shorthand) == &task);
    CHECK_NOTHROW(task.validate(task.baseline));
  }
}

TEST_CASE("a task's fields are exactly those that change its data") {
  for (const Task& task : built_in_tasks()) {
    Setting start = task.baseline;
    start.num_train_examples = 20;
    start.num_test_examples = 5;
    start.frac_noise = task.uses("frac_noise") ? 0.25 : 0.0;
    start.noise_vocab_size = task.uses("noise_vocab_size") ? 4 : 0;
    const Dataset data = task.generate(start);
    const auto makes_a_difference = [&](const std::string& field) {
      Setting setting = start;
      if (field == "vocab_size") setting.vocab_size += 2;
      if (field == "seq_len") setting.seq_len += 2;
      if (field == "frac_noise") setting.frac_noise += 0.25;
      if (field == "noise_vocab_size") setting.noise_vocab_size += 2;
      if (field == "num_tokens_to_copy") setting.num_tokens_to_copy += 1;
      if (field == "k_motif_size") setting.k_motif_size = 2;
      if (field == "v_motif_size") setting.v_motif_size = 2;
      if (field == "multi_query") setting.multi_query = false;
      return task.generate(setting) != data;
    };
    for (const std::string field : {"vocab_size", "seq_len", "frac_noise", "noise_vocab_size", "num_tokens_to_copy",
                                    "k_motif_size", "v_motif_size", "multi_query"}) {
      INFO(task.name << ", " << field);
      CHECK(makes_a_difference(field) == task.uses(field));
    }
  }
}

TEST_CASE("an unknown task is refused with the nearest name and the list") {
  CHECK_THROWS_AS(find_task("memorisation"), mad::UsageError);
  CHECK_THROWS_WITH(find_task("memorisation"), ContainsSubstring("unknown task 'memorisation'. Did you mean "
                                                                 "'memorization'?"));
  CHECK_THROWS_WITH(find_task("noisy"), ContainsSubstring("Did you mean 'noisy-in-context-recall'?"));
  CHECK_THROWS_WITH(find_task("FRR"), ContainsSubstring("Did you mean 'fuzzy-in-context-recall'?"));
  CHECK_THROWS_WITH(find_task("translation-to-german"),
                    !ContainsSubstring("Did you mean") && ContainsSubstring("selective-copying (SC), copying."));
  CHECK_THROWS_AS(find_task(""), mad::UsageError);
  Setting setting;
  setting.task = "recal";
  CHECK_THROWS_AS(generate(setting), mad::UsageError);
}

TEST_CASE("a task of one's own needs no registration, and none of the optional members") {
  const Task task = task_of<Constant>();
  CHECK(task.name == "constant");
  CHECK(task.shorthand == "constant");
  CHECK(task.baseline.task == "constant");
  CHECK(task.version == 1);
  CHECK_FALSE(task.auto_encoder);
  for (const char* field : {"vocab_size", "multi_query", "frac_noise", "k_motif_size"}) CHECK(task.uses(field));

  const Dataset data = task.generate({.seq_len = 2, .num_train_examples = 2, .num_test_examples = 1});
  CHECK(data.train.inputs == std::vector<std::int64_t>{0, 0, 0, 0});
  CHECK(data.train.targets == std::vector<std::int64_t>{1, ignore, 1, ignore});
  CHECK(data.test.targets == std::vector<std::int64_t>{2, ignore});

  const std::vector<Task> mine{task_of<Constant>(), task_of<Elaborate>()};
  CHECK(find_task("constant", mine).name == "constant");
  CHECK_THROWS_WITH(find_task("constants", mine), ContainsSubstring("The tasks are: constant, elaborate (E)."));
}

TEST_CASE("the optional members of a task are taken over") {
  const Task task = task_of<Elaborate>();
  CHECK(task.shorthand == "E");
  CHECK(task.description == "has everything");
  CHECK(task.fields == std::vector<std::string>{"seq_len"});
  CHECK(task.version == 4);
  CHECK(task.auto_encoder);
  CHECK(task.baseline.seq_len == 5);
  CHECK(task.baseline.task == "elaborate");
}

TEST_CASE("a task whose rows would be empty is refused") {
  CHECK_THROWS_AS(generate<Constant>({.seq_len = 0}), mad::UsageError);
}
