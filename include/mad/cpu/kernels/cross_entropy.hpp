// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Cross entropy of logits against target ids, its gradient, and the predicted ids.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace mad::cpu {

/// A target that does not count: no loss, no gradient.
inline constexpr int ignored_target = -100;

/// The loss over all rows that count: mean = sum / count.
struct CrossEntropySum {
  double sum = 0;   ///< of the negative log-likelihoods, in nats
  Index count = 0;  ///< rows whose target is not ignored
};

/// What cross_entropy writes beside its sum; null means not wanted.
template <class T>
struct CrossEntropyOutputs {
  View<T> d_logits = {};                 ///< (rows, vocabulary), overwritten; may be the memory of the logits
  double factor = 1.0;                   ///< d_logits is the gradient of factor * sum; 1 / count for the mean
  T* negative_log_likelihood = nullptr;  ///< (rows); 0 where ignored
  int* prediction = nullptr;             ///< (rows); the first of the largest logits, in ignored rows too
};

namespace cross_entropy_detail {

// The largest of a row, and where it occurs first. Blocks, because a maximum is cheap and its place is not.
template <class T>
struct Largest {
  explicit Largest(const T* row, Index width) : value(row[0]) {
    constexpr Index block = 64;
    Index begin = 0;
    for (Index c = 0; c < width; c += block) {
      const T here = largest_element(row + c, std::min(block, width - c));
      if (here > value) {
        value = here;
        begin = c;
      }
    }
    place = begin;
    for (Index c = begin; c < std::min(begin + block, width); ++c) {
      if (row[c] == value) {
        place = c;
        break;
      }
    }
  }
  T value;
  Index place = 0;
};

}  // namespace cross_entropy_detail

/// Sum of -log softmax(logits)[target] over the rows whose target is not ignored. logits: (rows, vocabulary); targets:
/// (rows), ids from 0 to vocabulary - 1 or `ignored_target`; anything else is an Error, found before anything is
/// written. Sums over rows are in double; within a row in T.
template <class T>
CrossEntropySum cross_entropy(View<const T> logits, const int* targets, Index rows, Index vocabulary,
                              const CrossEntropyOutputs<T>& outputs = {}) {
  for (Index r = 0; r < rows; ++r) {
    if (targets[r] != ignored_target && (targets[r] < 0 || targets[r] >= vocabulary)) {
      throw Error(message({"cross entropy: the target of row ", r, " is ", targets[r], "; expected an id from 0 to ",
                           vocabulary - 1, ", or ", ignored_target,
                           " for a row that does not count. Check that the data were made for this vocabulary size."}));
    }
  }
  using namespace Eigen::internal;
  CrossEntropySum result;
  for (Index r = 0; r < rows; ++r) {
    const T* row = logits.row(r);
    T* d_row = outputs.d_logits.data ? outputs.d_logits.row(r) : nullptr;
    const int target = targets[r];
    const bool counts = target != ignored_target;
    T largest = 0;
    if (outputs.prediction) {
      const cross_entropy_detail::Largest<T> found(row, vocabulary);
      outputs.prediction[r] = static_cast<int>(found.place);
      largest = found.value;
    } else if (counts) {
      largest = largest_element(row, vocabulary);
    }
    if (!counts) {
      if (d_row) std::fill_n(d_row, vocabulary, T(0));
      if (outputs.negative_log_likelihood) outputs.negative_log_likelihood[r] = T(0);
      continue;
    }
    const T at_target = row[target];
    const T sum = sum_packets<T>(vocabulary, [&](auto at, Index c) {
      const auto weight = pexp(psub(at.load(row + c), at.all(largest)));
      if (d_row) at.store(d_row + c, weight);
      return weight;
    });
    if (d_row) {
      const T factor = static_cast<T>(outputs.factor / static_cast<double>(sum));
      for_packets<T>(vocabulary,
                     [&](auto at, Index c) { at.store(d_row + c, pmul(at.load(d_row + c), at.all(factor))); });
      d_row[target] -= static_cast<T>(outputs.factor);
    }
    const double loss =
        std::log(static_cast<double>(sum)) + (static_cast<double>(largest) - static_cast<double>(at_target));
    result.sum += loss;
    ++result.count;
    if (outputs.negative_log_likelihood) outputs.negative_log_likelihood[r] = static_cast<T>(loss);
  }
  return result;
}

}  // namespace mad::cpu
