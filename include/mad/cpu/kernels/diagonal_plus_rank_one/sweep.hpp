// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sweeps over the tokens of one head with a matrix state whose transition is a diagonal plus a matrix of rank one.
///
/// What a token does to the state S (dk, dv) and to its gradient G consists of sums over keys (reading) and sums over
/// values (gradients of the vectors that read and write). A sum over the rows of a register of columns needs no
/// exchange between lanes, so there are sweeps with values in the lanes, where sums run over keys, and sweeps with keys
/// in the lanes, where they run over values. Columns are independent of each other in all of them.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <algorithm>

namespace mad::cpu::detail {

/// One register of columns of a matrix with `rows` rows: in registers if `Rows` tells their number, else in memory.
template <int Rows, class T>
class StateColumns {
public:
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  static constexpr int parts = Rows == 0 ? 4 : std::min(4, Rows);  // independent sums

  MAD_ALWAYS_INLINE inline StateColumns(T* memory, Index rows) : memory_(memory), rows_(rows) {
    if constexpr (Rows > 0) {
      MAD_UNROLL
      for (int i = 0; i < Rows; ++i) held_[i] = L::load(memory + i * L::size);
    }
  }
  MAD_ALWAYS_INLINE inline void keep() const {
    if constexpr (Rows > 0) {
      MAD_UNROLL
      for (int i = 0; i < Rows; ++i) L::store(memory_ + i * L::size, held_[i]);
    }
  }
  MAD_ALWAYS_INLINE inline Packet get(Index i) const {
    if constexpr (Rows > 0)
      return held_[i];
    else
      return L::load(memory_ + i * L::size);
  }
  MAD_ALWAYS_INLINE inline void set(Index i, const Packet& x) {
    if constexpr (Rows > 0)
      held_[i] = x;
    else
      L::store(memory_ + i * L::size, x);
  }

  /// body(row, part) for every row; rows of different parts follow each other.
  template <class Body>
  MAD_ALWAYS_INLINE inline void for_rows(const Body& body) const {
    if constexpr (Rows > 0) {
      MAD_UNROLL
      for (int i = 0; i < Rows; ++i) body(i, i % parts);
    } else {
      Index i = 0;
      for (; i + parts <= rows_; i += parts) {
        MAD_UNROLL
        for (int n = 0; n < parts; ++n) body(i + n, n);
      }
      for (; i < rows_; ++i) body(i, 0);
    }
  }

