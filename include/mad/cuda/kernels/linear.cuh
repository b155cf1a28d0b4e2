// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear maps and their gradients as matrix products.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/linear_few_inputs.cuh>
#include <mad/cuda/kernels/put_off_products.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/cuda/products/deferred_gradients.cuh>
#include <mad/cuda/products/matrix_product.cuh>
#include <mad/ops/linear.hpp>

#include <utility>

namespace mad::cuda {

namespace linear_detail {

/// Operand K (a weight or a bias, one row) in type T: a parameter comes rounded already, anything else is rounded here.
template <int K, class T, class C>
const T* in_type(const C& call) {
  if constexpr (std::is_same_v<T, float>) {
    return call.template in<K>().data;
  } else if constexpr (C::template is_parameter<K>()) {
    return call.template factor<K>();
  } else {
    constexpr int width = C::operand(K).width;
    constexpr int chunk = sum_detail::common_chunk<C::template in_chunk<K>()>(width);
    T* rounded = call.queue().template take<T>(width);
    sum_detail::copy<chunk>(call.queue(), "rounding a weight", call.template in<K>(), View<T>{rounded, width}, 1,
                            width);
    return rounded;
  }
}

/// A row added to all rows of a matrix.
template <class T>
__global__ void __launch_bounds__(RowGrid::threads)
    add_row(T* y, std::size_t stride, const T* row, unsigned width, unsigned rows) {
  const unsigned column = RowGrid::chunk();
  if (RowGrid::row() >= rows || column >= width) return;
  T& to = y[RowGrid::row() * stride + column];
  to = from_float<T>(to_float(to) + to_float(row[column]));
}

template <class C>
constexpr bool in_out() {
  return C::node.attribute[ops::linear::weight_in_out] != 0;
}

/// True if a product of bfloat16 rows and a parameter may be put off: nothing that it reads lies in the workspace.
template <class C>
constexpr bool may_be_put_off() {
  return std::is_same_v<typename C::template In<0>, BFloat16> &&
         std::is_same_v<typename C::template Out<0>, BFloat16> && C::template is_parameter<1>();
}

/// y = x W + bias + addend of call's first two operands as data. W is stored (inner, columns) with \p in_out, or else
/// (columns, inner).
template <class C>
GroupedProduct product_of(const C& call, int inner, int columns, bool in_out, const BFloat16* bias,
                          View<const BFloat16> addend) {
  const View<const BFloat16> x = call.template in<0>();
  GroupedProduct p;
  GroupedProduct::Term& term = p.term.front();
  term.x = x.data;
  term.x_stride = static_cast<std::size_t>(x.stride);
  term.weight = call.template factor<1>();
  term.inner = inner;
  term.in_out = in_out;
  p.terms = 1;
  p.columns = columns;
  p.y = call.out().data;
  p.y_stride = static_cast<std::size_t>(call.out().stride);
  p.addend = addend.data;
  p.addend_stride = static_cast<std::size_t>(addend.stride);
  p.bias = bias;
  return p;
}

}  // namespace linear_detail

/// y = x W^T + b + addend of weight W (out, in), or with x W of W (in, out); x (rows, in), y (rows, out), b (out) or
/// null; no addend where its data is null.
template <class T, class U>
void linear_forward(Queue& queue, Index rows, Index in, Index out, View<const T> x, const T* weight, const U* bias,
                    View<const U> addend, View<U> y, bool in_out) {
  // The product adds a row only where it begins at a multiple of 16 bytes.
  const bool fused = product_detail::alignment_of(bias) >= 16;
  matrix_product<T, U>(queue, rows, out, in, {x.data, x.stride}, {weight, in_out ? out : in, !in_out}, y.data, y.stride,
                       {.addend = addend.data, .stride = addend.stride, .bias = fused ? bias : nullptr});
  if (bias != nullptr && !fused) {
    const RowGrid grid(rows, out);
    queue.launch("adding a bias", linear_detail::add_row<U>, grid.blocks, grid.block, 0, y.data, y.stride, bias, out,
                 rows);
  }
}

/// dx = dy W + addend (none where its data is null; may be dx); dy (rows, out), dx (rows, in).
template <class T, class U>
void linear_input_gradient(Queue& queue, Index rows, Index in, Index out, View<const T> dy, const T* weight,
                           View<const U> addend, View<U> dx, bool in_out) {
  matrix_product<T, U>(queue, rows, in, out, {dy.data, dy.stride}, {weight, in_out ? out : in, in_out}, dx.data,
                       dx.stride, {.addend = addend.data, .stride = addend.stride});
}

/// dW += dy^T x, or x^T dy of a weight stored (in, out); dy (rows, out), x (rows, in). May be deferred; small ones in
/// float only to the parameter's own gradient (\p to_parameter), since these occur where plans read what they computed.
template <class T>
void linear_weight_gradient(Queue& queue, Index rows, Index in, Index out, View<const T> dy, View<const T> x,
                            float* d_weight, bool in_out, bool to_parameter) {
  WeightGradientOf<T> g{.dy = dy.data,
                        .dy_stride = static_cast<std::size_t>(dy.stride),
                        .x = x.data,
                        .x_stride = static_cast<std::size_t>(x.stride),
                        .out = static_cast<int>(out),
                        .in = static_cast<int>(in),
                        .d_weight = d_weight};
  if (in_out) {
    std::swap(g.dy, g.x);
    std::swap(g.dy_stride, g.x_stride);
    std::swap(g.out, g.in);
  }
  if (defer_product(queue, rows, g, to_parameter)) return;
  if (in_out)
    matrix_product<T, float>(queue, in, out, rows, {x.data, x.stride, true}, {dy.data, dy.stride}, d_weight, out,
                             {.addend = d_weight, .stride = out});
  else
    matrix_product<T, float>(queue, out, in, rows, {dy.data, dy.stride, true}, {x.data, x.stride}, d_weight, in,
                             {.addend = d_weight, .stride = in});
}

template <>
struct Kernel<&ops::linear_op> {
  template <class C>
  static constexpr bool puts_off() {
    return puts_off<C::node.operands, C>();
  }
  template <int Operands, class C>
  static constexpr bool puts_off() {
    return is_product<Operands, C>() && !is_by_rows<Operands, C>();
  }
  template <class C>
  static constexpr bool follows() {
    return follows<C::node.operands, C>();
  }
  template <int Operands, class C>
  static constexpr bool follows() {
    return is_product<Operands, C>() && C::operand(0).width <= most_columns_between;
  }
  template <class C>
  static bool follow(const C& call) {
    return follow_with<C::node.operands>(call, View<const BFloat16>{});
  }
  template <int Operands, class C>
  static bool follow_with(const C& call, View<const BFloat16> addend) {
    return mad::cuda::follow(call.queue(), call.rows(), product<Operands>(call, addend));
  }
  template <class C>
  static void run(const C& call) {
    run_with<C::node.operands>(call, View<const typename C::template Out<0>>{});
  }
  /// True for a map of few inputs without an addend, stored (out, in).
  template <int Operands, class C>
  static constexpr bool is_by_rows() {
    return few_inputs::takes<C>() && C::node.operands == Operands && !linear_detail::in_out<C>();
  }
  /// The map of the first `Operands` operands.
  template <int Operands, class C>
  static void run_with(const C& call, View<const typename C::template Out<0>> addend) {
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const U* bias = nullptr;
    if constexpr (Operands > 2) bias = linear_detail::in_type<2, U>(call);
    if constexpr (is_by_rows<Operands, C>()) {
      // Rows of eight numbers of the bias are read at once, pairs of the weight.
      const T* weight = linear_detail::in_type<1, T>(call);
      if (product_detail::alignment_of(bias) >= 16 && product_detail::alignment_of(weight) >= 4)
        return few_inputs::run(call, weight, bias);
    }
    if constexpr (puts_off<Operands, C>())
      if (put_off(call.queue(), call.rows(), product<Operands>(call, addend))) return;
    linear_forward<T, U>(call.queue(), call.rows(), C::operand(0).width, C::node.width, call.template in<0>(),
                         linear_detail::in_type<1, T>(call), bias, addend, call.out(), linear_detail::in_out<C>());
  }

private:
  /// True for a product of bfloat16 rows and parameters.
  template <int Operands, class C>
  static constexpr bool is_product() {
    bool all = linear_detail::may_be_put_off<C>();
    if constexpr (Operands > 2) all = all && C::template is_parameter<2>();
    return all;
  }
  template <int Operands, class C>
  static GroupedProduct product(const C& call, View<const BFloat16> addend) {
    const BFloat16* bias = nullptr;
    if constexpr (Operands > 2) bias = call.template factor<2>();
    return linear_detail::product_of(call, C::operand(0).width, C::node.width, linear_detail::in_out<C>(), bias,
                                     addend);
  }
};

template <>
struct Kernel<&ops::linear_sum_op> {
  template <class C>
  static constexpr bool puts_off() {
    return Kernel<&ops::linear_op>::puts_off<C::node.operands - 1, C>();
  }
  template <class C>
  static constexpr bool follows() {
    return Kernel<&ops::linear_op>::follows<C::node.operands - 1, C>();
  }
  template <class C>
  static bool follow(const C& call) {
    constexpr int last = C::node.operands - 1;
    return Kernel<&ops::linear_op>::follow_with<last>(call, call.template in<last>());
  }
  template <class C>
  static void run(const C& call) {
    constexpr int last = C::node.operands - 1;
    static_assert(std::is_same_v<typename C::template In<last>, typename C::template Out<0>>);
    Kernel<&ops::linear_op>::run_with<last>(call, call.template in<last>());
  }
};

template <>
struct Kernel<&ops::linear_input_gradient_op> {
  template <class C>
  static constexpr bool puts_off() {
    return linear_detail::may_be_put_off<C>();
  }
  template <class C>
  static constexpr bool follows() {
    return puts_off<C>() && C::operand(0).width <= most_columns_between;
  }
  template <class C>
  static bool follow(const C& call) {
    return mad::cuda::follow(call.queue(), call.rows(), product(call));
  }
  template <class C>
  static void run(const C& call) {
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    if constexpr (puts_off<C>())
      if (put_off(call.queue(), call.rows(), product(call))) return;
    linear_input_gradient<T, U>(call.queue(), call.rows(), C::node.width, C::operand(0).width, call.template in<0>(),
                                linear_detail::in_type<1, T>(call), addend(call), call.out(),
                                linear_detail::in_out<C>());
  }

private:
  template <class C>
  static auto addend(const C& call) {
    using U = typename C::template Out<0>;
    View<const U> rows;
    if constexpr (C::has(2)) {
      static_assert(std::is_same_v<typename C::template In<2>, U>);
      rows = call.template in<2>();
    }
    return rows;
  }
  /// dx = dy W: a weight that is stored (out, in) has its summands in rows.
  template <class C>
  static GroupedProduct product(const C& call) {
    return linear_detail::product_of(call, C::operand(0).width, C::node.width, !linear_detail::in_out<C>(), nullptr,
                                     addend(call));
  }
};

template <>
struct Kernel<&ops::linear_weight_gradient_op> {
  template <class C>
  static void run(const C& call) {
    using T = typename C::template In<0>;
    static_assert(std::is_same_v<T, typename C::template In<1>>);
    linear_weight_gradient<T>(call.queue(), rows_of(C::operand(0).domain, call.shape()), C::operand(1).width,
                              C::operand(0).width, call.template in<0>(), call.template in<1>(), call.out().data,
                              linear_detail::in_out<C>(), call.adds_to_parameter());
  }
};

}  // namespace mad::cuda
