// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The delta rule in chunks: matrix products in place of steps (Yang et al. 2024, "Parallelizing Linear Transformers
/// with the Delta Rule over Sequence Length", section 3; Yang, Kautz and Hatamizadeh 2024, section 3.3, for decays).
///
/// Within a chunk that starts from the state S, with decays a_t, g_t = a_1 .. a_t and M_ts = a_{s+1} .. a_t for s <= t
/// (0 above the diagonal), the errors e_t = v_t - k_t S'_t of the delta rule are the solution of a unit triangular
/// system, the UT transform of the papers:
///
///     e_t + sum_{s<t} A_ts beta_s e_s = v_t - g_t k_t S,                A = (K K^T) * M
///     O = diag(g) Q S + ((Q K^T) * M) U,  U = diag(beta) E,             S <- g_C S + (diag(M_C) K)^T U
///
/// It is solved by substitution instead of forming its inverse: the right-hand side is as narrow as the chunk is long.
/// M is built from products of decays, all of them at most 1, so no decay is ever divided by.
#pragma once

#include <mad/cpu/kernels/chunk_product.hpp>
#include <mad/cpu/kernels/delta_rule/recurrent.hpp>

namespace mad::cpu {

namespace detail {

/// One chunk of one head: its operands, padded, and what follows from keys and decays alone. C, K and V are the sides
/// of its matrices.
template <class T>
class DeltaRuleChunk {
public:
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  static constexpr Index C = chunk_side;
  static constexpr int side = static_cast<int>(chunk_side);

  const Index K, V;
  T *query, *key, *value;                           ///< (C, K), (C, K), (C, V); the query with the output's scale
  T* key_columns;                                   ///< (K, C), the transposed keys
  T *key_scores, *query_scores;                     ///< (C, C): (K K^T) * M and (Q K^T) * M
  T* mask;                                          ///< M (C, C)
  T beta[side]{}, since_start[side], to_end[side];  ///< beta_t, g_t, M_Ct
  T whole = 1;                                      ///< g_C
  Index count = 0;                                  ///< tokens that exist

  DeltaRuleChunk(const DeltaRuleSizes& sizes, const DeltaRuleOperands<T>& in, Workspace::Frame& frame)
      : K(chunk_padded(sizes.key_width)), V(chunk_padded(sizes.value_width)), sizes_(sizes), in_(in) {
    query = frame.take<T>(C * K);
    key = frame.take<T>(C * K);
    value = frame.take<T>(C * V);
    key_columns = frame.take<T>(C * K);
    key_scores = frame.take<T>(C * C);
    query_scores = frame.take<T>(C * C);
    mask = frame.take<T>(C * C);
    scaled_ = frame.take<T>(C * std::max(K, V));
    for (Index t = 0; t < C; ++t) {
      for (Index s = 0; s < C; ++s) mask[t * C + s] = T(s <= t ? 1 : 0);
      since_start[t] = to_end[t] = 1;
    }
  }

  bool decays() const { return in_.log_decay.data != nullptr; }

  /// Reads `tokens` tokens of head `h` from `row` on; tokens that do not exist write nothing and keep everything.
  void load(Index row, Index tokens, Index h, bool with_query) {
    count = tokens;
    const Index width = sizes_.key_width, at = sizes_.key_head(h) * width;
    chunk_load(in_.key.rows_from(row).columns_from(at), count, width, T(1), key);
    chunk_load(in_.value.rows_from(row).columns_from(h * sizes_.value_width), count, sizes_.value_width, T(1), value);
    for (Index t = 0; t < C; ++t) beta[t] = t < count ? in_.beta.row(row + t)[h] : T(0);
    if (decays()) fill_mask(row, h);
    chunk_transpose(C, K, key, key_columns);
    scores(key, key_scores);
    if (!with_query) return;
    chunk_load(in_.query.rows_from(row).columns_from(at), count, width, T(sizes_.scale), query);
    scores(query, query_scores);
  }

  /// `errors` (C, V) of the chunk that starts from `state` (K, V), and the values that it `writes` (C, V).
  void solve(const T* state, T* errors, T* writes) {
    std::copy_n(value, C * V, errors);
    negated_decayed_key(scaled_);
    chunk_product<true, T>(C, V, K, {scaled_, K, 1}, state, V, errors, V);
    for (Index c = 0; c < V; c += L::size) {
      Packet e[side];
      MAD_UNROLL
      for (int t = 0; t < side; ++t) e[t] = L::load(errors + t * V + c);
      MAD_UNROLL
      for (int s = 0; s < side; ++s) {
        const Packet write = L::mul(L::all(beta[s]), e[s]);
        L::store(errors + s * V + c, e[s]);
        L::store(writes + s * V + c, write);
        MAD_UNROLL
        for (int t = 1; t < side; ++t) {
          if (t > s) e[t] = L::sub_mul(e[t], L::all(key_scores[t * C + s]), write);
        }
      }
    }
  }