  /// Sums of packets over the rows.
  struct Sum {
    Packet part[parts];
    MAD_ALWAYS_INLINE inline Sum() {
      MAD_UNROLL
      for (int n = 0; n < parts; ++n) part[n] = L::zero();
    }
    MAD_ALWAYS_INLINE inline Packet total() const {
      Packet sum = part[0];
      MAD_UNROLL
      for (int n = 0; n < parts - 1; ++n) sum = L::add(sum, part[n + 1]);
      return sum;
    }
  };

private:
  Packet held_[Rows > 0 ? Rows : 1];
  T* memory_;
  Index rows_;
};

/// The vectors of one head: decay w (not its logarithm), k, a, b of the width of a key, r likewise, and v.
template <class T>
struct RankOneVectors {
  View<const T> r, w, k, v, a, b;
};

/// Values in the lanes: takes `state` (dk, register) through all tokens. Writes p_t = S_{t-1} a_t^T and o_t = S_t r_t^T
/// unless their views are empty; `columns` of the lanes exist.
template <int KeyWidth, class T>
void rank_one_forward(Index length, Index key_width, Index columns, const RankOneVectors<T>& in, T* state, View<T> p,
                      View<T> o) {
  using L = Lanes<T>;
  using State = StateColumns<KeyWidth, T>;
  State s(state, key_width);
  for (Index t = 0; t < length; ++t) {
    const T *r = in.r.row(t), *w = in.w.row(t), *k = in.k.row(t), *a = in.a.row(t), *b = in.b.row(t);
    typename State::Sum read, out;
    s.for_rows([&](auto i, auto part)
                   MAD_ALWAYS_INLINE { read.part[part] = L::mul_add(L::all(a[i]), s.get(i), read.part[part]); });
    const auto found = read.total();
    const auto v = L::load(in.v.row(t), columns);
    const auto update = [&](Index i) MAD_ALWAYS_INLINE {
      const auto decayed = L::mul(L::all(w[i]), s.get(i));
      return L::mul_add(L::all(b[i]), found, L::mul_add(L::all(k[i]), v, decayed));
    };
    if (p.data) L::store(p.row(t), found, columns);
    if (o.data) {
      s.for_rows([&](auto i, auto part) MAD_ALWAYS_INLINE {
        const auto next = update(i);
        s.set(i, next);
        out.part[part] = L::mul_add(L::all(r[i]), next, out.part[part]);
      });
      L::store(o.row(t), out.total(), columns);
    } else {
      s.for_rows([&](auto i, auto) MAD_ALWAYS_INLINE { s.set(i, update(i)); });
    }
  }
  s.keep();
}

/// Values in the lanes, last token first: takes `d_state` (dk, register), the gradient of the last state, to that of
/// the first. Writes the gradients of v and of p.
template <int KeyWidth, class T>
void rank_one_reverse(Index length, Index key_width, Index columns, const RankOneVectors<T>& in, View<const T> d_o,
                      T* d_state, View<T> d_v, View<T> d_p) {
  using L = Lanes<T>;
  using State = StateColumns<KeyWidth, T>;
  State s(d_state, key_width);
  for (Index t = length - 1; t >= 0; --t) {
    const T *r = in.r.row(t), *w = in.w.row(t), *k = in.k.row(t), *a = in.a.row(t), *b = in.b.row(t);
    const auto gradient = L::load(d_o.row(t), columns);
    typename State::Sum to_v, to_p;
    s.for_rows([&](auto i, auto part) MAD_ALWAYS_INLINE {
      const auto g = L::mul_add(L::all(r[i]), gradient, s.get(i));
      s.set(i, g);
      to_v.part[part] = L::mul_add(L::all(k[i]), g, to_v.part[part]);
      to_p.part[part] = L::mul_add(L::all(b[i]), g, to_p.part[part]);
    });
    const auto read = to_p.total();
    L::store(d_v.row(t), to_v.total(), columns);
    L::store(d_p.row(t), read, columns);
    s.for_rows([&](auto i, auto)
                   MAD_ALWAYS_INLINE { s.set(i, L::mul_add(L::all(a[i]), read, L::mul(L::all(w[i]), s.get(i)))); });
  }
  s.keep();
}

/// Keys in the lanes: one token's update of `s` (dv, register) when p is known.
template <class State, class Packet, class T>
MAD_ALWAYS_INLINE inline Packet rank_one_next(const State& s, Index j, const Packet& w, const Packet& k,
                                              const Packet& b, const T* v, const T* p) {
  using L = Lanes<T>;
  const auto decayed = L::mul(w, s.get(j));
  return L::mul_add(b, L::all(p[j]), L::mul_add(k, L::all(v[j]), decayed));
}

/// Keys in the lanes: takes `state` (dv, register) through all tokens; rows of keys are whole registers.
template <int ValueWidth, class T>
void rank_one_replay(Index length, Index value_width, const RankOneVectors<T>& in, View<const T> p, T* state) {
  using L = Lanes<T>;
  StateColumns<ValueWidth, T> s(state, value_width);
  for (Index t = 0; t < length; ++t) {
    const auto w = L::load(in.w.row(t)), k = L::load(in.k.row(t)), b = L::load(in.b.row(t));
    const T *v = in.v.row(t), *found = p.row(t);
    s.for_rows([&](auto j, auto) MAD_ALWAYS_INLINE { s.set(j, rank_one_next(s, j, w, k, b, v, found)); });
  }
  s.keep();
}

/// What the gradients of a head's keys follow from: operands, and what the sweeps over values found.
template <class T>
struct RankOneTape {
  View<const T> p, d_o, d_p;
};

template <class T>
struct RankOneKeyGradients {
  View<T> r, log_w, k, a, b;
};

/// As `rank_one_replay`, and keeps in `tape` (length, dv, register) the state before each token; writes the gradients
/// of r and a.
template <int ValueWidth, class T>
void rank_one_record(Index length, Index value_width, Index columns, const RankOneVectors<T>& in,
                     const RankOneTape<T>& known, T* state, T* tape, const RankOneKeyGradients<T>& out) {
  using L = Lanes<T>;
  using State = StateColumns<ValueWidth, T>;
  State s(state, value_width);
  for (Index t = 0; t < length; ++t, tape += value_width * L::size) {
    const auto w = L::load(in.w.row(t)), k = L::load(in.k.row(t)), b = L::load(in.b.row(t));
    const T *v = in.v.row(t), *p = known.p.row(t), *d_o = known.d_o.row(t), *d_p = known.d_p.row(t);
    typename State::Sum to_r, to_a;
    s.for_rows([&](auto j, auto part) MAD_ALWAYS_INLINE {
      const auto before = s.get(j);
      L::store(tape + j * L::size, before);
      to_a.part[part] = L::mul_add(L::all(d_p[j]), before, to_a.part[part]);
      const auto next = rank_one_next(s, j, w, k, b, v, p);
      s.set(j, next);
      to_r.part[part] = L::mul_add(L::all(d_o[j]), next, to_r.part[part]);
    });
    L::store(out.r.row(t), to_r.total(), columns);
    L::store(out.a.row(t), to_a.total(), columns);
  }
}

/// Keys in the lanes, last token first: takes `d_state` (dv, register) back over the tokens whose states `tape` holds;
/// writes the gradients of log w, k and b.
template <int ValueWidth, class T>
void rank_one_key_gradients(Index length, Index value_width, Index columns, const RankOneVectors<T>& in,
                            const RankOneTape<T>& known, const T* tape, T* d_state, const RankOneKeyGradients<T>& out) {
  using L = Lanes<T>;
  using State = StateColumns<ValueWidth, T>;
  State s(d_state, value_width);
  for (Index t = length - 1; t >= 0; --t) {
    const auto r = L::load(in.r.row(t)), w = L::load(in.w.row(t)), a = L::load(in.a.row(t));
    const T *v = in.v.row(t), *p = known.p.row(t), *d_o = known.d_o.row(t), *d_p = known.d_p.row(t);
    const T* before = tape + t * value_width * L::size;
    typename State::Sum to_w, to_k, to_b;
    s.for_rows([&](auto j, auto part) MAD_ALWAYS_INLINE {
      const auto g = L::mul_add(r, L::all(d_o[j]), s.get(j));
      to_w.part[part] = L::mul_add(g, L::load(before + j * L::size), to_w.part[part]);
      to_k.part[part] = L::mul_add(g, L::all(v[j]), to_k.part[part]);
      to_b.part[part] = L::mul_add(g, L::all(p[j]), to_b.part[part]);
      s.set(j, L::mul_add(a, L::all(d_p[j]), L::mul(w, g)));
    });
    L::store(out.log_w.row(t), L::mul(w, to_w.total()), columns);
    L::store(out.k.row(t), to_k.total(), columns);
    L::store(out.b.row(t), to_b.total(), columns);
  }
  s.keep();
}

}  // namespace mad::cpu::detail
