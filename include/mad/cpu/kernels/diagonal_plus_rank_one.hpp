// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The recurrence of RWKV-7, its gradients, and one step of inference.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/diagonal_plus_rank_one/sweep.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <cmath>
#include <string>

namespace mad::cpu {

struct RankOneSizes {
  Index heads = 1;
  Index key_width = 1;
  Index value_width = 1;

  /// Numbers of one head's state.
  Index state() const { return key_width * value_width; }
};

/// What the recurrence reads. Rows are tokens; `v` is (tokens, heads * value_width), the others (tokens, heads *
/// key_width).
template <class T>
struct RankOneOperands {
  View<const T> r, log_w, k, v, a, b;
  const T* initial_state = nullptr;  ///< (batch, heads, key_width, value_width), or null for zero
};

/// Where the gradients go; all are overwritten.
template <class T>
struct RankOneGradients {
  View<T> r, log_w, k, v, a, b;
  T* initial_state = nullptr;  ///< (batch, heads, key_width, value_width), or null
};

namespace detail {

inline void check_rank_one(const RankOneSizes& s) {
  if (s.heads >= 1 && s.key_width >= 1 && s.value_width >= 1) return;
  throw UsageError(message({"diagonal plus rank one: sizes do not fit: ", s.heads, " heads, key width ", s.key_width,
                            ", value width ", s.value_width, "; all must be at least 1"}));
}

/// Widths whose states stay in registers; others are 0, and the state in memory.
constexpr int rank_one_registers(Index width) { return width <= 16 ? static_cast<int>(width) : 0; }

template <class T>
constexpr Index whole_registers(Index width) {
  return (width + Lanes<T>::size - 1) / Lanes<T>::size * Lanes<T>::size;
}

/// `to` (length, padded) = `from`, zeros behind it.
template <class T>
View<const T> packed_rows(Index length, Index width, View<const T> from, T* to) {
  const Index padded = whole_registers<T>(width);
  for (Index t = 0; t < length; ++t) {
    for_packets<T>(width,
                   [&](auto access, Index i) { access.store(to + t * padded + i, access.load(from.row(t) + i)); });
    std::fill(to + t * padded + width, to + (t + 1) * padded, T(0));
  }
  return {to, padded};
}

/// `to` (length, padded) = exp(`from`), ones behind it.
template <class T>
View<const T> decays(Index length, Index width, View<const T> from, T* to) {
  using L = Lanes<T>;
  const Index padded = whole_registers<T>(width);
  const View<const T> packed = packed_rows(length, width, from, to);
  for (Index i = 0; i < length * padded; i += L::size) L::store(to + i, L::exp(L::load(to + i)));
  return packed;
}

/// A state (rows, columns) between its dense form and one panel after the other of a register of columns; `transposed`
/// if the dense form is (columns, rows).
template <class T>
void load_panels(const T* from, Index rows, Index columns, bool transposed, T* to) {
  constexpr Index size = Lanes<T>::size;
  std::fill_n(to, rows * whole_registers<T>(columns), T(0));
  if (!from) return;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j)
      to[(j / size * rows + i) * size + j % size] = from[transposed ? j * rows + i : i * columns + j];
}
template <class T>
void store_panels(const T* from, Index rows, Index columns, T* to) {
  constexpr Index size = Lanes<T>::size;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) to[i * columns + j] = from[(j / size * rows + i) * size + j % size];
}

template <class T>
RankOneVectors<T> rank_one_head(const RankOneOperands<T>& in, const RankOneSizes& sizes, Index row, Index h) {
  const auto keys = [&](View<const T> x) { return x.rows_from(row).columns_from(h * sizes.key_width); };
  return {keys(in.r), keys(in.log_w), keys(in.k), in.v.rows_from(row).columns_from(h * sizes.value_width),
          keys(in.a), keys(in.b)};
}

}  // namespace detail

