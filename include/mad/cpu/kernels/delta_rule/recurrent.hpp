// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The delta rule token by token: operands, the recurrent form, and one step of inference.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <cmath>
#include <string>

namespace mad::cpu {

struct DeltaRuleSizes {
  Index heads = 1;      ///< of value, beta and decay
  Index key_heads = 1;  ///< of query and key; a divisor of `heads`
  Index key_width = 1;
  Index value_width = 1;
  double scale = 1;

  /// The head of query and key that value head `h` uses.
  Index key_head(Index h) const { return h * key_heads / heads; }
  /// Numbers of one head's state.
  Index state() const { return key_width * value_width; }
};

/// What a delta rule reads. Rows are tokens.
template <class T>
struct DeltaRuleOperands {
  View<const T> query;               ///< (tokens, key_heads * key_width)
  View<const T> key;                 ///< (tokens, key_heads * key_width)
  View<const T> value;               ///< (tokens, heads * value_width)
  View<const T> beta;                ///< (tokens, heads)
  View<const T> log_decay{};         ///< (tokens, heads), or empty for no decay
  const T* initial_state = nullptr;  ///< (batch, heads, key_width, value_width), or null for zero
};

namespace detail {

inline void check_delta_rule(const DeltaRuleSizes& s) {
  if (s.heads >= 1 && s.key_heads >= 1 && s.key_width >= 1 && s.value_width >= 1 && s.heads % s.key_heads == 0) return;
  throw UsageError(
      message({"delta rule: sizes do not fit: ", s.heads, " value heads of ", s.value_width, ", ", s.key_heads,
               " key heads of ", s.key_width, "; value heads must be a multiple of key heads"}));
}

/// One token for the columns of one packet: reads the state under the key, corrects it, reads it under the query.
template <class Packet, class T>
MAD_ALWAYS_INLINE inline void delta_rule_token(PacketAccess<Packet> access, Index key_width, const T* query,
                                               const T* key, const T* value, T beta, T decay, T scale, T* state,
                                               Index stride, T* output) {
  using namespace Eigen::internal;
  Packet read[4] = {access.all(T(0)), access.all(T(0)), access.all(T(0)), access.all(T(0))};
  Index i = 0;
  for (; i + 4 <= key_width; i += 4) {
    MAD_UNROLL
    for (int n = 0; n < 4; ++n) read[n] = pmadd(access.all(key[i + n]), access.load(state + (i + n) * stride), read[n]);
  }
  for (; i < key_width; ++i) read[0] = pmadd(access.all(key[i]), access.load(state + i * stride), read[0]);
  const Packet found = padd(padd(read[0], read[1]), padd(read[2], read[3]));
  const Packet kept = access.all(decay);
  const Packet error = psub(access.load(value), pmul(kept, found));
  const Packet write = pmul(access.all(beta), error);
  Packet out[4] = {access.all(T(0)), access.all(T(0)), access.all(T(0)), access.all(T(0))};
  const auto update = [&](Index row, Packet& sum) MAD_ALWAYS_INLINE {
    T* at = state + row * stride;
    const Packet next = pmadd(access.all(key[row]), write, Packet(pmul(kept, access.load(at))));
    access.store(at, next);
    sum = pmadd(access.all(query[row]), next, sum);
  };
  for (i = 0; i + 4 <= key_width; i += 4) {
    MAD_UNROLL
    for (int n = 0; n < 4; ++n) update(i + n, out[n]);
  }
  for (; i < key_width; ++i) update(i, out[0]);
  access.store(output, pmul(access.all(scale), padd(padd(out[0], out[1]), padd(out[2], out[3]))));
}

/// All tokens for the value columns of one register, with the state in registers as far as there are enough of them.
template <int KeyWidth, bool Decays, class T>
void delta_rule_in_registers(Index length, View<const T> query, View<const T> key, View<const T> value,
                             View<const T> beta, const T* decay, T scale, T* state, Index stride, View<T> output) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  Packet s[KeyWidth];
  MAD_UNROLL
  for (int i = 0; i < KeyWidth; ++i) s[i] = L::load(state + i * stride);
  constexpr int parts = std::min(4, KeyWidth);
  for (Index t = 0; t < length; ++t) {
    const T* k = key.row(t);
    const T* q = query.row(t);
    Packet read[parts], out[parts];
    MAD_UNROLL
    for (int i = 0; i < KeyWidth; ++i) {
      if (i < parts)
        read[i] = L::mul(L::all(k[i]), s[i]);
      else
        read[i % parts] = L::mul_add(L::all(k[i]), s[i], read[i % parts]);
    }
    MAD_UNROLL
    for (int i = 0; i < parts - 1; ++i) read[0] = L::add(read[0], read[i + 1]);
    const Packet kept = L::all(Decays ? decay[t] : T(1));
    const Packet v = L::load(value.row(t));
    const Packet error = Decays ? L::sub_mul(v, kept, read[0]) : L::sub(v, read[0]);
    const Packet write = L::mul(L::all(beta.row(t)[0]), error);
    MAD_UNROLL
    for (int i = 0; i < KeyWidth; ++i) {
      s[i] = L::mul_add(L::all(k[i]), write, Decays ? L::mul(kept, s[i]) : s[i]);
      if (i < parts)
        out[i] = L::mul(L::all(q[i]), s[i]);
      else
        out[i % parts] = L::mul_add(L::all(q[i]), s[i], out[i % parts]);
    }
    MAD_UNROLL
    for (int i = 0; i < parts - 1; ++i) out[0] = L::add(out[0], out[i + 1]);
    L::store(output.row(t), L::mul(L::all(scale), out[0]));
  }
  MAD_UNROLL
  for (int i = 0; i < KeyWidth; ++i) L::store(state + i * stride, s[i]);
}

/// exp of `length` log decays, or ones.
template <class T>
void delta_rule_decays(View<const T> log_decay, Index length, T* decay) {
  for (Index t = 0; t < length; ++t) decay[t] = log_decay.data ? std::exp(log_decay.row(t)[0]) : T(1);
}

}  // namespace detail

