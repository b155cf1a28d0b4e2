// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The weighted mean of the linear maps of experts, and its gradients, as matrix products.
///
/// The weights p_e are taken into the input, sum_e (p_e x) W_e^T, so that the outputs of the single experts, E times as
/// wide as the result, are never formed.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/matrix_product.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>

namespace mad::cpu {

struct ExpertLinearSizes {
  Index experts = 1;
  Index in = 1;
  Index out = 1;
};

namespace expert_linear_detail {

/// Rows of one round: what bounds the scratch memory, and enough to pay for packing the weights.
inline constexpr Index round_rows = 512;

/// scaled = p_e x, row by row; scaled (rows, in), contiguous.
template <class T>
void scale_rows(Index rows, Index in, View<const T> x, View<const T> p, Index expert, T* scaled) {
  using namespace Eigen::internal;
  for (Index r = 0; r < rows; ++r) {
    const T *from = x.row(r), weight = p.row(r)[expert];
    T* to = scaled + r * in;
    for_packets<T>(
        in, [&](auto at, Index j) MAD_ALWAYS_INLINE { at.store(to + j, pmul(at.load(from + j), at.all(weight))); });
  }
}

}  // namespace expert_linear_detail

/// y = sum_e p_e (x W_e^T + b_e); x (rows, in), p (rows, experts), W (out * experts, in) with the expert as the fast
/// index of its rows, b (out * experts) or null, y (rows, out).
template <class T>
void expert_linear_forward(Index rows, const ExpertLinearSizes& sizes, View<const T> x, View<const T> p,
                           const T* weight, const T* bias, View<T> y, Workspace& workspace) {
  using namespace expert_linear_detail;
  const auto [experts, in, out] = sizes;
  Workspace::Frame frame(workspace);
  T* scaled = frame.take<T>(std::min(rows, round_rows) * in);
  for (Index r = 0; r < rows; r += round_rows) {
    const Index some = std::min(round_rows, rows - r);
    if (bias != nullptr)
      matrix_product<T>(some, out, experts, {p.row(r), p.stride, 1}, {bias, 1, experts}, y.rows_from(r), Start::zero,
                        nullptr, workspace);
    for (Index e = 0; e < experts; ++e) {
      scale_rows(some, in, x.rows_from(r), p.rows_from(r), e, scaled);
      matrix_product<T>(some, out, in, {scaled, in, 1}, {weight + e * in, 1, experts * in}, y.rows_from(r),
                        e == 0 && bias == nullptr ? Start::zero : Start::present, nullptr, workspace);
    }
  }
}

/// What `expert_linear_backward` writes.
template <class T>
struct ExpertLinearGradients {
  View<T> x;  ///< (rows, in), overwritten
  View<T> p;  ///< (rows, experts), overwritten
  T* weight;  ///< (out * experts, in), added to
  T* bias;    ///< (out * experts), added to, or null
};

/// Gradients of `expert_linear_forward`, whose operands these are, with d_y (rows, out).
template <class T>
void expert_linear_backward(Index rows, const ExpertLinearSizes& sizes, View<const T> d_y, View<const T> x,
                            View<const T> p, const T* weight, const T* bias, const ExpertLinearGradients<T>& d,
                            Workspace& workspace) {
  using namespace Eigen::internal;
  using namespace expert_linear_detail;
  const auto [experts, in, out] = sizes;
  Workspace::Frame frame(workspace);
  T* scaled = frame.take<T>(std::min(rows, round_rows) * in);
  for (Index first = 0; first < rows; first += round_rows) {
    const Index some = std::min(round_rows, rows - first);
    const View<const T> gradient = d_y.rows_from(first), input = x.rows_from(first), share = p.rows_from(first);
    const View<T> d_x = d.x.rows_from(first), d_p = d.p.rows_from(first);
    if (bias != nullptr) {
      matrix_product<T>(some, experts, out, {gradient.data, gradient.stride, 1}, {bias, experts, 1}, d_p, Start::zero,
                        nullptr, workspace);
      matrix_product<T>(out, experts, some, {gradient.data, 1, gradient.stride}, {share.data, share.stride, 1},
                        {d.bias, experts}, Start::present, nullptr, workspace);
    }
    for (Index e = 0; e < experts; ++e) {
      scale_rows(some, in, input, share, e, scaled);
      matrix_product<T>(out, in, some, {gradient.data, 1, gradient.stride}, {scaled, in, 1},
                        {d.weight + e * in, experts * in}, Start::present, nullptr, workspace);
      T* back = scaled;  // dy W_e
      matrix_product<T>(some, in, out, {gradient.data, gradient.stride, 1}, {weight + e * in, experts * in, 1},
                        {back, in}, Start::zero, nullptr, workspace);
      for (Index r = 0; r < some; ++r) {
        const T *g = back + r * in, *from = input.row(r), amount = share.row(r)[e];
        T* to = d_x.row(r);
        const T product = sum_packets<T>(in, [&](auto at, Index j) MAD_ALWAYS_INLINE {
          const auto part = at.load(g + j);
          const auto so_far = e == 0 ? at.all(T(0)) : at.load(to + j);
          at.store(to + j, pmadd(part, at.all(amount), so_far));
          return pmul(part, at.load(from + j));
        });
        d_p.row(r)[e] = bias == nullptr ? product : d_p.row(r)[e] + product;
      }
    }
  }
}

}  // namespace mad::cpu
