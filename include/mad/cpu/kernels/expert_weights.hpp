// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Weights of a mixture of experts: softmax of the scores that survive a threshold.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/kernels/softmax.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <limits>

namespace mad::cpu {

namespace expert_weights_detail {

/// All bits set for the experts of the packet at \p i that are kept: those with fewer than \p active larger scores,
/// which is to say a score of at least the \p active-th largest.
template <Index Experts, class T, class Access>
MAD_ALWAYS_INLINE inline auto kept(Access at, const T* scores, Index i, Index active) {
  using namespace Eigen::internal;
  const auto own = at.load(scores + i);
  auto larger = at.all(T(0));
  for (Index f = 0; f < Experts; ++f) larger = padd(larger, pand(pcmp_lt(own, at.all(scores[f])), at.all(T(1))));
  return pcmp_lt(larger, at.all(static_cast<T>(active)));
}

}  // namespace expert_weights_detail

/// p = softmax of the scores of the kept experts, the \p active best and their equals; the others count as a score of 0
/// if \p dropped_count_as_zero, else not at all. Both (rows, Experts), in different memory.
template <Index Experts, class T>
void expert_weights_forward(Index rows, Index active, bool dropped_count_as_zero, View<const T> scores, View<T> p) {
  using namespace Eigen::internal;
  using expert_weights_detail::kept;
  constexpr T none = -std::numeric_limits<T>::infinity();
  const T dropped = dropped_count_as_zero ? T(0) : none;
  for (Index r = 0; r < rows; ++r) {
    const T* s = scores.row(r);
    T* to = p.row(r);
    for_packets<T>(Experts, [&](auto at, Index i) MAD_ALWAYS_INLINE {
      at.store(to + i, pselect(kept<Experts>(at, s, i, active), at.load(s + i), at.all(dropped)));
    });
    const T largest = largest_element(to, Experts);
    const T sum = sum_packets<T>(Experts, [&](auto at, Index i) MAD_ALWAYS_INLINE {
      const auto score = at.load(to + i);
      const auto e = packet_exp(psub(score, at.all(largest)));
      const auto weight = pselect(pcmp_eq(score, at.all(none)), at.all(T(0)), e);
      at.store(to + i, weight);
      return weight;
    });
    const T scale = T(1) / sum;
    for_packets<T>(Experts,
                   [&](auto at, Index i) MAD_ALWAYS_INLINE { at.store(to + i, pmul(at.load(to + i), at.all(scale))); });
  }
}

/// d_scores = p (d_p - sum of d_p p) for the kept experts, 0 for the others; all (rows, Experts), d_scores may be the
/// memory of d_p.
template <Index Experts, class T>
void expert_weights_backward(Index rows, Index active, View<const T> d_p, View<const T> p, View<const T> scores,
                             View<T> d_scores) {
  using namespace Eigen::internal;
  using expert_weights_detail::kept;
  for (Index r = 0; r < rows; ++r) {
    const T *gradient = d_p.row(r), *weight = p.row(r), *s = scores.row(r);
    T* to = d_scores.row(r);
    const T mean = sum_packets<T>(
        Experts, [&](auto at, Index i) MAD_ALWAYS_INLINE { return pmul(at.load(gradient + i), at.load(weight + i)); });
    for_packets<T>(Experts, [&](auto at, Index i) MAD_ALWAYS_INLINE {
      const auto change = pmul(at.load(weight + i), psub(at.load(gradient + i), at.all(mean)));
      at.store(to + i, pselect(kept<Experts>(at, s, i, active), change, at.all(T(0))));
    });
  }
}

}  // namespace mad::cpu
