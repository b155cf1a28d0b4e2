// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One tile of a matrix state that stays in registers while it passes over tokens: the loop that the linear recurrence
/// and all its gradients are.
///
/// A recurrence "add a_t^T b_t, decay, read c_t" has rows (the columns of a and c) and lanes (the columns of b and of
/// what is read). With the roles of query, key, value and d_output exchanged, and time reversed, it is
///
///     what is read   a (rows)  b (lanes)  c (rows)  time
///     output         key       value      query     forwards
///     d_query        value     key        d_output  forwards
///     d_key          d_output  query      value     backwards
///     d_value        query     d_output   key       backwards
///
/// so that every sum over the state runs along registers, never across their lanes.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/packets/lanes.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>

namespace mad::cpu::recurrence_detail {

/// Columns of one head over a run of tokens, cut into panels of one register: column c of token t lies at
/// `data[t * row_stride + c / W * panel_stride + c % W]`, W lanes. A negative row stride runs backwards in time.
template <class T>
struct Panels {
  T* data = nullptr;
  Index row_stride = 0;
  Index panel_stride = 0;

  T* at(Index token, Index panel) const { return data + token * row_stride + panel * panel_stride; }
  Panels reversed(Index tokens) const { return {at(tokens - 1, 0), -row_stride, panel_stride}; }
  template <class U>
  requires(std::is_same_v<U, const T> && !std::is_const_v<T>) constexpr operator Panels<U>() const {
    return {data, row_stride, panel_stride};
  }
};

/// Panels that `columns` fill.
template <class T>
constexpr Index panels_for(Index columns) {
  return (columns + Lanes<T>::size - 1) / Lanes<T>::size;
}
/// Columns together with those that fill the last panel; these are zero.
template <class T>
constexpr Index padded(Index columns) {
  return panels_for<T>(columns) * Lanes<T>::size;
}

/// How the state decays from token to token.
enum class SweepDecay {
  none,
  all,    ///< one number per token
  rows,   ///< one per row of the state
  lanes,  ///< one per lane
};

/// What happens to the state at each token, in order.
enum class SweepOrder { add_read, decay_add_read, read_decay_add, add_read_decay };

/// What else a sweep does.
enum class SweepTask {
  read,    ///< nothing
  update,  ///< less: only the state is wanted
  record,  ///< keeps the decayed state of every step, before anything is added to it
  pair,    ///< multiplies the states of a sweep backwards with those recorded and sums over rows
};

/// Tokens of a chunk in the chunked form: the decay of the state is one multiplication per chunk and the tokens of a
/// chunk meet each other in pairs.
inline constexpr Index chunk_tokens = 8;

/// A sweep over `tokens` tokens: `out_t = scale c_t S`. A step is a token, or where chunks are swept, a chunk.
template <class T>
struct Sweep {
  Index tokens;
  Panels<const T> a;      ///< rows
  Panels<const T> b;      ///< lanes
  Panels<const T> c;      ///< rows
  Panels<const T> decay;  ///< per step; rows, lanes, or one number
  Panels<T> out;          ///< lanes
  T scale;
  Index first_chunk = chunk_tokens;  ///< tokens of the first chunk; later ones have `chunk_tokens`
  T* recorded = nullptr;             ///< a tile per step, for one tile of the state at a time
  Panels<T> paired{};                ///< per step; lanes

  Index chunks() const { return (tokens + chunk_tokens - 1) / chunk_tokens; }
  /// The same sweep backwards in time; it takes `steps` steps.
  Sweep reversed(Index steps) const {
    return {tokens,
            a.reversed(tokens),
            b.reversed(tokens),
            c.reversed(tokens),
            decay.reversed(steps),
            out.reversed(tokens),
            scale,
            tokens - (chunks() - 1) * chunk_tokens,
            recorded,
            paired.reversed(steps)};
  }
};

/// Where the tile's decay factors are.
template <SweepDecay Decay, class T>
MAD_ALWAYS_INLINE inline const T* decay_factors(const Sweep<T>& sweep, Index step, Index row_panel, Index lane_panel) {
  if constexpr (Decay == SweepDecay::none) return nullptr;
  if constexpr (Decay == SweepDecay::all) return sweep.decay.at(step, 0);
  if constexpr (Decay == SweepDecay::rows) return sweep.decay.at(step, row_panel);
  if constexpr (Decay == SweepDecay::lanes) return sweep.decay.at(step, lane_panel);
}

/// The tile of the first `Rows` rows from panel `row_panel` and the lanes of `lane_panel`; `state` is its `Rows`
/// packets. What is read is added to `sweep.out` for all but the first panel of rows.
template <int Rows, SweepDecay Decay, SweepOrder Order, SweepTask Task, class T>
[[gnu::noinline]] void sweep_tile_tokens(const Sweep<T>& sweep, Index row_panel, Index lane_panel, T* state) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  constexpr Index tile = L::size * L::size;
  const bool accumulate = row_panel > 0;
  const T* a = sweep.a.at(0, row_panel);
  const T* b = sweep.b.at(0, lane_panel);
  const T* c = sweep.c.at(0, row_panel);
  const T* w = decay_factors<Decay>(sweep, 0, row_panel, lane_panel);
  T* out = sweep.out.at(0, lane_panel);
  T* recorded = Task == SweepTask::pair ? sweep.recorded + (sweep.tokens - 1) * tile : sweep.recorded;
  T* paired = Task == SweepTask::pair ? sweep.paired.at(0, lane_panel) : nullptr;
  const Packet scale = L::all(sweep.scale);