/// `S_t = diag(w_t) S_{t-1} + b_t^T (a_t S_{t-1}) + k_t^T v_t`, `o_t = r_t S_t`, `w_t = exp(log_w_t)` per head, S being
/// (key_width, value_width), the transpose of the papers'. `o` (tokens, heads * value_width) and `final_state` (batch,
/// heads, key_width, value_width; null if not wanted) are overwritten. `KeyWidth` is `sizes.key_width` to keep the
/// state in registers, or 0.
template <int KeyWidth = 0, class T>
void diagonal_plus_rank_one_forward(const Shape& shape, const RankOneSizes& sizes, const RankOneOperands<T>& in,
                                    View<T> o, Workspace& workspace, T* final_state = nullptr) {
  detail::check_rank_one(sizes);
  Workspace::Frame frame(workspace);
  constexpr Index size = Lanes<T>::size;
  const Index K = sizes.key_width, V = sizes.value_width, L = shape.length;
  T* w = frame.template take<T>(L * detail::whole_registers<T>(K));
  T* state = frame.template take<T>(K * detail::whole_registers<T>(V));
  for (Index n = 0; n < shape.batch * sizes.heads; ++n) {
    const Index row = n / sizes.heads * L, h = n % sizes.heads;
    detail::RankOneVectors<T> head = detail::rank_one_head(in, sizes, row, h);
    head.w = detail::decays(L, K, head.w, w);
    detail::load_panels(in.initial_state ? in.initial_state + n * sizes.state() : nullptr, K, V, false, state);
    const View<T> out = o.rows_from(row).columns_from(h * V);
    const View<const T> v = head.v;
    for (Index c = 0; c < V; c += size) {
      head.v = v.columns_from(c);
      detail::rank_one_forward<KeyWidth, T>(L, K, std::min(size, V - c), head, state + c * K, View<T>{},
                                            out.columns_from(c));
    }
    if (final_state) detail::store_panels(state, K, V, final_state + n * sizes.state());
  }
}

/// Gradients of `diagonal_plus_rank_one_forward`. `d_final_state` (batch, heads, key_width, value_width) is the
/// gradient of the final state, null for zero. States are kept at every 16th token and computed again between.
/// `KeyWidth` and `ValueWidth` are those of the sizes to keep states in registers, or 0.
template <int KeyWidth = 0, int ValueWidth = 0, class T>
void diagonal_plus_rank_one_backward(const Shape& shape, const RankOneSizes& sizes, const RankOneOperands<T>& in,
                                     View<const T> d_o, const RankOneGradients<T>& out, Workspace& workspace,
                                     const T* d_final_state = nullptr) {
  detail::check_rank_one(sizes);
  Workspace::Frame frame(workspace);
  constexpr Index size = Lanes<T>::size, chunk = 16;
  const Index K = sizes.key_width, V = sizes.value_width, L = shape.length;
  const Index keys = detail::whole_registers<T>(K), values = detail::whole_registers<T>(V);
  const Index chunks = (L + chunk - 1) / chunk;
  T* rows[5];  // of r, w, k, a, b
  for (T*& x : rows) x = frame.template take<T>(L * keys);
  T* v = frame.template take<T>(L * values);
  T* d_output = frame.template take<T>(L * values);
  T* p = frame.template take<T>(L * values);
  T* d_p = frame.template take<T>(L * values);
  T* state = frame.template take<T>(K * values);          // values in the lanes
  T* states = frame.template take<T>(chunks * V * size);  // keys in the lanes, before each chunk
  T* first_states = frame.template take<T>(keys * V);     // keys in the lanes, one panel after the other
  T* d_states = frame.template take<T>(keys * V);
  T* tape = frame.template take<T>(chunk * V * size);
  for (Index n = 0; n < shape.batch * sizes.heads; ++n) {
    const Index row = n / sizes.heads * L, h = n % sizes.heads, at = n * sizes.state();
    const detail::RankOneVectors<T> strided = detail::rank_one_head(in, sizes, row, h);
    const detail::RankOneVectors<T> head{
        detail::packed_rows(L, K, strided.r, rows[0]), detail::decays(L, K, strided.w, rows[1]),
        detail::packed_rows(L, K, strided.k, rows[2]), detail::packed_rows(L, V, strided.v, v),
        detail::packed_rows(L, K, strided.a, rows[3]), detail::packed_rows(L, K, strided.b, rows[4])};
    const detail::RankOneTape<T> known{
        {p, values}, detail::packed_rows(L, V, d_o.rows_from(row).columns_from(h * V), d_output), {d_p, values}};
    const View<T> d_v = out.v.rows_from(row).columns_from(h * V);
    const T* initial = in.initial_state ? in.initial_state + at : nullptr;
    const T* last = d_final_state ? d_final_state + at : nullptr;
    const auto columns_of_values = [&](Index c) {
      detail::RankOneVectors<T> some = head;
      some.v = head.v.columns_from(c);
      return some;
    };
    detail::load_panels(initial, K, V, false, state);
    for (Index c = 0; c < V; c += size)
      detail::rank_one_forward<KeyWidth, T>(L, K, size, columns_of_values(c), state + c * K, {p + c, values},
                                            View<T>{});
    detail::load_panels(last, K, V, false, state);
    for (Index c = 0; c < V; c += size) {
      detail::rank_one_reverse<KeyWidth, T>(L, K, std::min(size, V - c), head, known.d_o.columns_from(c), state + c * K,
                                            d_v.columns_from(c), {d_p + c, values});
    }
    if (out.initial_state) detail::store_panels(state, K, V, out.initial_state + at);

    detail::load_panels(last, V, K, true, d_states);
    detail::load_panels(initial, V, K, true, first_states);
    for (Index c = 0; c < K; c += size) {
      const auto keys_of = [&](View<T> x) { return x.rows_from(row).columns_from(h * K + c); };
      const detail::RankOneKeyGradients<T> gradients{keys_of(out.r), keys_of(out.log_w), keys_of(out.k), keys_of(out.a),
                                                     keys_of(out.b)};
      const auto rows_from = [&](Index t) {
        const auto some = [&](View<const T> x) { return x.rows_from(t).columns_from(c); };
        return detail::RankOneVectors<T>{some(head.r),        some(head.w), some(head.k),
                                         head.v.rows_from(t), some(head.a), some(head.b)};
      };
      const Index columns = std::min(size, K - c);
      std::copy_n(first_states + c * V, V * size, states);
      for (Index g = 0; g + 1 < chunks; ++g) {
        std::copy_n(states + g * V * size, V * size, states + (g + 1) * V * size);
        detail::rank_one_replay<ValueWidth, T>(chunk, V, rows_from(g * chunk), known.p.rows_from(g * chunk),
                                               states + (g + 1) * V * size);
      }
      for (Index g = chunks - 1; g >= 0; --g) {
        const Index t = g * chunk, length = std::min(chunk, L - t);
        const detail::RankOneTape<T> here{known.p.rows_from(t), known.d_o.rows_from(t), known.d_p.rows_from(t)};
        const detail::RankOneKeyGradients<T> to{gradients.r.rows_from(t), gradients.log_w.rows_from(t),
                                                gradients.k.rows_from(t), gradients.a.rows_from(t),
                                                gradients.b.rows_from(t)};
        detail::rank_one_record<ValueWidth, T>(length, V, columns, rows_from(t), here, states + g * V * size, tape, to);
        detail::rank_one_key_gradients<ValueWidth, T>(length, V, columns, rows_from(t), here, tape, d_states + c * V,
                                                      to);
      }
    }
  }
}

