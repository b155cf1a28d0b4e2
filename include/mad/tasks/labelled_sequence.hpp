// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A sequence under construction for a next-token task: each token with what a test would ask at it.
#pragma once

#include <mad/tasks/task.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mad::tasks {

/// Tokens with their labels, written out as next-token prediction: the inputs are all tokens but the last; the
/// targets all but the first, of the *tokens* in training mode and of the *labels* in test mode.
class LabelledSequence {
public:
  void clear() {
    tokens_.clear();
    labels_.clear();
  }

  void add(std::int64_t token, std::int64_t label = ignore) {
    tokens_.push_back(token);
    labels_.push_back(label);
  }

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }

  /// Writes the sequence to the end of a row, behind as many `pad` as it takes. The sequence must have at least one
  /// token and at most one more than the row.
  void write(Mode mode, std::int64_t pad, Example row) const {
    const std::vector<std::int64_t>& answers = mode == Mode::train ? tokens_ : labels_;
    const std::int64_t pad_answer = mode == Mode::train ? pad : ignore;
    const std::size_t missing = row.inputs.size() + 1 - tokens_.size();
    const auto gap = static_cast<std::ptrdiff_t>(missing);
    std::fill_n(row.inputs.begin(), gap, pad);
    std::copy(tokens_.begin(), tokens_.end() - 1, row.inputs.begin() + gap);
    if (missing == 0) {
      std::copy(answers.begin() + 1, answers.end(), row.targets.begin());
    } else {
      std::fill_n(row.targets.begin(), gap - 1, pad_answer);
      std::copy(answers.begin(), answers.end(), row.targets.begin() + gap - 1);
    }
  }

private:
  std::vector<std::int64_t> tokens_;
  std::vector<std::int64_t> labels_;
};

}  // namespace mad::tasks