  Packet s[Rows];
  MAD_UNROLL
  for (int r = 0; r < Rows; ++r) s[r] = L::load(state + r * L::size);
  for (Index t = 0; t < sweep.tokens; ++t) {
    const Packet lanes = L::load(b);
    [[maybe_unused]] Packet factor;
    if constexpr (Decay == SweepDecay::all) factor = L::all(*w);
    if constexpr (Decay == SweepDecay::lanes) factor = L::load(w);
    Packet sum[2] = {L::zero(), L::zero()}, pairs[2] = {L::zero(), L::zero()};
    const auto decay = [&](int r) MAD_ALWAYS_INLINE {
      if constexpr (Decay == SweepDecay::rows) s[r] = L::mul(s[r], L::all(w[r]));
      if constexpr (Decay == SweepDecay::lanes || Decay == SweepDecay::all) s[r] = L::mul(s[r], factor);
      if constexpr (Task == SweepTask::record) L::store(recorded + r * L::size, s[r]);
    };
    const auto add = [&](int r) MAD_ALWAYS_INLINE { s[r] = L::mul_add(L::all(a[r]), lanes, s[r]); };
    const auto read = [&](int r) MAD_ALWAYS_INLINE {
      if constexpr (Task != SweepTask::update) sum[r % 2] = L::mul_add(L::all(c[r]), s[r], sum[r % 2]);
      if constexpr (Task == SweepTask::pair)
        pairs[r % 2] = L::mul_add(L::load(recorded + r * L::size), s[r], pairs[r % 2]);
    };
    MAD_UNROLL
    for (int r = 0; r < Rows; ++r) {
      if constexpr (Order == SweepOrder::read_decay_add) {
        read(r);
        decay(r);
        add(r);
      } else {
        if constexpr (Order == SweepOrder::decay_add_read) decay(r);
        add(r);
        read(r);
        if constexpr (Order == SweepOrder::add_read_decay) decay(r);
      }
    }
    if constexpr (Task != SweepTask::update) {
      const Packet total = L::mul(scale, L::add(sum[0], sum[1]));
      L::store(out, accumulate ? L::add(L::load(out), total) : total);
      c += sweep.c.row_stride;
      out += sweep.out.row_stride;
    }
    if constexpr (Task == SweepTask::record) recorded += tile;
    if constexpr (Task == SweepTask::pair) {
      const Packet total = L::mul(scale, L::add(pairs[0], pairs[1]));
      L::store(paired, accumulate ? L::add(L::load(paired), total) : total);
      paired += sweep.paired.row_stride;
      recorded -= tile;
    }
    a += sweep.a.row_stride;
    b += sweep.b.row_stride;
    if constexpr (Decay != SweepDecay::none) w += sweep.decay.row_stride;
  }
  MAD_UNROLL
  for (int r = 0; r < Rows; ++r) L::store(state + r * L::size, s[r]);
}

/// The same tile over chunks: all tokens of a chunk read the state before it, then it decays once and all are added.
template <int Rows, SweepDecay Decay, SweepTask Task, class T>
[[gnu::noinline]] void sweep_tile_chunks(const Sweep<T>& sweep, Index row_panel, Index lane_panel, T* state) {
  using L = Lanes<T>;
  using Packet = typename L::Packet;
  constexpr Index tile = L::size * L::size;
  const bool accumulate = row_panel > 0;
  const Packet scale = L::all(sweep.scale);
  T* recorded = sweep.recorded;
  if constexpr (Task == SweepTask::pair) recorded += (sweep.chunks() - 1) * tile;
  Packet s[Rows];
  MAD_UNROLL
  for (int r = 0; r < Rows; ++r) s[r] = L::load(state + r * L::size);
  Index begin = 0;
  for (Index chunk = 0; begin < sweep.tokens; ++chunk) {
    const Index end = std::min(chunk == 0 ? sweep.first_chunk : begin + chunk_tokens, sweep.tokens);
    if constexpr (Task != SweepTask::update) {
      const T* c = sweep.c.at(begin, row_panel);
      T* out = sweep.out.at(begin, lane_panel);
      for (Index t = begin; t < end; ++t) {
        Packet sum[2] = {L::zero(), L::zero()};
        MAD_UNROLL
        for (int r = 0; r < Rows; ++r) sum[r % 2] = L::mul_add(L::all(c[r]), s[r], sum[r % 2]);
        const Packet total = L::mul(scale, L::add(sum[0], sum[1]));
        L::store(out, accumulate ? L::add(L::load(out), total) : total);
        c += sweep.c.row_stride;
        out += sweep.out.row_stride;
      }
    }
    if constexpr (Task == SweepTask::pair) {
      Packet pairs = L::zero();
      MAD_UNROLL
      for (int r = 0; r < Rows; ++r) pairs = L::mul_add(L::load(recorded + r * L::size), s[r], pairs);
      T* paired = sweep.paired.at(chunk, lane_panel);
      const Packet total = L::mul(scale, pairs);
      L::store(paired, accumulate ? L::add(L::load(paired), total) : total);
      recorded -= tile;
    }
    const T* w = decay_factors<Decay>(sweep, chunk, row_panel, lane_panel);
    MAD_UNROLL
    for (int r = 0; r < Rows; ++r) {
      s[r] = L::mul(s[r], Decay == SweepDecay::rows ? L::all(w[r]) : L::load(w));
      if constexpr (Task == SweepTask::record) L::store(recorded + r * L::size, s[r]);
    }
    if constexpr (Task == SweepTask::record) recorded += tile;
    const T* a = sweep.a.at(begin, row_panel);
    const T* b = sweep.b.at(begin, lane_panel);
    for (Index t = begin; t < end; ++t) {
      const Packet lanes = L::load(b);
      MAD_UNROLL
      for (int r = 0; r < Rows; ++r) s[r] = L::mul_add(L::all(a[r]), lanes, s[r]);
      a += sweep.a.row_stride;
      b += sweep.b.row_stride;
    }
    begin = end;
  }
  MAD_UNROLL
  for (int r = 0; r < Rows; ++r) L::store(state + r * L::size, s[r]);
}

