// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Refusing a setting that cannot be generated, in words: which field, what was found, what is allowed.
#pragma once

#include <mad/core/error.hpp>
#include <mad/tasks/setting.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace mad::tasks {

/// The shortest text that reads back as the same number.
inline std::string to_text(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}
inline std::string to_text(std::int64_t value) { return std::to_string(value); }
inline std::string to_text(std::uint64_t value) { return std::to_string(value); }

/// Throws unless `fulfilled`: "TASK: FIELD is FOUND, must be ALLOWED".
/// \param allowed what the field must be, in words, with the advice if there is one.
/// \throws UsageError
template <class Value>
void require(bool fulfilled, std::string_view task, std::string_view field, Value found, std::string_view allowed) {
  if (fulfilled) return;
  std::string text(task);
  text.append(": ").append(field).append(" is ").append(to_text(found)).append(", must be ").append(allowed);
  throw UsageError(text + ".");
}

/// What every task needs: counts of at least 1 and a seed that the legacy stream accepts.
/// \throws UsageError
inline void require_counts(const Setting& setting, std::string_view task) {
  require(setting.num_train_examples >= 1, task, "num_train_examples", setting.num_train_examples, "at least 1");
  require(setting.num_test_examples >= 1, task, "num_test_examples", setting.num_test_examples, "at least 1");
  require(setting.seed <= 0xffffffffu, task, "seed", setting.seed, "0 .. 4294967295 (2^32 - 1)");
}

/// What every task with noise needs: ids to draw noise from whenever there is noise.
/// \throws UsageError
inline void require_noise_ids(const Setting& setting, std::string_view task) {
  require(setting.noise_vocab_size >= 0, task, "noise_vocab_size", setting.noise_vocab_size, "at least 0");
  require(setting.noise_vocab_size > 0 || !(setting.frac_noise > 0), task, "noise_vocab_size", setting.noise_vocab_size,
          "at least 1 when frac_noise is above 0 (it is " + to_text(setting.frac_noise) + ")");
}

}  // namespace mad::tasks
