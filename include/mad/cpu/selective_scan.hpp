// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan of Mamba (Gu and Dao 2023, equations 2 and 4), and its gradients.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/lanes.hpp>
#include <mad/cpu/workspace.hpp>

#include <algorithm>
#include <string>

namespace mad::cpu {

struct ScanSizes {
  Index channels = 1;
  Index states = 1;  ///< per channel
};

/// What a scan reads. Rows are tokens.
template <class T>
struct ScanOperands {
  View<const T> u;                   ///< input (tokens, channels)
  View<const T> dt;                  ///< time step (tokens, channels)
  const T* a;                        ///< continuous-time decay, negative (channels, states)
  View<const T> b;                   ///< input map (tokens, states)
  View<const T> c;                   ///< output map (tokens, states)
  const T* skip;                     ///< direct term D (channels), or null
  const T* initial_state = nullptr;  ///< (batch, channels, states), or null for zero
};

/// Where the gradients of a scan go: overwritten, except those of `a` and `skip`, which are added to.
template <class T>
struct ScanGradients {
  View<T> u, dt;
  T* a;
  View<T> b, c;
  T* skip;                     ///< null exactly when the operand is
  T* initial_state = nullptr;  ///< (batch, channels, states), overwritten, or null
};

namespace detail {

/// States of a channel are independent of each other, so they are scanned in groups that fit into registers.
inline constexpr int scan_group = Lanes<float>::registers >= 32 ? 8 : 4;

/// The backward pass keeps two packets per token, state and register of channels for this many tokens times states;
/// longer sequences are cut into chunks, and the states at their borders are kept instead.
inline constexpr Index scan_chunk_states = 512;

inline void check_scan(const ScanSizes& sizes, int states) {
  if (sizes.channels < 1 || sizes.states < 1 || (states != 0 && sizes.states != states)) {
    throw UsageError("selective scan: sizes do not fit: channels " + std::to_string(sizes.channels) + ", states " +
                     std::to_string(sizes.states) +
                     (states > 0 ? " (compiled for " + std::to_string(states) + ")" : ""));
  }
}

/// A group of states of one call: `Group` states from `first` on, in registers of channels ("panels").
template <int Group, class T>
class ScanGroup {
public:
  using L = Lanes<T>;
  using Packet = typename L::Packet;

  ScanGroup(const Shape& shape, const ScanSizes& sizes, const ScanOperands<T>& in, Index first)
      : shape_(shape), sizes_(sizes), in_(in), first_(first), panels_((sizes.channels + L::size - 1) / L::size) {}

  void forward(View<T> y, T* final_state) const {
    for (Index b = 0; b < shape_.batch; ++b) {
      for (Index p = 0; p < panels_; ++p) {
        Packet a[Group], state[Group];
        load_transposed(in_.a, 0, p, a);
        load_initial(b, p, state);
        const Packet skip = in_.skip ? L::load(in_.skip + p * L::size, count(p)) : L::zero();
        for (Index row = b * shape_.length; row < (b + 1) * shape_.length; ++row) {
          const Packet dt = token(in_.dt, row, p), u = token(in_.u, row, p);
          advance(a, dt, L::mul(dt, u), in_.b.row(row) + first_, state);
          const T* c = in_.c.row(row) + first_;
          T* out = y.row(row) + p * L::size;
          Packet sum = first_ == 0 ? L::mul(skip, u) : L::load(out, count(p));
          unroll<Group>([&](auto n) MAD_ALWAYS_INLINE { sum = L::mul_add(state[n], L::all(c[n]), sum); });
          L::store(out, sum, count(p));
        }
        if (final_state) store_transposed(final_state, b, p, state);
      }
    }
  }

