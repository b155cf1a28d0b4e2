// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The linear recurrence with a matrix state, its gradients, and one step of it.
#pragma once

#include <mad/cpu/kernels/linear_recurrence/backward.hpp>

#include <cmath>

namespace mad::cpu {

/// The form that is taken at these sizes, for the output, or for gradients with or without that of the log decay.
///
/// A step costs two multiply-adds per element of the state and one multiplication where there is a decay; the latter is
/// what chunks save, at the price of work on pairs of tokens that grows with dk + dv. Measured on one core with
/// AVX-512, float, 4 x 128 tokens, decays per channel and token; ns per token, stepwise and chunked:
///
///                   16x16, 8 heads   32x64, 2 heads   64x64, 2 heads   128x128, 1 head
///     output           149   284        270   287        554   584        956    837
///     gradients        639   973       1083   969       2585  2257       4576   3076
///
/// Without the gradient of the log decay (one decay per head) gradients take 373 and 958 at 16x16, 2837 and 2586 at
/// 128x128. With it chunks save more: the states that are recorded are those of chunks instead of tokens. Chunks of 32
/// or 64 tokens by `matrix_product` were judged by the time of their products alone: a sweep reaches nearly
/// the same floating-point rate, and has no products inside chunks of that size to do.
constexpr RecurrenceForm recurrence_form(const RecurrenceSizes& z, bool decay_gradient) {
  const Index smallest = decay_gradient ? 2048 : 8192;
  return z.decay != RecurrenceDecay::none && z.key_width * z.value_width >= smallest ? RecurrenceForm::chunked
                                                                                     : RecurrenceForm::stepwise;
}

/// `S_t = diag(exp(a_t)) S_{t-1} + k_t^T v_t`, `o_t = scale q_t S_t` per head; with a bonus u `o_t = scale q_t (S_{t-1}
/// + diag(u) k_t^T v_t)`. `Kind` is a RecurrenceKind. `output` (tokens, H dv), with the normaliser (tokens, H dv + H),
/// and `final_state` (batch, H, dk, state columns; null if not wanted) are overwritten.
template <class Kind, class T>
void linear_recurrence_forward(const Shape& shape, const RecurrenceSizes& sizes, const RecurrenceOperands<T>& in,
                               View<T> output, Workspace& workspace, T* final_state = nullptr) {
  recurrence_detail::forward<Kind>(shape, sizes, in, output, workspace, final_state);
}

/// Gradients of `linear_recurrence_forward`; the states are computed again.
template <class Kind, class T>
void linear_recurrence_backward(const Shape& shape, const RecurrenceSizes& sizes, const RecurrenceOperands<T>& in,
                                View<const T> d_output, const RecurrenceGradients<T>& out, Workspace& workspace) {
  recurrence_detail::check<Kind>(sizes, in);
  Workspace::Frame frame(workspace);
  recurrence_detail::Backward<Kind, T> backward(shape, sizes, in, d_output, out, frame);
  for (Index b = 0; b < shape.batch; ++b) backward.sequence(b);
}

/// One token of `batch` sequences: row b of the operands is the token of sequence b; `state` (batch, H, dk, state
/// columns) is read and replaced. `in.initial_state` is not looked at.
template <class T>
void linear_recurrence_step(Index batch, const RecurrenceSizes& sizes, const RecurrenceOperands<T>& in, View<T> output,
                            T* state) {
  const Index dk = sizes.key_width, dv = sizes.value_width, columns = sizes.state_columns();
  const T scale = static_cast<T>(sizes.scale);
  for (Index b = 0; b < batch; ++b) {
    for (Index h = 0; h < sizes.heads; ++h, state += dk * columns) {
      const Index group = sizes.group_of(h) * dk;
      const T* query = in.query.row(b) + group;
      const T* key = in.key.row(b) + group;
      const T* value = in.value.row(b) + h * dv;
      const T* log_decay = nullptr;
      if (sizes.decay != RecurrenceDecay::none)
        log_decay = in.log_decay.row(sizes.decay_per_token ? b : 0) + recurrence_detail::decay_column(sizes, h);
      T* out = output.row(b) + h * dv;
      T* normaliser = sizes.normaliser ? output.row(b) + sizes.heads * dv + h : nullptr;
      std::fill_n(out, dv, T(0));
      if (normaliser != nullptr) *normaliser = 0;
      for (Index i = 0; i < dk; ++i) {
        const T q = scale * query[i], k = key[i];
        const T w = log_decay == nullptr ? T(1) : std::exp(log_decay[sizes.decay == RecurrenceDecay::head ? 0 : i]);
        const T own = in.bonus == nullptr ? T(0) : in.bonus[h * dk + i] * k;
        T* s = state + i * columns;
        for_packets<T>(dv, [&](auto access, Index j) MAD_ALWAYS_INLINE {
          using Eigen::internal::pmadd;
          using Eigen::internal::pmul;
          const auto v = access.load(value + j), before = access.load(s + j);
          const auto after = pmadd(access.all(k), v, pmul(access.all(w), before));
          const auto read = in.bonus == nullptr ? after : pmadd(access.all(own), v, before);
          access.store(s + j, after);
          access.store(out + j, pmadd(access.all(q), read, access.load(out + j)));
        });
        if (normaliser == nullptr) continue;
        s[dv] += k;
        *normaliser += q * s[dv];
      }
    }
  }
}

}  // namespace mad::cpu