  /// Solves the transposed system: `x` (C, V) holds a right-hand side and becomes (I + A diag(beta))^-T x; `written`
  /// (C, V) is beta times that.
  void solve_transposed(T* x, T* written) const {
    for (Index c = 0; c < V; c += L::size) {
      Packet e[side];
      MAD_UNROLL
      for (int t = 0; t < side; ++t) e[t] = L::load(x + t * V + c);
      MAD_UNROLL
      for (int n = 0; n < side; ++n) {
        const int s = side - 1 - n;
        const Packet write = L::mul(L::all(beta[s]), e[s]);
        L::store(x + s * V + c, e[s]);
        L::store(written + s * V + c, write);
        MAD_UNROLL
        for (int t = 0; t < side - 1; ++t) {
          if (t < s) e[t] = L::sub_mul(e[t], L::all(key_scores[s * C + t]), write);
        }
      }
    }
  }

  /// `output` (C, V) from the state before the chunk and what the chunk writes.
  void output(const T* state, const T* writes, T* output) {
    const T* q = query;
    if (decays()) {
      chunk_scale_rows(K, since_start, query, scaled_);
      q = scaled_;
    }
    chunk_product<false, T>(C, V, K, {q, K, 1}, state, V, output, V);
    chunk_product<true, T>(C, V, C, {query_scores, C, 1}, writes, V, output, V);
  }

  /// Takes `state` over the chunk.
  void advance(const T* writes, T* state) {
    const T* u = writes;
    if (decays()) {
      chunk_scale_rows(V, to_end, writes, scaled_);
      u = scaled_;
      scale_state(state);
    }
    chunk_product<true, T>(K, V, C, {key, 1, K}, u, V, state, V);
  }

  /// A state, or the gradient of one, times the chunk's decay.
  void scale_state(T* state) const {
    for (Index i = 0; i < K * V; i += L::size) L::store(state + i, L::mul(L::all(whole), L::load(state + i)));
  }

  /// -diag(g) K (C, K)
  void negated_decayed_key(T* to) const {
    T factor[side];
    for (Index t = 0; t < C; ++t) factor[t] = -since_start[t];
    chunk_scale_rows(K, factor, key, to);
  }

  /// State of sequence and head number `which` in `from`, padded; zero if `from` is null.
  void load_state(const T* from, Index which, T* state) const {
    std::fill_n(state, K * V, T(0));
    if (!from) return;
    from += which * sizes_.state();
    for (Index i = 0; i < sizes_.key_width; ++i)
      std::copy_n(from + i * sizes_.value_width, sizes_.value_width, state + i * V);
  }
  void store_state(const T* state, Index which, T* to) const {
    to += which * sizes_.state();
    for (Index i = 0; i < sizes_.key_width; ++i)
      std::copy_n(state + i * V, sizes_.value_width, to + i * sizes_.value_width);
  }

private:
  void fill_mask(Index row, Index h) {
    alignas(64) T decay[side];
    for (Index t = 0; t < C; ++t) decay[t] = t < count ? in_.log_decay.row(row + t)[h] : T(0);
    for (Index t = 0; t < C; t += L::size) L::store(decay + t, L::exp(L::load(decay + t)));
    for (Index t = 0; t < C; ++t) since_start[t] = t == 0 ? decay[0] : since_start[t - 1] * decay[t];
    for (Index t = 1; t < C; ++t) {
      for (Index s = 0; s < C; s += L::size)
        L::store(mask + t * C + s, L::mul(L::all(decay[t]), L::load(mask + (t - 1) * C + s)));
      mask[t * C + t] = 1;
    }
    for (Index t = 0; t < C; ++t) to_end[t] = mask[(C - 1) * C + t];
    whole = since_start[C - 1];
  }

  /// (X K^T) * M
  void scores(const T* x, T* to) const {
    chunk_product<false, T>(C, C, K, {x, K, 1}, key_columns, C, to, C);
    for (Index i = 0; i < C * C; i += L::size) L::store(to + i, L::mul(L::load(mask + i), L::load(to + i)));
  }

  DeltaRuleSizes sizes_;
  DeltaRuleOperands<T> in_;
  T* scaled_;
};

}  // namespace detail

/// The delta rule in its chunked form; arguments as in `delta_rule_recurrent`, equal to it up to rounding.
template <class T>
void delta_rule_chunked(const Shape& shape, const DeltaRuleSizes& sizes, const DeltaRuleOperands<T>& in, View<T> output,
                        Workspace& workspace, T* final_state = nullptr) {
  detail::check_delta_rule(sizes);
  Workspace::Frame frame(workspace);
  detail::DeltaRuleChunk<T> chunk(sizes, in, frame);
  T* state = frame.template take<T>(chunk.K * chunk.V);
  T* errors = frame.template take<T>(chunk_side * chunk.V);
  T* writes = frame.template take<T>(chunk_side * chunk.V);
  for (Index b = 0; b < shape.batch; ++b)
    for (Index h = 0; h < sizes.heads; ++h) {
      const Index which = b * sizes.heads + h, end = (b + 1) * shape.length;
      chunk.load_state(in.initial_state, which, state);
      for (Index row = b * shape.length; row < end; row += chunk_side) {
        chunk.load(row, std::min(chunk_side, end - row), h, true);
        chunk.solve(state, errors, writes);
        chunk.output(state, writes, errors);
        chunk_store(errors, chunk.count, sizes.value_width, T(1), false,
                    output.rows_from(row).columns_from(h * sizes.value_width));
        if (final_state || row + chunk_side < end) chunk.advance(writes, state);
      }
      if (final_state) chunk.store_state(state, which, final_state);
    }
}

}  // namespace mad::cpu
