// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective state-space recurrence of Mamba and its gradients on the device.
#pragma once

#include <mad/cuda/chunk.hpp>
#include <mad/cuda/selective_scan_forward.cuh>
#include <mad/cuda/selective_scan_sequences.cuh>
#include <mad/cuda/selective_scan_sequences_gradient.cuh>
#include <mad/ops/selective_scan.hpp>

namespace mad::cuda {

namespace scan_detail {

/// A call whose operands u, dt, A, B, C, D begin with number `First`.
template <int First, class C>
struct Description {
  using T = typename C::template In<First>;
  static constexpr int channels = C::node.width;
  static constexpr int states = C::node.attribute[ops::selective_scan::state_size];
  using G = Group<channels, states>;
  static constexpr int chunk() {
    constexpr int of_inputs =
        common_chunk<channels, G::channels, C::template in_chunk<First>(), C::template in_chunk<First + 1>()>();
    if constexpr (First > 0)
      return common_chunk<channels, of_inputs, C::template in_chunk<0>()>();
    else
      return common_chunk<of_inputs, of_inputs, C::template out_chunk<0>()>();
  }
  static constexpr int gradient_chunk() {
    return common_chunk<channels, G::channels, C::template out_chunk<0>(), C::template out_chunk<1>()>();
  }

  static Operands<T> operands(const C& call) {
    const auto u = call.template in<First>();
    const auto dt = call.template in<First + 1>();
    const auto b = call.template in<First + 3>();
    const auto c = call.template in<First + 4>();
    return {u.data,
            dt.data,
            call.template in<First + 2>().data,
            b.data,
            c.data,
            call.template in<First + 5>().data,
            static_cast<unsigned>(u.stride),
            static_cast<unsigned>(dt.stride),
            static_cast<unsigned>(b.stride),
            static_cast<unsigned>(c.stride)};
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
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const View<T> y = call.out();
    if (d::SequenceBlocks<G>::fill(shape, queue.multiprocessors()))
      queue.launch("a selective scan", d::forward_sequences<G, D::chunk(), T>, d::SequenceBlocks<G>::grid(shape),
                   d::SequenceBlocks<G>::block(), sizeof(d::SequenceForwardMemory<G, T>), D::operands(call), y.data,
                   y.stride, shape.length);
    else
      d::launch_forward<G, true, D::chunk()>(queue, shape, D::operands(call), y, nullptr);
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
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const auto operands = D::operands(call);
    const auto dy = call.template in<0>();
    const auto du = call.template out<0>();
    const auto d_dt = call.template out<1>();
    const auto d_b = call.template out<2>();
    const auto d_c = call.template out<3>();
    using Blocks = d::SequenceBlocks<G>;
    const d::Spread spread = d::Spread::of(shape, G::count, queue.multiprocessors());
    // In one tile a block's warps need no states from elsewhere, and are twice as many.
    const bool by_sequences = spread.tiles > 1 && Blocks::fill(shape, queue.multiprocessors());
    const int blocks_of_channels = by_sequences ? Blocks::blocks : spread.blocks;
    constexpr int parameters = D::channels * (D::states + 1);
    const d::Gradients<T> gradients{
        .u = du.data,
        .dt = d_dt.data,
        .b = d_b.data,
        .c = d_c.data,
        .u_stride = static_cast<unsigned>(du.stride),
        .dt_stride = static_cast<unsigned>(d_dt.stride),
        .b_stride = static_cast<unsigned>(d_b.stride),
        .c_stride = static_cast<unsigned>(d_c.stride),
        .bc = queue.template take<float>(blocks_of_channels > 1 ? blocks_of_channels * shape.tokens() * 2 * D::states
                                                                : 0),
        .parameters = queue.template take_for_aside<float>(shape.batch * parameters)};
    if (by_sequences) {
      const Index segments = (shape.length + d::warp_tokens - 1) / d::warp_tokens;
      float* entries =
          queue.template take<float>(shape.batch * Blocks::blocks * Blocks::warps * segments * d::lane_states * 32);
      queue.launch("the gradient of a selective scan", d::backward_sequences<G, D::chunk(), D::gradient_chunk(), T>,
                   Blocks::grid(shape), Blocks::block(), sizeof(d::SequenceBackwardMemory<G, T>), operands, dy.data,
                   dy.stride, entries, gradients, shape.length);
    } else {
      float* entries = queue.template take<float>(shape.batch * (spread.tiles - 1) * G::count * d::lane_states * 32);
      if (spread.tiles > 1) d::launch_forward<G, false, D::chunk(), T>(queue, shape, operands, {}, entries);
      queue.launch("the gradient of a selective scan", d::backward<G, D::chunk(), D::gradient_chunk(), T>,
                   spread.grid(shape), spread.block(), sizeof(d::BackwardMemory<G, T>), operands, dy.data, dy.stride,
                   entries, gradients, shape.length, spread.share);
    }
    sums_aside(call, 4).launch("the gradient of a selective scan's parameters", d::add_parameters,
                               blocks(parameters, 32), dim3(32 * d::parameter_slices), 0, gradients.parameters,
                               shape.batch, D::channels * D::states, parameters, call.template out<4>().data,
                               call.template out<5>().data);
    if (blocks_of_channels > 1)
      queue.launch("the gradient of a selective scan's projections", d::add_projections<D::states, T>,
                   blocks(shape.tokens() * 2 * D::states, 256), dim3(256), 0, gradients.bc, blocks_of_channels,
                   gradients, shape.tokens());
  }

private:
  static dim3 blocks(Index elements, Index size) { return dim3(static_cast<unsigned>((elements + size - 1) / size)); }
};

}  // namespace mad::cuda
