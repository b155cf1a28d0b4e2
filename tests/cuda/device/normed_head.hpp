// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The norm in front of an output head, the head, its loss and all their gradients, in one kernel, by itself.
#pragma once

#include <mad/core/shape.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mad::testing {

/// Numbers of bfloat16 are bits. Results hold what they are to be where nothing writes, and are longer than `rows`
/// rows; those that are empty are not wanted, and without dx there are no sums.
struct NormedHeadCase {
  static constexpr float untouched = -1e30f;  ///< in results of floats
  struct Metrics {
    double loss = untouched;
    double accuracy = untouched;
    double perplexity = untouched;
    double micro_accuracy = untouched;
    int counted = -1;

    bool operator==(const Metrics&) const = default;
  };

  int classes = 0;
  bool centred = false;
  float epsilon = 0;
  Index x_stride = 0;
  Index y_stride = 0;
  Index first_rows = 0;  ///< of a batch that comes in two parts
  std::vector<std::uint16_t> x = {};
  std::vector<float> norm_weight = {};
  std::vector<float> norm_bias = {};       ///< empty without one
  std::vector<std::uint16_t> weight = {};  ///< (classes, 128)
  std::vector<float> bias = {};
  std::vector<int> targets = {};

  std::vector<std::uint16_t> y = {};
  std::vector<float> logits = {};
  std::vector<float> negative_log_likelihood = {};
  std::vector<int> prediction = {};
  std::vector<std::uint16_t> d_logits = {};
  std::vector<std::uint16_t> dx = {};
  std::vector<std::vector<float>> partial = {};  ///< of each part: blocks of 2 x 128 sums, and one block untouched
  std::vector<int> hits = {};                    ///< (3, classes)
  std::vector<Metrics> metrics = {};             ///< of three batches, of which this is the second
  int position = 1;
  int diverged = 0;
};

/// Computes the results.
void normed_head_on_device(NormedHeadCase& c, Index rows);

/// An operand that begins 8 bytes late.
enum class Late { nothing, x, y, weight, dx };
/// True if the kernel takes a norm of rows of such a width and stride with a head.
bool takes_normed_head_on_device(int width, int classes, std::size_t stride, Late late = Late::nothing);

}  // namespace mad::testing
