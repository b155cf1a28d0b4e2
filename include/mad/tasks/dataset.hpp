// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The examples of a task: how they are generated and held, and whether test examples occur in training.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

/// `rows` examples of `columns` positions each, row-major.
template <class Token>
struct BasicExamples {
  Index rows = 0;
  Index columns = 0;
  std::vector<Token> inputs;
  std::vector<Token> targets;

  std::span<const Token> input_row(Index row) const { return part(inputs, row); }
  std::span<const Token> target_row(Index row) const { return part(targets, row); }

  friend bool operator==(const BasicExamples&, const BasicExamples&) = default;

private:
  std::span<const Token> part(const std::vector<Token>& array, Index row) const {
    return std::span(array).subspan(static_cast<std::size_t>(row * columns), static_cast<std::size_t>(columns));
  }
};

/// As the reference stores them.
using Examples = BasicExamples<std::int64_t>;

/// Half the memory of `Examples`; see `compact`.
using CompactExamples = BasicExamples<std::int32_t>;

/// Both halves of a task's data.
struct Dataset {
  Examples train;
  Examples test;

  friend bool operator==(const Dataset&, const Dataset&) = default;
};

/// The same examples in 32-bit integers. \throws Error if a token does not fit.
inline CompactExamples compact(const Examples& examples) {
  const auto narrow = [](const std::vector<std::int64_t>& wide) {
    std::vector<std::int32_t> narrowed(wide.size());
    std::transform(wide.begin(), wide.end(), narrowed.begin(), [](std::int64_t token) {
      if (token != static_cast<std::int32_t>(token)) {
        throw Error(message({"token ", token, " does not fit in 32 bits. Use the 64-bit form."}));
      }
      return static_cast<std::int32_t>(token);
    });
    return narrowed;
  };
  return {examples.rows, examples.columns, narrow(examples.inputs), narrow(examples.targets)};
}

namespace detail {

/// A task under way, its type forgotten.
struct Maker {
  virtual ~Maker() = default;
  virtual void make(Streams& streams, Mode mode, Example example) = 0;
};

template <TaskType T>
struct MakerOf final : Maker {
  explicit MakerOf(const Setting& setting) : task(setting) {}
  void make(Streams& streams, Mode mode, Example example) override { task.make(streams, mode, example); }
  T task;
};

/// What generating data needs to know of a task type, so that the code for it exists once and not once per task.
struct Recipe {
  std::string_view name;
  void (*validate)(const Setting&);
  std::int64_t (*row_length)(const Setting&);
  std::unique_ptr<Maker> (*maker)(const Setting&);
};

template <TaskType T>
inline constexpr Recipe recipe{
    T::name, [](const Setting& setting) { T::validate(setting); },
    [](const Setting& setting) -> std::int64_t { return T::row_length(setting); },
    [](const Setting& setting) -> std::unique_ptr<Maker> { return std::make_unique<MakerOf<T>>(setting); }};

[[gnu::cold]] inline void validate(const Setting& setting, const Recipe& recipe) {
  require_counts(setting, recipe.name);
  recipe.validate(setting);
  const std::int64_t columns = recipe.row_length(setting);
  require(columns >= 1, recipe.name, "seq_len", setting.seq_len, "long enough for rows of at least one column");
  constexpr std::int64_t most = std::numeric_limits<std::ptrdiff_t>::max() / 32;  // bytes of both arrays, and some
  const std::int64_t longer = std::max(setting.num_train_examples, setting.num_test_examples);
  require(longer <= most / columns, recipe.name,
          longer == setting.num_train_examples ? "num_train_examples" : "num_test_examples", longer,
          {"small enough for an array in memory at ", columns, " columns"});
}

inline Examples make_examples(Maker& maker, Streams& streams, Mode mode, std::int64_t rows, std::int64_t columns) {
  Examples examples;
  examples.rows = static_cast<Index>(rows);
  examples.columns = static_cast<Index>(columns);
  const auto size = static_cast<std::size_t>(rows * columns);
  examples.inputs.assign(size, 0);
  examples.targets.assign(size, ignore);
  const auto width = static_cast<std::size_t>(columns);
  for (std::size_t begin = 0; begin < size; begin += width) {
    maker.make(streams, mode,
               {std::span(examples.inputs).subspan(begin, width), std::span(examples.targets).subspan(begin, width)});
  }
  return examples;
}

inline Dataset generate(const Setting& setting, const Recipe& recipe) {
  validate(setting, recipe);
  const std::int64_t columns = recipe.row_length(setting);
  try {
    const std::unique_ptr<Maker> maker = recipe.maker(setting);
    Streams streams(setting.seed);
    Dataset data;
    data.train = make_examples(*maker, streams, Mode::train, setting.num_train_examples, columns);
    data.test = make_examples(*maker, streams, Mode::test, setting.num_test_examples, columns);
    return data;
  } catch (const std::bad_alloc&) {
    throw Error(message({recipe.name, ": not enough memory for ", setting.num_train_examples, " and ",
                         setting.num_test_examples, " examples of ", columns, " columns at vocab_size ",
                         setting.vocab_size, ". Make the setting smaller."}));
  }
}

}  // namespace detail