  void backward(View<const T> d_y, const T* d_final_state, const ScanGradients<T>& out, Workspace& workspace) const {
    Workspace::Frame frame(workspace);
    const Index chunk = std::clamp<Index>(scan_chunk_states / Group, 1, shape_.length);
    const Index chunks = (shape_.length + chunk - 1) / chunk;
    const Index registers = panels_ * packets;  // elements of one packet per state and panel
    T* borders = frame.template take<T>(chunks * registers);
    T* d_state = frame.template take<T>(registers);
    T* d_a = frame.template take<T>(registers);
    T* d_skip = frame.template take<T>(panels_ * L::size);
    T* tape = frame.template take<T>(2 * chunk * packets);
    T* d_maps = frame.template take<T>(2 * chunk * packets);
    std::fill_n(d_a, registers, T(0));
    std::fill_n(d_skip, panels_ * L::size, T(0));
    for (Index b = 0; b < shape_.batch; ++b) {
      for (Index p = 0; p < panels_; ++p) {
        find_borders(b, p, chunk, chunks, borders + p * packets, registers);
        Packet last[Group];
        unroll<Group>([&](auto n) MAD_ALWAYS_INLINE { last[n] = L::zero(); });
        if (d_final_state) load_transposed(d_final_state, b, p, last);
        store_packets(d_state + p * packets, last);
      }
      for (Index k = chunks - 1; k >= 0; --k) {
        const Index begin = b * shape_.length + k * chunk;
        const Index end = std::min(begin + chunk, (b + 1) * shape_.length);
        std::fill_n(d_maps, 2 * (end - begin) * packets, T(0));
        for (Index p = 0; p < panels_; ++p) {
          record(begin, end, p, borders + k * registers + p * packets, tape);
          reverse(begin, end, p, tape, d_y, out, d_maps, d_state + p * packets, d_a + p * packets,
                  d_skip + p * L::size);
        }
        for (Index row = begin; row < end; ++row) {
          const T* sums = d_maps + 2 * (row - begin) * packets;
          for (Index n = 0; n < Group; ++n) {
            out.b.row(row)[first_ + n] = L::sum(L::load(sums + 2 * n * L::size));
            out.c.row(row)[first_ + n] = L::sum(L::load(sums + (2 * n + 1) * L::size));
          }
        }
      }
      if (!out.initial_state) continue;
      for (Index p = 0; p < panels_; ++p) {
        Packet first[Group];
        load_packets(d_state + p * packets, first);
        store_transposed(out.initial_state, b, p, first);
      }
    }
    for (Index p = 0; p < panels_; ++p) {
      for (Index i = 0; i < count(p); ++i) {
        for (Index n = 0; n < Group; ++n) {
          out.a[(p * L::size + i) * sizes_.states + first_ + n] += d_a[p * packets + n * L::size + i];
        }
        if (first_ == 0 && out.skip) out.skip[p * L::size + i] += d_skip[p * L::size + i];
      }
    }
  }

private:
  static constexpr Index packets = Group * L::size;  // elements of one packet per state

  Index count(Index panel) const { return std::min(L::size, sizes_.channels - panel * L::size); }
  Packet token(View<const T> x, Index row, Index panel) const {
    return L::load(x.row(row) + panel * L::size, count(panel));
  }

  static void load_packets(const T* from, Packet* to) {
    unroll<Group>([&](auto n) MAD_ALWAYS_INLINE { to[n] = L::load(from + n * L::size); });
  }
  static void store_packets(T* to, const Packet* from) {
    unroll<Group>([&](auto n) MAD_ALWAYS_INLINE { L::store(to + n * L::size, from[n]); });
  }

  /// Reads (.., channels, states) of sequence `b`; lanes beyond the last channel become zero.
  void load_transposed(const T* from, Index b, Index panel, Packet* to) const {
    alignas(64) T values[packets] = {};
    for (Index i = 0; i < count(panel); ++i) {
      const T* channel = from + (b * sizes_.channels + panel * L::size + i) * sizes_.states + first_;
      for (Index n = 0; n < Group; ++n) values[n * L::size + i] = channel[n];
    }
    load_packets(values, to);
  }
  void store_transposed(T* to, Index b, Index panel, const Packet* from) const {
    alignas(64) T values[packets];
    store_packets(values, from);
    for (Index i = 0; i < count(panel); ++i) {
      T* channel = to + (b * sizes_.channels + panel * L::size + i) * sizes_.states + first_;
      for (Index n = 0; n < Group; ++n) channel[n] = values[n * L::size + i];
    }
  }
  void load_initial(Index b, Index panel, Packet* state) const {
    unroll<Group>([&](auto n) MAD_ALWAYS_INLINE { state[n] = L::zero(); });
    if (in_.initial_state) load_transposed(in_.initial_state, b, panel, state);
  }

