// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A linear map and its gradients as matrix products.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/matrix_product.hpp>

namespace mad::cpu {

/// How the weight of a map lies in memory.
enum class WeightOrder { out_in, in_out };

/// y = x W^T + b; x (rows, in), W (out, in), b (out) or null, y (rows, out).
template <class T>
void linear_forward(Index rows, Index in, Index out, View<const T> x, const T* weight, const T* bias, View<T> y,
                    Workspace& workspace, WeightOrder order = WeightOrder::out_in) {
  const Strided<T> w = order == WeightOrder::out_in ? Strided<T>{weight, 1, in} : Strided<T>{weight, out, 1};
  matrix_product<T>(rows, out, in, {x.data, x.stride, 1}, w, y, bias == nullptr ? Start::zero : Start::bias, bias,
                    workspace);
}

/// dx = dy W, or dx += dy W; dy (rows, out), W (out, in), dx (rows, in).
template <class T>
void linear_input_gradient(Index rows, Index in, Index out, View<const T> dy, const T* weight, bool add, View<T> dx,
                           Workspace& workspace, WeightOrder order = WeightOrder::out_in) {
  const Strided<T> w = order == WeightOrder::out_in ? Strided<T>{weight, in, 1} : Strided<T>{weight, 1, out};
  matrix_product<T>(rows, in, out, {dy.data, dy.stride, 1}, w, dx, add ? Start::present : Start::zero, nullptr,
                    workspace);
}

/// dW += dy^T x; dy (rows, out), x (rows, in), dW (out, in).
template <class T>
void linear_weight_gradient(Index rows, Index in, Index out, View<const T> dy, View<const T> x, T* d_weight,
                            Workspace& workspace, WeightOrder order = WeightOrder::out_in) {
  if (order == WeightOrder::in_out)
    return matrix_product<T>(in, out, rows, {x.data, 1, x.stride}, {dy.data, dy.stride, 1}, {d_weight, out},
                             Start::present, nullptr, workspace);
  matrix_product<T>(out, in, rows, {dy.data, 1, dy.stride}, {x.data, x.stride, 1}, {d_weight, in}, Start::present,
                    nullptr, workspace);
}

}  // namespace mad::cpu