/// Throws unless data can be made from the setting: the task's own preconditions, the counts and the seed.
/// The type says which task it is; `setting.task` is not read.
/// \throws UsageError
template <TaskType T>
void validate(const Setting& setting) {
  detail::validate(setting, detail::recipe<T>);
}

/// Generates a dataset: training examples first, then, from the same streams, the test examples. The test half so
/// depends on the number of training examples, and neither half can be made without the other.
/// Equal settings give equal data, on every machine; they are those of the reference, bit for bit.
/// \throws UsageError before any work if the setting is impossible; Error if memory does not suffice.
template <TaskType T>
Dataset generate(const Setting& setting) {
  return detail::generate(setting, detail::recipe<T>);
}

/// How far the test examples of a dataset are known from training.
struct Leakage {
  Index test_rows = 0;             ///< all test examples
  Index leaked_rows = 0;           ///< those whose inputs are also the inputs of a training example
  Index distinct_test_rows = 0;    ///< test examples with different inputs
  Index distinct_leaked_rows = 0;  ///< those of them that occur in training

  /// The reference's measure, over distinct rows.
  double share() const {
    return distinct_test_rows == 0
               ? 0.0
               : static_cast<double>(distinct_leaked_rows) / static_cast<double>(distinct_test_rows);
  }
  /// Whether the reference would warn: more than one in a thousand.
  bool is_noteworthy() const { return share() > 0.001; }
};

/// Looks for test inputs that are training inputs as well. Rows of different length never match.
template <class Token>
Leakage leakage(const BasicExamples<Token>& train, const BasicExamples<Token>& test) {
  const auto bytes = [](std::span<const Token> row) {
    return std::string_view(reinterpret_cast<const char*>(row.data()), row.size_bytes());
  };
  std::vector<std::string_view> known(static_cast<std::size_t>(train.rows));
  for (Index row = 0; row < train.rows; ++row) known[static_cast<std::size_t>(row)] = bytes(train.input_row(row));
  std::sort(known.begin(), known.end());

  std::vector<std::string_view> asked(static_cast<std::size_t>(test.rows));
  for (Index row = 0; row < test.rows; ++row) asked[static_cast<std::size_t>(row)] = bytes(test.input_row(row));
  std::sort(asked.begin(), asked.end());

  Leakage found{.test_rows = test.rows};
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const bool leaked = std::binary_search(known.begin(), known.end(), asked[i]);
    const bool first = i == 0 || asked[i] != asked[i - 1];
    found.leaked_rows += leaked ? 1 : 0;
    found.distinct_test_rows += first ? 1 : 0;
    found.distinct_leaked_rows += first && leaked ? 1 : 0;
  }
  return found;
}

/// Number of test examples whose inputs are also the inputs of a training example.
template <class Token>
Index leaked_rows(const BasicExamples<Token>& train, const BasicExamples<Token>& test) {
  return leakage(train, test).leaked_rows;
}

}  // namespace mad::tasks
