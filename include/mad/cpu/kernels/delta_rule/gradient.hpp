// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Gradients of the delta rule, in chunks.
#pragma once

#include <mad/cpu/kernels/delta_rule/chunk.hpp>

namespace mad::cpu {

/// Where the gradients of a delta rule go; all are overwritten.
template <class T>
struct DeltaRuleGradients {
  View<T> query, key, value, beta;
  View<T> log_decay{};         ///< empty exactly when the operand is
  T* initial_state = nullptr;  ///< (batch, heads, key_width, value_width), or null
};

namespace detail {

/// Works backwards through the chunks of one head. With D = gradient of the output, H = gradient of the state after the
/// chunk and U, S, M, g as in chunk.hpp (Q with the output's scale):
///
///     dU = (I + A diag(beta))^-T ( ((Q K^T) * M)^T D + diag(M_C) K H ),   dV = diag(beta) dU,  dbeta_t = dU_t.e_t
///     P = (D U^T) * M,   R = (dV U^T) * M below the diagonal
///     dQ = diag(g) D S^T + P K
///     dK = diag(M_C) U H^T - diag(g) dV S^T + P^T Q - (R + R^T) K
///     H <- g_C H + (diag(g) Q)^T D - (diag(g) K)^T dV
///
/// A log decay shares in every product of decays that spans it: those of pairs (M_ts, in P and R), from the start
/// (g_t), to the end (M_Cs), and over the whole chunk.
template <class T>
class DeltaRuleGradient {
public:
  static constexpr Index C = chunk_side;
  using L = Lanes<T>;

  DeltaRuleGradient(const DeltaRuleSizes& sizes, const DeltaRuleGradients<T>& out, DeltaRuleChunk<T>& chunk,
                    Workspace::Frame& frame)
      : sizes_(sizes), out_(out), chunk_(chunk), K_(chunk.K), V_(chunk.V) {
    d_output_ = frame.take<T>(C * V_);
    d_write_ = frame.take<T>(C * V_);
    d_value_ = frame.take<T>(C * V_);
    rows_ = frame.take<T>(C * std::max(K_, V_));
    write_columns_ = frame.take<T>(C * V_);
    state_columns_ = frame.take<T>(K_ * V_);
    output_pairs_ = frame.take<T>(C * C);
    value_pairs_ = frame.take<T>(C * C);
    pair_decays_ = frame.take<T>(C * C);
    from_start_ = frame.take<T>(C * K_);
    to_end_ = frame.take<T>(C * K_);
    d_query_ = frame.take<T>(C * K_);
    d_key_ = frame.take<T>(C * K_);
  }

