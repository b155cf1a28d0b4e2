// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A linear map shared by heads, and its gradients, as matrix products.
///
/// A head is often narrower than a register. Heads are therefore multiplied in groups that fill one, with a matrix that
/// holds the weight once per head of the group on its diagonal and zeros elsewhere; the zeros change no sum.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/matrix_product.hpp>

#include <algorithm>

namespace mad::cpu {

struct HeadMapSizes {
  Index heads = 1;
  Index in = 1;   ///< channels of a head before
  Index out = 1;  ///< and after the map
};

namespace linear_heads_detail {

/// Heads per product: as many as fill a register with \p columns columns each, and a divisor of \p heads.
template <class T>
Index group_size(Index heads, Index columns) {
  for (Index group = 1; group < heads; ++group)
    if (heads % group == 0 && group * columns >= Lanes<T>::size) return group;
  return heads;
}

/// The weight (out, in), \p group times on the diagonal of a matrix (group * out, group * in).
template <class T>
const T* diagonal(Index group, Index out, Index in, const T* weight, Workspace::Frame& frame) {
  if (group == 1) return weight;
  T* blocks = frame.take<T>(group * out * group * in);
  std::fill_n(blocks, group * out * group * in, T(0));
  for (Index k = 0; k < group; ++k)
    for (Index i = 0; i < out; ++i) std::copy_n(weight + i * in, in, blocks + ((k * out + i) * group + k) * in);
  return blocks;
}

/// Calls product(rows, x, y) for all groups of heads: at once where a row of one begins where the row before ends.
template <class X, class Y, class Product>
void for_groups(Index rows, Index groups, X x, Index x_width, Y y, Index y_width, const Product& product) {
  if (x.stride == groups * x_width && y.stride == groups * y_width) {
    x.stride = x_width;
    y.stride = y_width;
    return product(rows * groups, x, y);
  }
  for (Index k = 0; k < groups; ++k) product(rows, x.columns_from(k * x_width), y.columns_from(k * y_width));
}

}  // namespace linear_heads_detail

/// y_h = x_h W^T + b for every head h; x (rows, heads * in), W (out, in), b (out) or null, y (rows, heads * out).
template <class T>
void linear_heads_forward(Index rows, const HeadMapSizes& sizes, View<const T> x, const T* weight, const T* bias,
                          View<T> y, Workspace& workspace) {
  using namespace linear_heads_detail;
  const Index group = group_size<T>(sizes.heads, sizes.out);
  const Index in = group * sizes.in, out = group * sizes.out;
  Workspace::Frame frame(workspace);
  const T* w = diagonal(group, sizes.out, sizes.in, weight, frame);
  const T* b = bias;
  if (bias != nullptr && group > 1) {
    T* repeated = frame.take<T>(out);
    for (Index k = 0; k < group; ++k) std::copy_n(bias, sizes.out, repeated + k * sizes.out);
    b = repeated;
  }
  for_groups(rows, sizes.heads / group, x, in, y, out, [&](Index count, View<const T> from, View<T> to) {
    matrix_product<T>(count, out, in, {from.data, from.stride, 1}, {w, 1, in}, to,
                      b == nullptr ? Start::zero : Start::bias, b, workspace);
  });
}

/// dx_h = dy_h W, or dx_h += dy_h W; dy (rows, heads * out), W (out, in), dx (rows, heads * in).
template <class T>
void linear_heads_input_gradient(Index rows, const HeadMapSizes& sizes, View<const T> dy, const T* weight, bool add,
                                 View<T> dx, Workspace& workspace) {
  using namespace linear_heads_detail;
  const Index group = group_size<T>(sizes.heads, sizes.in);
  const Index in = group * sizes.in, out = group * sizes.out;
  Workspace::Frame frame(workspace);
  const T* w = diagonal(group, sizes.out, sizes.in, weight, frame);
  for_groups(rows, sizes.heads / group, dy, out, dx, in, [&](Index count, View<const T> from, View<T> to) {
    matrix_product<T>(count, in, out, {from.data, from.stride, 1}, {w, in, 1}, to, add ? Start::present : Start::zero,
                      nullptr, workspace);
  });
}

/// dW += sum over heads of dy_h^T x_h; dy (rows, heads * out), x (rows, heads * in), dW (out, in).
template <class T>
void linear_heads_weight_gradient(Index rows, const HeadMapSizes& sizes, View<const T> dy, View<const T> x, T* d_weight,
                                  Workspace& workspace) {
  using namespace linear_heads_detail;
  const Index group = group_size<T>(sizes.heads, sizes.in);
  const Index in = group * sizes.in, out = group * sizes.out;
  Workspace::Frame frame(workspace);
  T* products = frame.take<T>(out * in);  // of every head of a group with every other; the diagonal is wanted
  Start start = Start::zero;
  for_groups(rows, sizes.heads / group, dy, out, x, in, [&](Index count, View<const T> gradient, View<const T> input) {
    matrix_product<T>(out, in, count, {gradient.data, 1, gradient.stride}, {input.data, input.stride, 1},
                      {products, in}, start, nullptr, workspace);
    start = Start::present;
  });
  for (Index k = 0; k < group; ++k)
    for (Index i = 0; i < sizes.out; ++i)
      for (Index j = 0; j < sizes.in; ++j)
        d_weight[i * sizes.in + j] += products[(k * sizes.out + i) * in + k * sizes.in + j];
}

}  // namespace mad::cpu
