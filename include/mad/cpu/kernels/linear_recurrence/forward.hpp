// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The output of the linear recurrence, in both forms.
#pragma once

#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/linear_recurrence/chunk.hpp>

namespace mad::cpu::recurrence_detail {

/// Where the tile finds the decays of a kind; those per channel lie along `Channel`.
template <class Kind, SweepDecay Channel>
inline constexpr SweepDecay sweep_decay = Kind::decay == RecurrenceDecay::none   ? SweepDecay::none
                                          : Kind::decay == RecurrenceDecay::head ? SweepDecay::all
                                                                                 : Channel;
/// The order of a kind, given that with a decay and without a bonus.
template <class Kind, SweepOrder Order>
inline constexpr SweepOrder sweep_order = Kind::decay == RecurrenceDecay::none ? SweepOrder::add_read
                                          : Kind::bonus                        ? SweepOrder::read_decay_add
                                                                               : Order;

/// Sweeps a state as the kind asks for, by tokens or by chunks.
template <class Kind, SweepOrder Order, SweepDecay Channel, SweepTask Task = SweepTask::read, class T>
void sweep_state(const Sweep<T>& sweep, Index rows, Index lanes, T* state) {
  if constexpr (Kind::chunked) {
    sweep_chunks<Channel, Task>(sweep, rows, lanes, state);
  } else {
    sweep_tokens<sweep_decay<Kind, Channel>, sweep_order<Kind, Order>, Task>(sweep, rows, lanes, state);
  }
}

/// Operands of one head over a run of tokens, in panels, and the memory for them.
template <class Kind, class T>
class HeadRun {
public:
  Panels<const T> query, key, value, decay, weight;  ///< `weight`, the bonus, has one row
  Panels<const T> query_from_before, key_to_behind;  ///< E q and F k, of the chunked form
  ChunkFactors<T> factors;

  /// For runs of at most `run_length` tokens.
  HeadRun(const RecurrenceSizes& sizes, const RecurrenceOperands<T>& in, Index run_length, Workspace::Frame& frame)
      : z_(sizes), in_(in) {
    const Index keys = run_length * padded<T>(z_.key_width);
    T* const room = frame.template take<T>(keys * (Kind::chunked ? 8 : 3) + run_length * padded<T>(z_.state_columns()) +
                                           padded<T>(z_.key_width) + padded<T>(run_length));
    query_room_ = room;
    key_room_ = room + keys;
    decay_room_ = room + 2 * keys;
    T* next = room + 3 * keys;
    if constexpr (Kind::chunked)
      for (T*& part : chunk_room_) {
        part = next;
        next += keys;
      }
    weight_room_ = next;
    token_decay_room_ = weight_room_ + padded<T>(z_.key_width);
    value_room_ = token_decay_room_ + padded<T>(run_length);
  }

  Index tokens() const { return tokens_; }
  Index key_panels() const { return panels_for<T>(z_.key_width); }
  Index value_panels() const { return panels_for<T>(z_.state_columns()); }

  /// Brings `tokens` tokens from `row` on of head h into panels.
  void load(Index h, Index row, Index tokens) {
    tokens_ = tokens;
    const Index group = z_.group_of(h) * z_.key_width;
    query = pack(in_.query.rows_from(row).columns_from(group), tokens, z_.key_width, false, query_room_);
    key = pack(in_.key.rows_from(row).columns_from(group), tokens, z_.key_width, false, key_room_);
    value = pack(in_.value.rows_from(row).columns_from(h * z_.value_width), tokens, z_.value_width, z_.normaliser,
                 value_room_);
    if constexpr (Kind::bonus)
      weight = pack<T>({in_.bonus + h * z_.key_width, 0}, 1, z_.key_width, false, weight_room_);
    constexpr bool per_token = Kind::decay == RecurrenceDecay::head;
    if constexpr (Kind::decay == RecurrenceDecay::none) return;
    decay = decays(z_, in_.log_decay, h, row, tokens, per_token ? token_decay_room_ : decay_room_);
    if constexpr (Kind::chunked) {
      if (per_token) decay = spread_decay(decay, tokens, key_panels(), decay_room_);
      factors = {packed(chunk_room_[0], tokens), packed(chunk_room_[1], tokens),
                 packed(chunk_room_[2], chunks_in(tokens))};
      chunk_factors<Kind::bonus>(decay, tokens, key_panels(), factors);
      const Panels<T> q = packed(chunk_room_[3], tokens), k = packed(chunk_room_[4], tokens);
      multiply<T>(query, factors.from_before, tokens, key_panels(), q);
      multiply<T>(key, factors.to_behind, tokens, key_panels(), k);
      query_from_before = q;
      key_to_behind = k;
    }
  }