  /// One step: `state = exp(dt a) state + input b`, `input = dt u`.
  static MAD_ALWAYS_INLINE inline void advance(const Packet* a, const Packet& dt, const Packet& input, const T* b,
                                               Packet* state) {
    unroll<Group>([&](auto n) MAD_ALWAYS_INLINE {
      state[n] = L::mul_add(input, L::all(b[n]), L::mul(L::exp(L::mul(dt, a[n])), state[n]));
    });
  }

  /// The states before every chunk, `distance` elements apart.
  void find_borders(Index b, Index panel, Index chunk, Index chunks, T* borders, Index distance) const {
    Packet a[Group], state[Group];
    load_transposed(in_.a, 0, panel, a);
    load_initial(b, panel, state);
    store_packets(borders, state);
    for (Index k = 1; k < chunks; ++k) {
      const Index begin = b * shape_.length + (k - 1) * chunk;
      for (Index row = begin; row < begin + chunk; ++row) {
        const Packet dt = token(in_.dt, row, panel);
        advance(a, dt, L::mul(dt, token(in_.u, row, panel)), in_.b.row(row) + first_, state);
      }
      store_packets(borders + k * distance, state);
    }
  }

  /// Runs a chunk forward and keeps, per row and state, the decay and the decayed state: the state is that plus input.
  void record(Index begin, Index end, Index panel, const T* border, T* tape) const {
    Packet a[Group], state[Group];
    load_transposed(in_.a, 0, panel, a);
    load_packets(border, state);
    for (Index row = begin; row < end; ++row, tape += 2 * packets) {
      const Packet dt = token(in_.dt, row, panel), input = L::mul(dt, token(in_.u, row, panel));
      const T* b = in_.b.row(row) + first_;
      unroll<Group>([&](auto n) MAD_ALWAYS_INLINE {
        const Packet decay = L::exp(L::mul(dt, a[n]));
        const Packet decayed = L::mul(decay, state[n]);
        L::store(tape + 2 * n * L::size, decay);
        L::store(tape + (2 * n + 1) * L::size, decayed);
        state[n] = L::mul_add(input, L::all(b[n]), decayed);
      });
    }
  }