  /// The chunk from `row` on, loaded with queries: `state` before it, what its tokens did to it (`errors`, `writes`),
  /// and `d_state` (K, V), the gradient of the state after it, which becomes that of the state before.
  void run(Index row, Index h, View<const T> d_output, const T* state, const T* errors, const T* writes, T* d_state) {
    const DeltaRuleChunk<T>& c = chunk_;
    chunk_load(d_output.rows_from(row).columns_from(h * sizes_.value_width), c.count, sizes_.value_width, T(1),
               d_output_);
    // dU, dV, dbeta
    chunk_scale_rows(K_, c.to_end, c.key, rows_);
    chunk_product<false, T>(C, V_, K_, {rows_, K_, 1}, d_state, V_, d_write_, V_);
    chunk_product<true, T>(C, V_, C, {c.query_scores, 1, C}, d_output_, V_, d_write_, V_);
    c.solve_transposed(d_write_, d_value_);
    chunk_store(d_value_, c.count, sizes_.value_width, T(1), false,
                out_.value.rows_from(row).columns_from(h * sizes_.value_width));
    for (Index t = 0; t < c.count; ++t) out_.beta.row(row + t)[h] = dot(V_, d_write_ + t * V_, errors + t * V_);
    // P, R
    chunk_transpose(C, V_, writes, write_columns_);
    chunk_product<false, T>(C, C, V_, {d_output_, V_, 1}, write_columns_, C, output_pairs_, C);
    chunk_product<false, T>(C, C, V_, {d_value_, V_, 1}, write_columns_, C, value_pairs_, C);
    for (Index i = 0; i < C * C; i += L::size) {
      const auto mask = L::load(c.mask + i), output = L::load(output_pairs_ + i), value = L::load(value_pairs_ + i);
      const auto through_output = L::mul(output, L::load(c.query_scores + i));  // these hold M already
      L::store(pair_decays_ + i, L::sub_mul(through_output, value, L::load(c.key_scores + i)));
      L::store(output_pairs_ + i, L::mul(mask, output));
      L::store(value_pairs_ + i, L::mul(mask, value));
    }
    for (Index t = 0; t < C; ++t) value_pairs_[t * C + t] = 0;
    // dQ and dK: through the state before the chunk, then through that after it, then within the chunk.
    chunk_transpose(K_, V_, state, state_columns_);
    through_state(c.since_start, d_output_, d_query_);
    through_state(c.since_start, d_value_, from_start_);
    if (c.decays()) {
      for (Index t = 0; t < C; ++t)
        start_sum_[t] = dot(K_, d_query_ + t * K_, c.query + t * K_) - dot(K_, from_start_ + t * K_, c.key + t * K_);
      whole_sum_ = c.whole * dot(K_ * V_, state, d_state);
    }
    chunk_transpose(K_, V_, d_state, state_columns_);
    through_state(c.to_end, writes, to_end_);
    if (c.decays()) decay_gradient(row, h);
    for (Index i = 0; i < C * K_; i += L::size)
      L::store(d_key_ + i, L::sub(L::load(to_end_ + i), L::load(from_start_ + i)));
    chunk_product<true, T>(C, K_, C, {output_pairs_, C, 1}, c.key, K_, d_query_, K_);
    chunk_product<true, T>(C, K_, C, {output_pairs_, 1, C}, c.query, K_, d_key_, K_);
    for (Index t = 0; t < C; ++t)
      for (Index s = 0; s <= t; ++s) value_pairs_[s * C + t] = value_pairs_[t * C + s] = -value_pairs_[t * C + s];
    chunk_product<true, T>(C, K_, C, {value_pairs_, C, 1}, c.key, K_, d_key_, K_);
    const Index group = sizes_.heads / sizes_.key_heads, at = sizes_.key_head(h) * sizes_.key_width;
    const bool add = h % group != 0;  // heads that share a key come one after the other
    chunk_store(d_query_, c.count, sizes_.key_width, T(sizes_.scale), add, out_.query.rows_from(row).columns_from(at));
    chunk_store(d_key_, c.count, sizes_.key_width, T(1), add, out_.key.rows_from(row).columns_from(at));
    // H
    if (c.decays()) c.scale_state(d_state);
    chunk_scale_rows(K_, c.since_start, c.query, rows_);
    chunk_product<true, T>(K_, V_, C, {rows_, 1, K_}, d_output_, V_, d_state, V_);
    c.negated_decayed_key(rows_);
    chunk_product<true, T>(K_, V_, C, {rows_, 1, K_}, d_value_, V_, d_state, V_);
  }

private:
  static T dot(Index n, const T* a, const T* b) {
    auto sum = L::mul(L::load(a), L::load(b));
    for (Index i = L::size; i < n; i += L::size) sum = L::mul_add(L::load(a + i), L::load(b + i), sum);
    return L::sum(sum);
  }

  /// to (C, K) = diag(factor) x S^T for the state whose transpose is in `state_columns_`.
  void through_state(const T* factor, const T* x, T* to) {
    if (chunk_.decays()) {
      chunk_scale_rows(V_, factor, x, rows_);
      x = rows_;
    }
    chunk_product<false, T>(C, K_, V_, {x, V_, 1}, state_columns_, K_, to, K_);
  }

  /// dg_r = sum_{t>=r, s<r} (P * Q K^T - R * K K^T)_ts + sum_{t>=r} start_t + sum_{s<r} end_s + whole. Nothing that a
  /// decay has wiped out enters, so that there is nothing to cancel.
  void decay_gradient(Index row, Index h) {
    const DeltaRuleChunk<T>& c = chunk_;
    alignas(64) T below[C];  // below[s] = end_s + sum_{t>=r} pairs_ts
    for (Index s = 0; s < C; ++s) below[s] = dot(K_, to_end_ + s * K_, c.key + s * K_);
    T after = whole_sum_;
    for (Index r = C - 1; r >= 0; --r) {
      after += start_sum_[r];
      for (Index s = 0; s < C; s += L::size)
        L::store(below + s, L::add(L::load(below + s), L::load(pair_decays_ + r * C + s)));
      T sum = after;
      for (Index s = 0; s < r; ++s) sum += below[s];
      if (r < c.count) out_.log_decay.row(row + r)[h] = sum;
    }
  }

