// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective state-space recurrence of Mamba and its gradients on the device.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/selective_scan/forward.cuh>
#include <mad/cuda/kernels/selective_scan/gradient.cuh>
#include <mad/ops/selective_scan.hpp>

namespace mad::cuda {

namespace scan_detail {

template <class T>
TokenRows<T> rows(View<T> view) {
  return {view.data, static_cast<unsigned>(view.stride)};
}

/// A call whose operands u, dt, A, BC, D, z begin with number `First`.
template <int First, class C>
struct Description {
  using T = typename C::template In<First>;
  static constexpr int channels = C::node.width;
  static constexpr int states = C::node.attribute[ops::selective_scan::state_size];
  using G = Group<channels, states>;
  static constexpr int row_chunk = std::min({C::template in_chunk<First>(), C::template in_chunk<First + 1>(),
                                             C::template in_chunk<First + 5>(), G::channels});
  static constexpr int map_chunk = common_chunk<2 * states, C::template in_chunk<First + 3>(), 16 / sizeof(T)>();
  /// States that a lane keeps or reads at once, \p chunk being what their rows allow.
  static constexpr int kept_chunk(int chunk) {
    return states % lane_states == 0 && chunk % lane_states == 0 ? lane_states : 1;
  }

  static Operands<T> operands(const C& call) {
    return {.u = rows(call.template in<First>()),
            .dt = rows(call.template in<First + 1>()),
            .gate = rows(call.template in<First + 5>()),
            .bc = rows(call.template in<First + 3>()),
            .a = call.template in<First + 2>().data,
            .skip = call.template in<First + 4>().data};
  }
};

}  // namespace scan_detail

template <>
struct Kernel<&ops::selective_scan_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = scan_detail;
    using D = d::Description<0, C>;
    using G = typename D::G;
    using T = typename D::T;
    constexpr int chunk = common_chunk<D::channels, D::row_chunk, C::template out_chunk<0>()>();
    constexpr int kept_chunk = D::kept_chunk(C::template out_chunk<1>());
    constexpr std::size_t bytes = sizeof(d::ForwardMemory<G, T>);
    const d::Spread spread = d::Spread::of(call.shape(), G::count, bytes, call.queue());
    call.queue().launch("a selective scan", d::forward<G, chunk, kept_chunk, T>, spread.grid(call.shape()),
                        spread.block(), static_cast<std::size_t>(spread.groups) * bytes, D::operands(call),
                        d::rows(call.template out<0>()), d::rows(call.template out<1>()), call.shape().length);
  }
};

template <>
struct Kernel<&ops::selective_scan_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = scan_detail;
    using D = d::Description<1, C>;
    using G = typename D::G;
    using T = typename D::T;
    constexpr int chunk = common_chunk<D::channels, D::row_chunk, C::template in_chunk<0>()>();
    constexpr int out_chunk = common_chunk<D::channels, G::channels, C::template out_chunk<0>(),
                                           C::template out_chunk<1>(), C::template out_chunk<2>()>();
    constexpr int kept_chunk = D::kept_chunk(C::template in_chunk<7>());
    constexpr int parameters = D::channels * (D::states + 1);
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    constexpr std::size_t bytes = sizeof(d::BackwardMemory<G, T>);
    const d::Spread spread = d::Spread::of(shape, G::count, bytes, queue);
    const d::Gradients<T> gradients{
        .u = d::rows(call.template out<0>()),
        .step = d::rows(call.template out<1>()),
        .gate = d::rows(call.template out<2>()),
        .bc = d::rows(call.template out<3>()),
        .bc_parts = queue.template take<float>(spread.blocks > 1 ? spread.blocks * shape.tokens() * 2 * D::states : 0),
        .parameters = queue.template take_for_aside<float>(shape.batch * parameters)};
    queue.launch("the gradient of a selective scan", d::backward<G, chunk, D::map_chunk, out_chunk, kept_chunk, T>,
                 spread.grid(shape), spread.block(), static_cast<std::size_t>(spread.groups) * bytes, D::operands(call),
                 d::rows(call.template in<0>()), d::rows(call.template in<7>()), gradients, shape.length);
    sums_aside(call, 4).launch("the gradient of a selective scan's parameters", d::add_parameters,
                               blocks(parameters, 32), dim3(32 * d::parameter_slices), 0, gradients.parameters,
                               shape.batch, D::channels * D::states, parameters, call.template out<4>().data,
                               call.template out<5>().data);
    if (spread.blocks > 1)
      queue.launch("the gradient of a selective scan's maps", d::add_maps<D::states, T>,
                   blocks(shape.tokens() * 2 * D::states, 256), dim3(256), 0, gradients.bc_parts, spread.blocks,
                   gradients, shape.tokens());
  }

private:
  static dim3 blocks(Index elements, Index size) { return dim3(static_cast<unsigned>((elements + size - 1) / size)); }
};

}  // namespace mad::cuda
