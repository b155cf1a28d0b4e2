// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Weights of a mixture of experts: softmax of the scores that survive a threshold.
#pragma once

#include <mad/cuda/kernels/softmax.cuh>
#include <mad/ops/expert_weights.hpp>

namespace mad::cuda {

namespace expert_weights_detail {

/// Which of the lane's scores are kept: those with fewer than `active` larger ones in the row, which is to say a score
/// of at least the `active`-th largest. G spreads a row over lanes.
template <class G>
__device__ inline void find_kept(const float (&score)[G::per_lane], int active, bool (&kept)[G::per_lane]) {
  int larger[G::per_lane]{};
#pragma unroll 1
  for (int lane = 0; lane < G::lanes; ++lane) {
#pragma unroll
    for (int f = 0; f < G::per_lane; ++f) {
      const float other = __shfl_sync(0xffffffffu, score[f], lane, G::lanes);
#pragma unroll
      for (int i = 0; i < G::per_lane; ++i) larger[i] += other > score[i] ? 1 : 0;
    }
  }
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i) kept[i] = larger[i] < active;
}

/// p = softmax of the kept scores; the others count as `dropped`: 0, or minus infinity, which is not at all.
template <class G, class T, class U>
__global__ void __launch_bounds__(G::block) forward(const T* scores, std::size_t s_stride, U* p, std::size_t p_stride,
                                                    int active, float dropped, unsigned rows) {
  const unsigned row = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const bool here = row < rows;  // all lanes take part in the exchange
  float value[G::per_lane];
  softmax_detail::load_scores<G>(scores + (here ? row : 0) * s_stride, value);
  bool kept[G::per_lane];
  find_kept<G>(value, active, kept);
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i)
    // Places behind the last expert hold minus infinity and stay so.
    if (!kept[i] && value[i] != -INFINITY) value[i] = dropped;
  softmax_detail::normalise<G>(value);
  if (here) G::store_group(p + row * p_stride, value);
}

/// ds = p (dp - sum of dp p) for kept experts, 0 for the others; ds may be the memory of dp.
template <class G, class T, class U, class V, class W>
__global__ void __launch_bounds__(G::block)
    backward(const T* dp, std::size_t dp_stride, const U* p, std::size_t p_stride, const V* scores,
             std::size_t s_stride, W* ds, std::size_t ds_stride, int active, unsigned rows) {
  const unsigned row = blockIdx.x * G::groups_per_block + threadIdx.x / G::lanes;
  const bool here = row < rows;
  const std::size_t at = here ? row : 0;
  float gradient[G::per_lane];
  float weight[G::per_lane];
  float score[G::per_lane];
  G::load_group(dp + at * dp_stride, gradient);
  G::load_group(p + at * p_stride, weight);
  softmax_detail::load_scores<G>(scores + at * s_stride, score);
  bool kept[G::per_lane];
  find_kept<G>(score, active, kept);
  softmax_detail::change<G>(gradient, weight);
#pragma unroll
  for (int i = 0; i < G::per_lane; ++i)
    if (!kept[i]) gradient[i] = 0;
  if (here) G::store_group(ds + row * ds_stride, gradient);
}

}  // namespace expert_weights_detail

template <>
struct Kernel<&ops::expert_weights_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::expert_weights;
    constexpr auto routing = static_cast<Routing>(C::node.attribute[a::routing]);
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    using G = NormGroup<C::node.width, std::min(C::template in_chunk<0>(), C::template out_chunk<0>())>;
    const auto scores = call.template in<0>();
    const auto p = call.out();
    call.queue().launch("the weights of experts", expert_weights_detail::forward<G, T, U>,
                        softmax_detail::blocks<G>(call.rows()), dim3(G::block), 0, scores.data, scores.stride, p.data,
                        p.stride, C::node.attribute[a::active],
                        routing == Routing::published ? 0.0f : -std::numeric_limits<float>::infinity(), call.rows());
  }
};

template <>
struct Kernel<&ops::expert_weights_gradient_op> {
  template <class C>
  static void run(const C& call) {
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    using V = typename C::template In<2>;
    using W = typename C::template Out<0>;
    using G = NormGroup<C::node.width, std::min({C::template in_chunk<0>(), C::template in_chunk<1>(),
                                                 C::template in_chunk<2>(), C::template out_chunk<0>()})>;
    const auto dp = call.template in<0>();
    const auto p = call.template in<1>();
    const auto scores = call.template in<2>();
    const auto ds = call.out();
    call.queue().launch("the gradient of experts' weights", expert_weights_detail::backward<G, T, U, V, W>,
                        softmax_detail::blocks<G>(call.rows()), dim3(G::block), 0, dp.data, dp.stride, p.data, p.stride,
                        scores.data, scores.stride, ds.data, ds.stride, C::node.attribute[ops::expert_weights::active],
                        call.rows());
  }
};

}  // namespace mad::cuda
