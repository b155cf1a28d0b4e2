// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Refusing a setting that cannot be generated, in words: which field, what was found, what is allowed.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/tasks/setting.hpp>

#include <initializer_list>
#include <string_view>

namespace mad::tasks {

/// Throws unless `fulfilled`: "TASK: FIELD is FOUND, must be ALLOWED".
/// \param allowed what the field must be, in words and numbers, with the advice if there is one.
/// \throws UsageError
[[gnu::cold]] inline void require(bool fulfilled, std::string_view task, std::string_view field, MessagePart found,
                                  std::initializer_list<MessagePart> allowed) {
  if (fulfilled) return;
  throw UsageError(message({task, ": ", field, " is ", found, ", must be ", message(allowed), "."}));
}
[[gnu::cold]] inline void require(bool fulfilled, std::string_view task, std::string_view field, MessagePart found,
                                  std::string_view allowed) {
  require(fulfilled, task, field, found, std::initializer_list<MessagePart>{allowed});
}

/// What every task needs: counts of at least 1 and a seed that the legacy stream accepts.
/// \throws UsageError
[[gnu::cold]] inline void require_counts(const Setting& setting, std::string_view task) {
  require(setting.num_train_examples >= 1, task, "num_train_examples", setting.num_train_examples, "at least 1");
  require(setting.num_test_examples >= 1, task, "num_test_examples", setting.num_test_examples, "at least 1");
  require(setting.seed <= 0xffffffffu, task, "seed", setting.seed, "0 .. 4294967295 (2^32 - 1)");
}

/// What every task with noise needs: ids to draw noise from whenever there is noise.
/// \throws UsageError
[[gnu::cold]] inline void require_noise_ids(const Setting& setting, std::string_view task) {
  require(setting.noise_vocab_size >= 0, task, "noise_vocab_size", setting.noise_vocab_size, "at least 0");
  require(setting.noise_vocab_size > 0 || !(setting.frac_noise > 0), task, "noise_vocab_size", setting.noise_vocab_size,
          {"at least 1 when frac_noise is above 0 (it is ", setting.frac_noise, ")"});
}

}  // namespace mad::tasks