  /// q_t . k_t, weighted with the bonus.
  T weighted_score(Index t) const {
    using L = Lanes<T>;
    auto sum = L::zero();
    for (Index p = 0; p < key_panels(); ++p)
      sum = L::mul_add(L::mul(L::load(query.at(t, p)), L::load(weight.at(0, p))), L::load(key.at(t, p)), sum);
    return L::sum(sum);
  }

private:
  RecurrenceSizes z_;
  RecurrenceOperands<T> in_;
  Index tokens_ = 0;
  T *query_room_, *key_room_, *decay_room_, *chunk_room_[5]{}, *weight_room_, *token_decay_room_, *value_room_;
};

/// to_t += factor from_t in all panels.
template <class T>
void add_multiple(T factor, Panels<const T> from, Index t, Index panels, Panels<T> to) {
  using L = Lanes<T>;
  for (Index p = 0; p < panels; ++p)
    L::store(to.at(t, p), L::mul_add(L::all(factor), L::load(from.at(t, p)), L::load(to.at(t, p))));
}

/// Takes the state of one head over the run and writes `out`.
template <class Kind, class T>
void forward_run(const RecurrenceSizes& z, const HeadRun<Kind, T>& run, T* state, Panels<T> out) {
  const T scale = static_cast<T>(z.scale);
  const Index tokens = run.tokens();
  const Sweep<T> sweep{tokens,
                       Kind::chunked ? run.key_to_behind : run.key,
                       run.value,
                       Kind::chunked ? run.query_from_before : run.query,
                       Kind::chunked ? Panels<const T>(run.factors.whole) : run.decay,
                       out,
                       scale};
  sweep_state<Kind, SweepOrder::decay_add_read, SweepDecay::rows>(sweep, z.key_width, z.state_columns(), state);
  if constexpr (Kind::chunked) {
    for_chunks<Kind::bonus>(run.decay, tokens, [&](const auto& chunk) {
      Pairs<T> scores;
      chunk.scores(run.query, run.key, run.weight, run.key_panels(), scale, scores);
      chunk.add_earlier(scores, run.value, run.value_panels(), out);
    });
  } else if constexpr (Kind::bonus) {
    for (Index t = 0; t < tokens; ++t)
      add_multiple(scale * run.weighted_score(t), run.value, t, run.value_panels(), out);
  }
}

template <class Kind, class T>
void forward(const Shape& shape, const RecurrenceSizes& z, const RecurrenceOperands<T>& in, View<T> output,
             Workspace& workspace, T* final_state) {
  check<Kind>(z, in);
  Workspace::Frame frame(workspace);
  const Index columns = z.state_columns(), size = tiles_size<T>(z.key_width, columns);
  HeadRun<Kind, T> run(z, in, run_tokens, frame);
  T* const states = frame.template take<T>(z.heads * size);
  T* const out_room = frame.template take<T>(run_tokens * padded<T>(columns));
  for (Index b = 0; b < shape.batch; ++b) {
    const auto stored = [&](auto* all, Index h) {
      return all == nullptr ? all : all + (b * z.heads + h) * z.key_width * columns;
    };
    for (Index h = 0; h < z.heads; ++h)
      load_state(stored(in.initial_state, h), z.key_width, columns, false, states + h * size);
    for (Index begin = 0; begin < shape.length; begin += run_tokens) {
      const Index tokens = std::min(run_tokens, shape.length - begin), row = b * shape.length + begin;
      for (Index h = 0; h < z.heads; ++h) {
        run.load(h, row, tokens);
        const View<T> rows = output.rows_from(row).columns_from(h * z.value_width);
        const Panels<T> out = room(rows, tokens, z.value_width, z.normaliser, out_room);
        forward_run(z, run, states + h * size, out);
        if (out.data == rows.data) continue;
        unpack<T>(out, tokens, z.value_width, false, rows);
        if (!z.normaliser) continue;
        constexpr Index width = Lanes<T>::size;
        for (Index t = 0; t < tokens; ++t)
          output.row(row + t)[z.heads * z.value_width + h] = out.at(t, z.value_width / width)[z.value_width % width];
      }
    }
    if (final_state != nullptr)
      for (Index h = 0; h < z.heads; ++h)
        store_state(states + h * size, z.key_width, columns, T(1), stored(final_state, h));
  }
}

}  // namespace mad::cpu::recurrence_detail