/// One token of `batch` sequences: row b of every operand is sequence b's token, `state` (batch, heads, key_width,
/// value_width) is taken one step further.
template <class T>
void diagonal_plus_rank_one_step(Index batch, const RankOneSizes& sizes, const RankOneOperands<T>& in, T* state,
                                 View<T> o, Workspace& workspace) {
  detail::check_rank_one(sizes);
  Workspace::Frame frame(workspace);
  const Index K = sizes.key_width, V = sizes.value_width;
  T* decay = frame.template take<T>(detail::whole_registers<T>(K));
  for (Index n = 0; n < batch * sizes.heads; ++n, state += sizes.state()) {
    const Index b = n / sizes.heads, h = n % sizes.heads;
    const detail::RankOneVectors<T> head = detail::rank_one_head(in, sizes, b, h);
    const T* w = detail::decays(1, K, head.w, decay).data;
    for_packets<T>(V, [&](auto access, Index c) MAD_ALWAYS_INLINE {
      using namespace Eigen::internal;
      auto found = access.all(T(0)), out = access.all(T(0));
      for (Index i = 0; i < K; ++i) found = pmadd(access.all(head.a.data[i]), access.load(state + i * V + c), found);
      const auto value = access.load(head.v.data + c);
      for (Index i = 0; i < K; ++i) {
        auto next = pmul(access.all(w[i]), access.load(state + i * V + c));
        next = pmadd(access.all(head.k.data[i]), value, next);
        next = pmadd(access.all(head.b.data[i]), found, next);
        access.store(state + i * V + c, next);
        out = pmadd(access.all(head.r.data[i]), next, out);
      }
      access.store(o.row(b) + h * V + c, out);
    });
  }
}

}  // namespace mad::cpu