  /// Runs a chunk backward. `d_maps` gathers, per row and state and still per lane, the gradients of `b` and `c`;
  /// `d_state` carries the gradient of the state across chunks.
  void reverse(Index begin, Index end, Index panel, const T* tape, View<const T> d_y, const ScanGradients<T>& out,
               T* d_maps, T* d_state, T* d_a, T* d_skip) const {
    Packet a[Group], carry[Group], sum_a[Group];
    load_transposed(in_.a, 0, panel, a);
    load_packets(d_state, carry);
    load_packets(d_a, sum_a);
    const Packet skip = in_.skip ? L::load(in_.skip + panel * L::size, count(panel)) : L::zero();
    Packet sum_skip = L::load(d_skip);
    for (Index row = end - 1; row >= begin; --row) {
      const Packet gradient = token(d_y, row, panel), dt = token(in_.dt, row, panel), u = token(in_.u, row, panel);
      const Packet input = L::mul(dt, u);
      const T* b = in_.b.row(row) + first_;
      const T* c = in_.c.row(row) + first_;
      const T* kept = tape + 2 * (row - begin) * packets;
      T* maps = d_maps + 2 * (row - begin) * packets;
      Packet d_input = L::zero(), d_dt = L::zero();
      unroll<Group>([&](auto n) MAD_ALWAYS_INLINE {
        const Packet decayed = L::load(kept + (2 * n + 1) * L::size), b_n = L::all(b[n]);
        const Packet state = L::mul_add(input, b_n, decayed);
        const Packet d = L::mul_add(gradient, L::all(c[n]), carry[n]);
        T* d_b = maps + 2 * n * L::size;
        T* d_c = d_b + L::size;
        L::store(d_b, L::mul_add(d, input, L::load(d_b)));
        L::store(d_c, L::mul_add(gradient, state, L::load(d_c)));
        d_input = L::mul_add(d, b_n, d_input);
        const Packet d_exponent = L::mul(d, decayed);
        d_dt = L::mul_add(d_exponent, a[n], d_dt);
        sum_a[n] = L::mul_add(d_exponent, dt, sum_a[n]);
        carry[n] = L::mul(d, L::load(kept + 2 * n * L::size));
      });
      Packet d_u = L::mul(dt, d_input);
      d_dt = L::mul_add(u, d_input, d_dt);
      T* out_u = out.u.row(row) + panel * L::size;
      T* out_dt = out.dt.row(row) + panel * L::size;
      if (first_ == 0) {
        d_u = L::mul_add(gradient, skip, d_u);
        sum_skip = L::mul_add(gradient, u, sum_skip);
      } else {
        d_u = L::add(d_u, L::load(out_u, count(panel)));
        d_dt = L::add(d_dt, L::load(out_dt, count(panel)));
      }
      L::store(out_u, d_u, count(panel));
      L::store(out_dt, d_dt, count(panel));
    }
    store_packets(d_state, carry);
    store_packets(d_a, sum_a);
    L::store(d_skip, sum_skip);
  }

  Shape shape_;
  ScanSizes sizes_;
  ScanOperands<T> in_;
  Index first_, panels_;
};

/// Calls `body(group size as a constant, first state)` for groups that cover `states`. `States` is their number, or 0.
template <int States, class Body>
void for_scan_groups(Index states, const Body& body) {
  constexpr int largest = States == 0 ? 4 : std::min(States, scan_group);
  Index first = 0;
  for (; first + largest <= states; first += largest) body(std::integral_constant<int, largest>{}, first);
  if constexpr (States == 0 || States % largest != 0) {
    for (; first < states; ++first) body(std::integral_constant<int, 1>{}, first);
  }
}

}  // namespace detail

/// `S_t[c,n] = exp(dt_t[c] a[c,n]) S_{t-1}[c,n] + dt_t[c] b_t[n] u_t[c]`, `y_t[c] = sum_n S_t[c,n] c_t[n] + skip[c]
/// u_t[c]`. `y` (tokens, channels) and `final_state` (batch, channels, states; null if not wanted) are overwritten.
/// `States` is `sizes.states`, or 0 to take it at run time.
template <int States = 0, class T>
void selective_scan_forward(const Shape& shape, const ScanSizes& sizes, const ScanOperands<T>& in, View<T> y,
                            T* final_state = nullptr) {
  detail::check_scan(sizes, States);
  detail::for_scan_groups<States>(sizes.states, [&](auto group, Index first) {
    detail::ScanGroup<group, T>(shape, sizes, in, first).forward(y, final_state);
  });
}

/// Gradients of `selective_scan_forward`; the states are computed again. `d_final_state` (batch, channels, states) is
/// the gradient of the final state, null for zero.
template <int States = 0, class T>
void selective_scan_backward(const Shape& shape, const ScanSizes& sizes, const ScanOperands<T>& in, View<const T> d_y,
                             const ScanGradients<T>& out, Workspace& workspace, const T* d_final_state = nullptr) {
  detail::check_scan(sizes, States);
  detail::for_scan_groups<States>(sizes.states, [&](auto group, Index first) {
    detail::ScanGroup<group, T>(shape, sizes, in, first).backward(d_y, d_final_state, out, workspace);
  });
}

}  // namespace mad::cpu
