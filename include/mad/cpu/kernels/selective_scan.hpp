// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan of Mamba (Gu and Dao 2023, equations 2 and 4), and its gradients.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/packets/lanes.hpp>

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
  View<T> y{};                 ///< the output of the forward pass, computed again, or empty
};

/// Room for the states that the forward pass leaves for the backward pass, shared evenly by the sequences. In too
/// little of it none are kept, and the backward pass computes them again.
template <class T>
struct KeptStates {
  T* data = nullptr;
  Index size = 0;  ///< numbers
};

namespace detail {

/// States of a channel are independent of each other, so they are scanned in groups that fit into registers.
template <int States>
inline constexpr int scan_group = States == 0 ? 4 : std::min(States, Lanes<float>::registers >= 32 ? 8 : 4);

/// Tokens scanned for all channels before the next ones: the rows stay in the second level of cache while registers of
/// channels pass over them, and so does what the backward pass keeps per token and state.
constexpr Index scan_chunk(const Shape& shape, const ScanSizes& sizes, Index group) {
  return std::clamp<Index>(std::min<Index>(1024 / group, 65536 / sizes.channels), 1, shape.length);
}

/// The chunks of a sequence, and where the states before them are kept.
template <class T>
struct ScanChunks {
  Index length, count, states;
  T* kept;  ///< of the first sequence, null where there is no room

  ScanChunks(const Shape& shape, const ScanSizes& sizes, Index group, Index states_size, KeptStates<T> room)
      : length(scan_chunk(shape, sizes, group)),
        count((shape.length + length - 1) / length),
        states(states_size),
        kept(shape.batch * (count - 1) * states <= room.size ? room.data : nullptr) {}

  /// The states before chunk \p k > 0 of sequence \p b.
  T* before(Index b, Index k) const { return kept + (b * (count - 1) + k - 1) * states; }
};

inline void check_scan(const ScanSizes& sizes, int states) {
  if (sizes.channels < 1 || sizes.states < 1 || (states != 0 && sizes.states != states)) {
    throw UsageError(message({"selective scan: sizes do not fit: channels ", sizes.channels, ", states ", sizes.states,
                              states > 0 ? message({" (compiled for ", states, ")"}) : ""}));
  }
}

/// `Group` states from `first` on, in registers of channels ("panels"). The state of a panel, and whatever has its
/// shape, is `sizes.states` packets; a pointer to it points at the group's first.
template <int Group, class T>
class ScanGroup {
public:
  using L = Lanes<T>;
  using Packet = typename L::Packet;

  ScanGroup(const ScanSizes& sizes, const ScanOperands<T>& in, Index first)
      : sizes_(sizes), in_(in), first_(first), panels_((sizes.channels + L::size - 1) / L::size) {}

  /// The states of sequence `b` in `from` (batch, channels, states), or zero if it is null.
  void load_states(const T* from, Index b, T* states) const {
    for (Index p = 0; p < panels_; ++p) {
      Packet state[Group];
      MAD_UNROLL
      for (int n = 0; n < Group; ++n) state[n] = L::zero();
      if (from) load_transposed(from, b, p, state);
      store_packets(at(states, p), state);
    }
  }
  void store_states(const T* states, Index b, T* to) const {
    for (Index p = 0; p < panels_; ++p) {
      Packet state[Group];
      load_packets(at(states, p), state);
      store_transposed(to, b, p, state);
    }
  }
  void add_states(const T* states, T* to) const {
    for (Index p = 0; p < panels_; ++p) {
      for (Index i = 0; i < count(p); ++i) {
        for (Index n = 0; n < Group; ++n) {
          to[(p * L::size + i) * sizes_.states + first_ + n] += at(states, p)[n * L::size + i];
        }
      }
    }
  }

  /// Takes `states` over rows `begin .. end-1`, from `from` to `to`; writes the output unless `y` is empty.
  void forward(Index begin, Index end, const T* from, T* to, View<T> y) const {
    for (Index p = 0; p < panels_; ++p) {
      Packet a[Group], state[Group];
      load_transposed(in_.a, 0, p, a);
      load_packets(at(from, p), state);
      if (!y.data) {
        for (Index row = begin; row < end; ++row) {
          const Packet dt = token(in_.dt, row, p);
          advance(a, dt, L::mul(dt, token(in_.u, row, p)), in_.b.row(row) + first_, state);
        }
      } else {
        const Packet skip = in_.skip ? L::load(in_.skip + p * L::size, count(p)) : L::zero();
        for (Index row = begin; row < end; ++row) {
          const Packet dt = token(in_.dt, row, p), u = token(in_.u, row, p);
          advance(a, dt, L::mul(dt, u), in_.b.row(row) + first_, state);
          const T* c = in_.c.row(row) + first_;
          T* out = y.row(row) + p * L::size;
          Packet sum = first_ == 0 ? L::mul(skip, u) : L::load(out, count(p));
          MAD_UNROLL
          for (int n = 0; n < Group; ++n) sum = L::mul_add(state[n], L::all(c[n]), sum);
          L::store(out, sum, count(p));
        }
      }
      store_packets(at(to, p), state);
    }
  }

