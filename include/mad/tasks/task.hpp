// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a task is: a struct that checks a setting and fills one example at a time. Yours needs no registration.
#pragma once

#include <mad/random/generator.hpp>
#include <mad/random/legacy_generator.hpp>
#include <mad/tasks/setting.hpp>

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>

namespace mad::tasks {

/// Target of a position that has no label. It never occurs among the inputs.
inline constexpr std::int64_t ignore = -100;

/// Which half of a dataset an example belongs to. Some tasks label, or even draw, the two halves differently.
enum class Mode { train, test };

/// The random streams of a dataset. Training and test examples are drawn from them one after the other, so every
/// draw is part of the data: change one and all later examples change.
struct Streams {
  explicit Streams(std::uint64_t seed) : main(seed), legacy(static_cast<std::uint32_t>(seed)) {}

  random::Generator main;
  random::LegacyGenerator legacy;  ///< numpy's old global stream; only selective copying draws from it
};

/// One row of a dataset, to be filled: both spans have the task's `row_length`. On arrival the inputs are 0 and the
/// targets `ignore`.
struct Example {
  std::span<std::int64_t> inputs;   ///< token ids in [0, vocab_size)
  std::span<std::int64_t> targets;  ///< token ids or `ignore`
};

/// A task. One object makes one dataset: it is constructed from the setting, then `make` is called for each training
/// example and after that for each test example. What all examples share (a table, say) is made in the constructor
/// and drawn from a stream of its own.
///
/// May also have, as static constexpr members or functions:
///   shorthand     short name used in directory names (default: the name)
///   description   one line for lists
///   fields        array of the names of the fields it uses (default: all)
///   baseline()    Setting to start from (default: Setting{})
///   version       number to raise when the data of an unchanged setting change, so that caches notice (default: 1)
///   auto_encoder  true: to be learned through an encoding of the whole input, as compression is (default: false)
template <class T>
concept TaskType = requires(T task, const Setting& setting, Streams& streams, Mode mode, Example example) {
  { T::name } -> std::convertible_to<std::string_view>;
  {T::validate(setting)};  // throws UsageError unless data can be made
  { T::row_length(setting) } -> std::convertible_to<std::int64_t>;
  T(setting);
  {task.make(streams, mode, example)};
};

}  // namespace mad::tasks
