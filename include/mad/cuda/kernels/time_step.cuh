// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The time step of a selective scan on the device: softplus of a linear map. It is computed here, where rows are
/// written and nothing else is done, and not in the scan and again in its gradient, which are bound by their
/// instructions.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/gates.cuh>
#include <mad/cuda/kernels/linear.cuh>
#include <mad/cuda/kernels/row_grid.cuh>
#include <mad/ops/time_step.hpp>

#include <cstddef>

namespace mad::cuda {

namespace time_step_detail {

struct Softplus {
  static __device__ float apply(float x) { return Gates<BFloat16>::softplus(x); }
};

/// y = softplus(y); y (rows, V chunks), V numbers at a time.
template <int V, class T>
__global__ void __launch_bounds__(RowGrid::threads)
    softplus_rows(T* y, std::size_t stride, unsigned chunks, unsigned rows) {
  const unsigned chunk = RowGrid::chunk();
  if (RowGrid::row() >= rows || chunk >= chunks) return;
  T* const at = y + (RowGrid::row() * stride + V * chunk);
  float x[V];
  load(at, x);
#pragma unroll
  for (float& number : x) number = Gates<T>::softplus(number);
  store(at, x);
}

}  // namespace time_step_detail

/// Never put off, as no map of few inputs is: what reads the time steps comes next. It may follow the product that
/// gives its inputs, in one kernel.
template <>
struct Kernel<&ops::time_step_op> {
  template <class C>
  static constexpr bool follows() {
    return linear_detail::may_be_put_off<C>() && C::template is_parameter<2>() &&
           C::operand(0).width <= most_columns_between;
  }
  template <class C>
  static bool follow(const C& call) {
    const GroupedProduct p = linear_detail::product_of(call, C::operand(0).width, C::node.width, false,
                                                       call.template factor<2>(), View<const BFloat16>{});
    return mad::cuda::follow<time_step_detail::Softplus>(call.queue(), call.rows(), p);
  }
  template <class C>
  static void run(const C& call) {
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const T* weight = linear_detail::in_type<1, T>(call);
    const U* bias = linear_detail::in_type<2, U>(call);
    if constexpr (few_inputs::takes<C>()) {
      // As for `linear_op`: rows of eight numbers of the bias are read at once, pairs of the weight.
      if (product_detail::alignment_of(bias) >= 16 && product_detail::alignment_of(weight) >= 4)
        return few_inputs::run<time_step_detail::Softplus>(call, weight, bias);
    }
    const View<U> y = call.out();
    constexpr int width = C::node.width;
    linear_forward<T, U>(call.queue(), call.rows(), C::operand(0).width, width, call.template in<0>(), weight, bias,
                         View<const U>{}, y, false);
    constexpr int chunk = common_chunk<width, C::template out_chunk<0>()>();
    const RowGrid grid(call.rows(), width / chunk);
    call.queue().launch("softplus of a time step", time_step_detail::softplus_rows<chunk, U>, grid.blocks, grid.block,
                        0, y.data, y.stride, width / chunk, call.rows());
  }
};

}  // namespace mad::cuda
