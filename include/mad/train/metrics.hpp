// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Loss, perplexity and accuracy of a batch, counted position by position.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/train/epoch_mean.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mad::train {

/// Targets with this value are not counted.
inline constexpr std::int64_t ignored_target = -100;

/// The counts of one batch. Parts of a batch may be counted apart and merged; loss sums are then added in the order of
/// merging.
class BatchTally {
public:
  explicit BatchTally(Index classes)
      : hits_(static_cast<std::size_t>(classes)), predicted_(hits_.size()), expected_(hits_.size()) {}

  Index classes() const { return static_cast<Index>(hits_.size()); }
  Index counted() const { return counted_; }

  /// Counts one position; nothing if the target is ignored. `loss` is the position's negative log-likelihood.
  /// \throws Error if the target is not a class.
  void add(Index prediction, std::int64_t target, double loss) {
    if (target == ignored_target) return;
    check(target);
    ++counted_;
    loss_ += loss;
    ++predicted_[static_cast<std::size_t>(prediction)];
    ++expected_[static_cast<std::size_t>(target)];
    if (prediction == target) ++hits_[static_cast<std::size_t>(target)];
  }

  /// Counts one position from its logits (as many as classes). The prediction is the first of the largest logits.
  /// \throws Error if the target is not a class.
  template <class T>
  void add_logits(const T* logits, std::int64_t target) {
    if (target == ignored_target) return;
    check(target);
    Index prediction = 0;
    for (Index c = 1; c < classes(); ++c)
      if (logits[c] > logits[prediction]) prediction = c;
    const T largest = logits[prediction];
    T sum = 0;
    for (Index c = 0; c < classes(); ++c) sum += std::exp(logits[c] - largest);
    add(prediction, target, std::log(static_cast<double>(sum)) - static_cast<double>(logits[target] - largest));
  }

  /// Adds the counts of another part of the batch.
  void merge(const BatchTally& other) {
    for (std::size_t c = 0; c < hits_.size(); ++c) {
      hits_[c] += other.hits_[c];
      predicted_[c] += other.predicted_[c];
      expected_[c] += other.expected_[c];
    }
    counted_ += other.counted_;
    loss_ += other.loss_;
  }

  /// Forgets everything.
  void clear() { *this = BatchTally(classes()); }

  /// The batch's values. With nothing counted the accuracies are 0; loss and perplexity are not a number, as in the
  /// reference.
  Metrics metrics() const {
    double recall = 0;
    Index hits = 0;
    Index seen = 0;
    for (std::size_t c = 0; c < hits_.size(); ++c) {
      // Classes that occur neither among targets nor among predictions are left out; one that is only predicted
      // counts with recall 0.
      if (expected_[c] + predicted_[c] == 0) continue;
      ++seen;
      hits += hits_[c];
      if (expected_[c] > 0) recall += static_cast<double>(hits_[c]) / static_cast<double>(expected_[c]);
    }
    Metrics result;
    result.loss = loss_ / static_cast<double>(counted_);
    result.perplexity = std::exp(result.loss);
    result.accuracy = seen > 0 ? recall / static_cast<double>(seen) : 0;
    result.micro_accuracy = counted_ > 0 ? static_cast<double>(hits) / static_cast<double>(counted_) : 0;
    return result;
  }

private:
  void check(std::int64_t target) const {
    if (target < 0 || target >= static_cast<std::int64_t>(hits_.size())) {
      throw Error(message({"target ", target, " is not a class: expected 0 to ", hits_.size() - 1, ", or ",
                           ignored_target, " where nothing is expected. Does the model's vocabulary fit the data?"}));
    }
  }

  std::vector<Index> hits_;       ///< tp
  std::vector<Index> predicted_;  ///< tp + fp
  std::vector<Index> expected_;   ///< tp + fn
  Index counted_ = 0;
  double loss_ = 0;
};

}  // namespace mad::train