  /// Gradients for rows `begin .. end-1` from the states before them. `d_states` is the gradient of the states after
  /// them and becomes that of the states before; `d_a` and `d_skip` gather per panel. `tape` and `d_maps` are room for
  /// two packets per row and state of the group.
  void backward(Index begin, Index end, const T* states, View<const T> d_y, const ScanGradients<T>& out, T* d_states,
                T* d_a, T* d_skip, T* tape, T* d_maps) const {
    std::fill_n(d_maps, 2 * (end - begin) * packets, T(0));
    for (Index p = 0; p < panels_; ++p) {
      record(begin, end, p, at(states, p), out.y, tape);
      reverse(begin, end, p, tape, d_y, out, d_maps, at(d_states, p), at(d_a, p), d_skip + p * L::size);
    }
    for (Index row = begin; row < end; ++row) {
      const T* sums = d_maps + 2 * (row - begin) * packets;
      for (Index n = 0; n < Group; ++n) {
        out.b.row(row)[first_ + n] = L::sum(L::load(sums + 2 * n * L::size));
        out.c.row(row)[first_ + n] = L::sum(L::load(sums + (2 * n + 1) * L::size));
      }
    }
  }

private:
  static constexpr Index packets = Group * L::size;  // elements of one packet per state

  template <class U>
  U* at(U* states, Index panel) const {
    return states + (panel * sizes_.states + first_) * L::size;
  }
  Index count(Index panel) const { return std::min(L::size, sizes_.channels - panel * L::size); }
  Packet token(View<const T> x, Index row, Index panel) const {
    return L::load(x.row(row) + panel * L::size, count(panel));
  }