/// The delta rule in its recurrent form: `S' = exp(g_t) S_{t-1}`, `S_t = S' + beta_t k_t^T (v_t - k_t S')`, `o_t =
/// scale q_t S_t` per head. `output` (tokens, heads * value_width) and `final_state` (batch, heads, key_width,
/// value_width; null if not wanted) are overwritten. `KeyWidth` is `sizes.key_width` to unroll the rows of the
/// state and keep in registers what fits, or 0.
template <int KeyWidth = 0, class T>
void delta_rule_recurrent(const Shape& shape, const DeltaRuleSizes& sizes, const DeltaRuleOperands<T>& in,
                          View<T> output, Workspace& workspace, T* final_state = nullptr) {
  detail::check_delta_rule(sizes);
  Workspace::Frame frame(workspace);
  const Index K = sizes.key_width, V = sizes.value_width, L = shape.length;
  T* state = frame.template take<T>(sizes.state());
  T* decay = frame.template take<T>(L);
  for (Index b = 0; b < shape.batch; ++b)
    for (Index h = 0; h < sizes.heads; ++h) {
      const Index row = b * L, which = b * sizes.heads + h;
      const View<const T> query = in.query.rows_from(row).columns_from(sizes.key_head(h) * K);
      const View<const T> key = in.key.rows_from(row).columns_from(sizes.key_head(h) * K);
      const View<const T> value = in.value.rows_from(row).columns_from(h * V);
      const View<const T> beta = in.beta.rows_from(row).columns_from(h);
      const View<T> out = output.rows_from(row).columns_from(h * V);
      if (in.initial_state)
        std::copy_n(in.initial_state + which * sizes.state(), sizes.state(), state);
      else
        std::fill_n(state, sizes.state(), T(0));
      const bool decays = in.log_decay.data != nullptr;
      detail::delta_rule_decays(decays ? in.log_decay.rows_from(row).columns_from(h) : in.log_decay, L, decay);
      Index whole = 0;  // columns that fill registers
      if constexpr (KeyWidth > 0) {
        const auto scan = decays ? &detail::delta_rule_in_registers<KeyWidth, true, T>
                                 : &detail::delta_rule_in_registers<KeyWidth, false, T>;
        for (; whole + Lanes<T>::size <= V; whole += Lanes<T>::size)
          scan(L, query, key, value.columns_from(whole), beta, decay, T(sizes.scale), state + whole, V,
               out.columns_from(whole));
      }
      for_packets<T>(V - whole, [&](auto access, Index column) MAD_ALWAYS_INLINE {
        const Index c = whole + column;
        for (Index t = 0; t < L; ++t)
          detail::delta_rule_token(access, K, query.row(t), key.row(t), value.row(t) + c, beta.row(t)[0], decay[t],
                                   T(sizes.scale), state + c, V, out.row(t) + c);
      });
      if (final_state) std::copy_n(state, sizes.state(), final_state + which * sizes.state());
    }
}

/// One token of `batch` sequences: row b of every operand is sequence b's token, `state` (batch, heads, key_width,
/// value_width) is taken one step further.
template <class T>
void delta_rule_step(Index batch, const DeltaRuleSizes& sizes, const DeltaRuleOperands<T>& in, T* state,
                     View<T> output) {
  const Index K = sizes.key_width, V = sizes.value_width;
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < sizes.heads; ++h, state += sizes.state()) {
      const Index key = sizes.key_head(h) * K;
      T decay = 1;
      if (in.log_decay.data) decay = std::exp(in.log_decay.row(b)[h]);
      for_packets<T>(V, [&](auto access, Index c) MAD_ALWAYS_INLINE {
        detail::delta_rule_token(access, K, in.query.row(b) + key, in.key.row(b) + key, in.value.row(b) + h * V + c,
                                 in.beta.row(b)[h], decay, T(sizes.scale), state + c, V, output.row(b) + h * V + c);
      });
    }
}

}  // namespace mad::cpu
