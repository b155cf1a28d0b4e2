// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products through Eigen, instantiated once per number type.
#pragma once

#include <mad/core/view.hpp>

#include <Eigen/Core>

namespace mad::cpu {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using MatrixMap = Eigen::Map<RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ConstMatrixMap = Eigen::Map<const RowMajor<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

template <class T>
MatrixMap<T> as_matrix(View<T> v, Index rows, Index columns) {
  return {v.data, rows, columns, Eigen::OuterStride<>(v.stride)};
}
template <class T>
ConstMatrixMap<T> as_matrix(View<const T> v, Index rows, Index columns) {
  return {v.data, rows, columns, Eigen::OuterStride<>(v.stride)};
}

/// y = x W^T + b; x (rows, in), W (out, in), b (out) or null, y (rows, out).
template <class T>
[[gnu::noinline]] void linear_forward(Index rows, Index in, Index out, View<const T> x, const T* weight, const T* bias,
                                      View<T> y) {
  auto result = as_matrix(y, rows, out);
  result.noalias() = as_matrix(x, rows, in) * as_matrix(View<const T>{weight, in}, out, in).transpose();
  if (bias != nullptr) result.rowwise() += Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>(bias, out);
}

/// dx = dy W, or dx += dy W; dy (rows, out), W (out, in), dx (rows, in).
template <class T>
[[gnu::noinline]] void linear_input_gradient(Index rows, Index in, Index out, View<const T> dy, const T* weight,
                                             bool add, View<T> dx) {
  auto result = as_matrix(dx, rows, in);
  const auto w = as_matrix(View<const T>{weight, in}, out, in);
  if (add)
    result.noalias() += as_matrix(dy, rows, out) * w;
  else
    result.noalias() = as_matrix(dy, rows, out) * w;
}

/// dW += dy^T x; dy (rows, out), x (rows, in), dW (out, in).
template <class T>
[[gnu::noinline]] void linear_weight_gradient(Index rows, Index in, Index out, View<const T> dy, View<const T> x,
                                              T* d_weight) {
  as_matrix(View<T>{d_weight, in}, out, in).noalias() += as_matrix(dy, rows, out).transpose() * as_matrix(x, rows, in);
}

}  // namespace mad::cpu