/// Calls tile(rows of the tile, row panel, lane panel, offset) for all tiles of a state of `rows` x `lanes` columns,
/// stored panel of lanes by panel of lanes, in each `padded(rows)` rows of one packet. Of the last panel of rows only
/// as many quarters as have columns are computed, or as many halves where there is a decay: with a normaliser, hence
/// without decay, one row more than a power of two is usual.
template <SweepDecay Decay, class T, class Tile>
void for_tiles(Index rows, Index lanes, const Tile& tile) {
  constexpr int width = static_cast<int>(Lanes<T>::size);
  constexpr int part = std::max(width / (Decay == SweepDecay::none ? 4 : 2), 1);
  Index offset = 0;
  for (Index l = 0; l < panels_for<T>(lanes); ++l) {
    for (Index r = 0; r < panels_for<T>(rows); ++r, offset += width * width) {
      const Index left = rows - r * width;
      unroll<width / part>([&](auto i) MAD_ALWAYS_INLINE {
        constexpr int here = (i + 1) * part;
        const bool fits = left <= here || here == width;
        if (fits && left > here - part) tile(std::integral_constant<int, here>{}, r, l, offset);
      });
    }
  }
}

/// Sweeps the whole state token by token.
template <SweepDecay Decay, SweepOrder Order, SweepTask Task, class T>
void sweep_tokens(const Sweep<T>& sweep, Index rows, Index lanes, T* state) {
  for_tiles<Decay, T>(rows, lanes, [&]<int Rows>(std::integral_constant<int, Rows>, Index r, Index l, Index offset) {
    sweep_tile_tokens<Rows, Decay, Order, Task, T>(sweep, r, l, state + offset);
  });
}

/// Sweeps the whole state chunk by chunk.
template <SweepDecay Decay, SweepTask Task, class T>
void sweep_chunks(const Sweep<T>& sweep, Index rows, Index lanes, T* state) {
  for_tiles<Decay, T>(rows, lanes, [&]<int Rows>(std::integral_constant<int, Rows>, Index r, Index l, Index offset) {
    sweep_tile_chunks<Rows, Decay, Task, T>(sweep, r, l, state + offset);
  });
}

/// For each tile in turn, a recorded sweep forwards of `state` and one backwards of `d_state` that is paired with it.
template <SweepDecay Decay, SweepOrder Order, SweepOrder Backwards, class T>
void sweep_tokens_paired(const Sweep<T>& sweep, const Sweep<T>& backwards, Index rows, Index lanes, T* state,
                         T* d_state) {
  for_tiles<Decay, T>(rows, lanes, [&]<int Rows>(std::integral_constant<int, Rows>, Index r, Index l, Index offset) {
    sweep_tile_tokens<Rows, Decay, Order, SweepTask::record, T>(sweep, r, l, state + offset);
    sweep_tile_tokens<Rows, Decay, Backwards, SweepTask::pair, T>(backwards, r, l, d_state + offset);
  });
}
template <SweepDecay Decay, class T>
void sweep_chunks_paired(const Sweep<T>& sweep, const Sweep<T>& backwards, Index rows, Index lanes, T* state,
                         T* d_state) {
  for_tiles<Decay, T>(rows, lanes, [&]<int Rows>(std::integral_constant<int, Rows>, Index r, Index l, Index offset) {
    sweep_tile_chunks<Rows, Decay, SweepTask::record, T>(sweep, r, l, state + offset);
    sweep_tile_chunks<Rows, Decay, SweepTask::pair, T>(backwards, r, l, d_state + offset);
  });
}

}  // namespace mad::cpu::recurrence_detail