  static void load_packets(const T* from, Packet* to) {
    MAD_UNROLL
    for (int n = 0; n < Group; ++n) to[n] = L::load(from + n * L::size);
  }
  static void store_packets(T* to, const Packet* from) {
    MAD_UNROLL
    for (int n = 0; n < Group; ++n) L::store(to + n * L::size, from[n]);
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

  /// One step: `state = exp(dt a) state + input b`, `input = dt u`.
  static MAD_ALWAYS_INLINE inline void advance(const Packet* a, const Packet& dt, const Packet& input, const T* b,
                                               Packet* state) {
    MAD_UNROLL
    for (int n = 0; n < Group; ++n)
      state[n] = L::mul_add(input, L::all(b[n]), L::mul(L::exp(L::mul(dt, a[n])), state[n]));
  }

  /// Runs a chunk forward and keeps, per row and state, the decay and the decayed state: the state is that plus input.
  /// Writes the output unless `y` is empty.
  void record(Index begin, Index end, Index panel, const T* states, View<T> y, T* tape) const {
    Packet a[Group], state[Group];
    load_transposed(in_.a, 0, panel, a);
    load_packets(states, state);
    const Packet skip = in_.skip ? L::load(in_.skip + panel * L::size, count(panel)) : L::zero();
    for (Index row = begin; row < end; ++row, tape += 2 * packets) {
      const Packet dt = token(in_.dt, row, panel), u = token(in_.u, row, panel), input = L::mul(dt, u);
      const T* b = in_.b.row(row) + first_;
      MAD_UNROLL
      for (int n = 0; n < Group; ++n) {
        const Packet decay = L::exp(L::mul(dt, a[n]));
        const Packet decayed = L::mul(decay, state[n]);
        L::store(tape + 2 * n * L::size, decay);
        L::store(tape + (2 * n + 1) * L::size, decayed);
        state[n] = L::mul_add(input, L::all(b[n]), decayed);
      }
      if (!y.data) continue;
      const T* c = in_.c.row(row) + first_;
      T* out = y.row(row) + panel * L::size;
      Packet sum = first_ == 0 ? L::mul(skip, u) : L::load(out, count(panel));
      MAD_UNROLL
      for (int n = 0; n < Group; ++n) sum = L::mul_add(state[n], L::all(c[n]), sum);
      L::store(out, sum, count(panel));
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
      MAD_UNROLL
      for (int n = 0; n < Group; ++n) {
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
      }
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

  ScanSizes sizes_;
  ScanOperands<T> in_;
  Index first_, panels_;
};

/// Calls `body(group, first)` for groups that cover the states. `States` is their number, or 0.
template <int States, class T, class Body>
void for_scan_groups(const ScanSizes& sizes, const ScanOperands<T>& in, const Body& body) {
  constexpr int largest = scan_group<States>;
  Index first = 0;
  for (; first + largest <= sizes.states; first += largest) body(ScanGroup<largest, T>(sizes, in, first));
  if constexpr (States == 0 || States % largest != 0) {
    for (; first < sizes.states; ++first) body(ScanGroup<1, T>(sizes, in, first));
  }
}

/// Elements of the states of all channels, one sequence.
template <class T>
constexpr Index scan_states_size(const ScanSizes& sizes) {
  return (sizes.channels + Lanes<T>::size - 1) / Lanes<T>::size * Lanes<T>::size * sizes.states;
}

}  // namespace detail

/// `S_t[c,n] = exp(dt_t[c] a[c,n]) S_{t-1}[c,n] + dt_t[c] b_t[n] u_t[c]`, `y_t[c] = sum_n S_t[c,n] c_t[n] + skip[c]
/// u_t[c]`. `y` (tokens, channels) and `final_state` (batch, channels, states; null if not wanted) are overwritten.
/// `States` is `sizes.states`, or 0 to take it at run time.
template <int States = 0, class T>
void selective_scan_forward(const Shape& shape, const ScanSizes& sizes, const ScanOperands<T>& in, View<T> y,
                            Workspace& workspace, T* final_state = nullptr, KeptStates<T> keep = {}) {
  detail::check_scan(sizes, States);
  Workspace::Frame frame(workspace);
  const Index size = detail::scan_states_size<T>(sizes);
  const detail::ScanChunks<T> chunks(shape, sizes, detail::scan_group<States>, size, keep);
  T* const states = frame.template take<T>(size);
  const auto for_groups = [&](const auto& body) { detail::for_scan_groups<States>(sizes, in, body); };
  for (Index b = 0; b < shape.batch; ++b) {
    for_groups([&](const auto& group) { group.load_states(in.initial_state, b, states); });
    const Index begin = b * shape.length, end = begin + shape.length;
    const T* from = states;
    for (Index k = 0; k < chunks.count; ++k) {
      T* const to = chunks.kept && k + 1 < chunks.count ? chunks.before(b, k + 1) : states;
      const Index row = begin + k * chunks.length;
      for_groups([&](const auto& group) { group.forward(row, std::min(row + chunks.length, end), from, to, y); });
      from = to;
    }
    if (final_state) for_groups([&](const auto& group) { group.store_states(states, b, final_state); });
  }
}

/// Numbers that steps of one token keep for one sequence.
constexpr Index selective_scan_step_state(const ScanSizes& sizes) { return sizes.channels * sizes.states; }

/// Gradients of `selective_scan_forward`; states are computed again, from those before chunks where they were kept.
/// `d_final_state` (batch, channels, states) is the gradient of the final state, null for zero.
template <int States = 0, class T>
void selective_scan_backward(const Shape& shape, const ScanSizes& sizes, const ScanOperands<T>& in, View<const T> d_y,
                             const ScanGradients<T>& out, Workspace& workspace, const T* d_final_state = nullptr,
                             KeptStates<const T> kept = {}) {
  detail::check_scan(sizes, States);
  Workspace::Frame frame(workspace);
  constexpr Index largest = detail::scan_group<States>;
  const Index size = detail::scan_states_size<T>(sizes), padded = size / sizes.states;
  const detail::ScanChunks<const T> chunks(shape, sizes, largest, size, kept);
  const Index chunk = chunks.length;
  T* states = frame.template take<T>(chunks.kept ? size : chunks.count * size);  // before each chunk
  T* d_states = frame.template take<T>(size);
  T* d_a = frame.template take<T>(size);
  T* d_skip = frame.template take<T>(padded);
  T* tape = frame.template take<T>(2 * chunk * largest * Lanes<T>::size);
  T* d_maps = frame.template take<T>(2 * chunk * largest * Lanes<T>::size);
  std::fill_n(d_a, size, T(0));
  std::fill_n(d_skip, padded, T(0));
  const auto for_groups = [&](const auto& body) { detail::for_scan_groups<States>(sizes, in, body); };
  for (Index b = 0; b < shape.batch; ++b) {
    const Index begin = b * shape.length, end = begin + shape.length;
    for_groups([&](const auto& group) {
      group.load_states(in.initial_state, b, states);
      group.load_states(d_final_state, b, d_states);
    });
    for (Index k = 1; k < chunks.count && !chunks.kept; ++k) {
      for_groups([&](const auto& group) {
        group.forward(begin + (k - 1) * chunk, begin + k * chunk, states + (k - 1) * size, states + k * size, {});
      });
    }
    for (Index k = chunks.count - 1; k >= 0; --k) {
      const T* const before = chunks.kept && k > 0 ? chunks.before(b, k) : states + k * size;
      for_groups([&](const auto& group) {
        const Index from = begin + k * chunk;
        group.backward(from, std::min(from + chunk, end), before, d_y, out, d_states, d_a, d_skip, tape, d_maps);
      });
    }
    if (!out.initial_state) continue;
    for_groups([&](const auto& group) { group.store_states(d_states, b, out.initial_state); });
  }
  for_groups([&](const auto& group) { group.add_states(d_a, out.a); });
  if (!out.skip) return;
  for (Index c = 0; c < sizes.channels; ++c) out.skip[c] += d_skip[c];
}

}  // namespace mad::cpu