  DeltaRuleSizes sizes_;
  DeltaRuleGradients<T> out_;
  DeltaRuleChunk<T>& chunk_;
  const Index K_, V_;
  T *d_output_, *d_write_, *d_value_, *rows_, *write_columns_, *state_columns_;
  T *output_pairs_, *value_pairs_, *pair_decays_;
  T *from_start_, *to_end_, *d_query_, *d_key_;
  T start_sum_[C], whole_sum_ = 0;
};

/// Chunks whose states are kept at the same time. All heads pass over a segment before any goes on to the next, so that
/// its rows stay in the second level of cache.
inline constexpr Index delta_rule_segment = 8;

}  // namespace detail

/// Gradients of the delta rule (of either form: they are the same function). States are computed again from those at
/// the starts of segments. `d_final_state` (batch, heads, key_width, value_width) is the gradient of the final state,
/// null for zero.
template <class T>
void delta_rule_backward(const Shape& shape, const DeltaRuleSizes& sizes, const DeltaRuleOperands<T>& in,
                         View<const T> d_output, const DeltaRuleGradients<T>& out, Workspace& workspace,
                         const T* d_final_state = nullptr) {
  detail::check_delta_rule(sizes);
  Workspace::Frame frame(workspace);
  detail::DeltaRuleChunk<T> chunk(sizes, in, frame);
  detail::DeltaRuleGradient<T> gradient(sizes, out, chunk, frame);
  constexpr Index segment = detail::delta_rule_segment;
  const Index state_size = chunk.K * chunk.V, rows_size = chunk_side * chunk.V, H = sizes.heads;
  const Index chunks = (shape.length + chunk_side - 1) / chunk_side;
  const Index segments = (chunks + segment - 1) / segment;
  T* starts = frame.template take<T>(segments * H * state_size);  // the states before each segment
  T* states = frame.template take<T>((segment + 1) * state_size);
  T* errors = frame.template take<T>(segment * rows_size);
  T* writes = frame.template take<T>(segment * rows_size);
  T* d_states = frame.template take<T>(H * state_size);
  for (Index b = 0; b < shape.batch; ++b) {
    const Index begin = b * shape.length;
    const auto load = [&](Index k, Index h, bool with_query) {
      chunk.load(begin + k * chunk_side, std::min(chunk_side, shape.length - k * chunk_side), h, with_query);
    };
    // Takes `states[0]` of head h over the chunks of segment g: to `states[1]`, `states[2]`, ... or in place.
    const auto sweep = [&](Index g, Index h, bool keep) {
      const Index count = std::min(segment, chunks - g * segment);
      for (Index k = 0; k < count; ++k) {
        const Index at = keep ? k : 0;
        load(g * segment + k, h, false);
        chunk.solve(states + at * state_size, errors + at * rows_size, writes + at * rows_size);
        if (keep && k + 1 == count) break;
        if (keep) std::copy_n(states + at * state_size, state_size, states + (at + 1) * state_size);
        chunk.advance(writes + at * rows_size, states + (at + keep) * state_size);
      }
    };
    for (Index h = 0; h < H; ++h) {
      chunk.load_state(in.initial_state, b * H + h, starts + h * state_size);
      chunk.load_state(d_final_state, b * H + h, d_states + h * state_size);
    }
    for (Index g = 0; g + 1 < segments; ++g)
      for (Index h = 0; h < H; ++h) {
        std::copy_n(starts + (g * H + h) * state_size, state_size, states);
        sweep(g, h, false);
        std::copy_n(states, state_size, starts + ((g + 1) * H + h) * state_size);
      }
    for (Index g = segments - 1; g >= 0; --g)
      for (Index h = 0; h < H; ++h) {
        std::copy_n(starts + (g * H + h) * state_size, state_size, states);
        sweep(g, h, true);
        for (Index k = std::min(segment, chunks - g * segment) - 1; k >= 0; --k) {
          load(g * segment + k, h, true);
          gradient.run(begin + (g * segment + k) * chunk_side, h, d_output, states + k * state_size,
                       errors + k * rows_size, writes + k * rows_size, d_states + h * state_size);
        }
      }
    if (!out.initial_state) continue;
    for (Index h = 0; h < H; ++h) chunk.store_state(d_states + h * state_size, b * H + h, out.initial_state);
  }
}

}  // namespace mad::cpu
