// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The product of two maps shared by heads, and its gradients.
///
/// Both maps are computed as one of twice the outputs, for some rows at a time, so that the factors stay in the
/// processor's cache. Memory holds neither them nor their gradients.
#pragma once

#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/linear_heads.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>

namespace mad::cpu {

/// Weights (out, in) and biases (out) of two maps, or the gradients of these.
template <class T>
struct TwoHeadMaps {
  T* weight1;
  T* bias1;
  T* weight2;
  T* bias2;
};

namespace head_product_detail {

/// The two maps as one: weight [W1; W2], bias [b1; b2].
template <class T>
struct Stacked {
  HeadMapSizes sizes;
  T* weight;
  T* bias;

  Stacked(const HeadMapSizes& single, const TwoHeadMaps<const T>& maps, Workspace::Frame& frame)
      : sizes{single.heads, single.in, 2 * single.out},
        weight(frame.take<T>(sizes.out * sizes.in)),
        bias(frame.take<T>(sizes.out)) {
    const Index count = single.out * single.in;
    std::copy_n(maps.weight1, count, weight);
    std::copy_n(maps.weight2, count, weight + count);
    std::copy_n(maps.bias1, single.out, bias);
    std::copy_n(maps.bias2, single.out, bias + single.out);
  }
};

/// Calls visit(first, count) for all rows, so many at a time that \p width columns of them fill about 64 KiB.
template <class T, class Visit>
void for_blocks(Index rows, Index width, const Visit& visit) {
  const Index most = std::max<Index>(16, 64 * 1024 / static_cast<Index>(sizeof(T)) / width);
  for (Index r = 0; r < rows; r += most) visit(r, std::min(most, rows - r));
}

}  // namespace head_product_detail

/// y_h = (x_h W1^T + b1) * (x_h W2^T + b2) for every head h; x (rows, heads * in), y (rows, heads * Out).
template <Index Out, class T>
void head_product_forward(Index rows, const HeadMapSizes& sizes, View<const T> x, const TwoHeadMaps<const T>& maps,
                          View<T> y, Workspace& workspace) {
  using namespace Eigen::internal;
  using namespace head_product_detail;
  Workspace::Frame frame(workspace);
  const Stacked<T> both(sizes, maps, frame);
  const Index width = sizes.heads * 2 * Out;
  T* factors = nullptr;
  for_blocks<T>(rows, width, [&](Index first, Index count) {
    if (factors == nullptr) factors = frame.take<T>(count * width);  // the first block is the largest
    linear_heads_forward<T>(count, both.sizes, x.rows_from(first), both.weight, both.bias, {factors, width}, workspace);
    for (Index r = 0; r < count; ++r) {
      const T* from = factors + r * width;
      T* to = y.row(first + r);
      for (Index h = 0; h < sizes.heads; ++h, from += 2 * Out, to += Out)
        for_packets<T>(Out, [&](auto at, Index i) MAD_ALWAYS_INLINE {
          at.store(to + i, pmul(at.load(from + i), at.load(from + Out + i)));
        });
    }
  });
}

/// Gradient of `head_product_forward`; dy (rows, heads * Out), x and dx (rows, heads * in). dx is overwritten, the
/// gradients of weights and biases are added to.
template <Index Out, class T>
void head_product_backward(Index rows, const HeadMapSizes& sizes, View<const T> dy, View<const T> x,
                           const TwoHeadMaps<const T>& maps, View<T> dx, const TwoHeadMaps<T>& gradients,
                           Workspace& workspace) {
  using namespace Eigen::internal;
  using namespace head_product_detail;
  Workspace::Frame frame(workspace);
  const Stacked<T> both(sizes, maps, frame);
  const Index width = sizes.heads * 2 * Out;
  const Index weights = Out * sizes.in;
  T* d_weight = frame.take<T>(2 * weights);
  T* d_bias = frame.take<T>(2 * Out);
  std::fill_n(d_weight, 2 * weights, T(0));
  std::fill_n(d_bias, 2 * Out, T(0));
  T* factors = nullptr;
  for_blocks<T>(rows, width, [&](Index first, Index count) {
    if (factors == nullptr) factors = frame.take<T>(count * width);  // the first block is the largest
    const View<const T> input = x.rows_from(first);
    linear_heads_forward<T>(count, both.sizes, input, both.weight, both.bias, {factors, width}, workspace);
    // Some outputs of all heads of all rows, so that their sums stay in registers.
    for_packets<T>(Out, [&](auto at, Index i) MAD_ALWAYS_INLINE {
      auto sum1 = at.load(d_bias + i), sum2 = at.load(d_bias + Out + i);
      for (Index r = 0; r < count; ++r) {
        const T* gradient = dy.row(first + r) + i;
        T* factor = factors + r * width + i;
        for (Index h = 0; h < sizes.heads; ++h, gradient += Out, factor += 2 * Out) {
          const auto g = at.load(gradient);
          const auto d1 = pmul(g, at.load(factor + Out)), d2 = pmul(g, at.load(factor));
          at.store(factor, d1);
          at.store(factor + Out, d2);
          sum1 = padd(sum1, d1);
          sum2 = padd(sum2, d2);
        }
      }
      at.store(d_bias + i, sum1);
      at.store(d_bias + Out + i, sum2);
    });
    linear_heads_weight_gradient<T>(count, both.sizes, {factors, width}, input, d_weight, workspace);
    linear_heads_input_gradient<T>(count, both.sizes, {factors, width}, both.weight, false, dx.rows_from(first),
                                   workspace);
  });
  add_elements(gradients.weight1, d_weight, weights);
  add_elements(gradients.weight2, d_weight + weights, weights);
  add_elements(gradients.bias1, d_bias, Out);
  add_elements(gradients.bias2, d_bias + Out, Out);
}

}  // namespace mad::cpu
