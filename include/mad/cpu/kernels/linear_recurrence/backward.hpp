// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of the linear recurrence, in both forms.
///
/// A pass forwards over the runs of tokens computes the states again, a pass backwards the gradients of the states,
/// with d_key and d_value. Without a gradient of the log decay d_query belongs to the pass forwards. With it every run
/// keeps the state before it, and in the pass backwards, tile by tile, the states of a run are recorded on the way
/// forwards and multiplied with their gradients on the way back:
///
///     da_t = rowsum(G_t * w_t S_{t-1})
///
/// per token, or per chunk together with the pairs of tokens inside (see ChunkPairs). The sums have no
/// terms that cancel; the known shortcut, a reversed cumulative sum of q * d_query - k * d_key, loses all digits of the
/// gradient where decays are strong.
#pragma once

#include <mad/cpu/kernels/linear_recurrence/forward.hpp>

namespace mad::cpu::recurrence_detail {

template <class Kind, class T>
class Backward {
public:
  using L = Lanes<T>;

  Backward(const Shape& shape, const RecurrenceSizes& sizes, const RecurrenceOperands<T>& in, View<const T> d_output,
           const RecurrenceGradients<T>& out, Workspace::Frame& frame)
      : shape_(shape),
        z_(sizes),
        in_(in),
        d_output_(d_output),
        out_(out),
        columns_(sizes.state_columns()),
        size_(tiles_size<T>(sizes.key_width, columns_)),
        run_length_(!Kind::chunked && out.log_decay.data != nullptr ? recorded_tokens : run_tokens),
        runs_((shape.length + run_length_ - 1) / run_length_),
        run_(sizes, in, run_length_, frame) {
    const auto take = [&](Index count) { return frame.template take<T>(count); };
    const Index keys = padded<T>(z_.key_width), values = padded<T>(columns_);
    states_ = take(z_.heads * size_);
    d_states_ = take(z_.heads * size_);
    d_value_states_ = take(z_.heads * size_);
    d_query_room_ = take(run_length_ * keys);
    d_key_room_ = take(run_length_ * keys);
    d_value_room_ = take(run_length_ * values);
    d_output_room_ = take(run_length_ * values);
    own_ = take(run_length_);
    d_bonus_room_ = take(keys);
    if (!wants_decay()) return;
    starts_ = take(runs_ * z_.heads * size_);
    recorded_ = take((Kind::chunked ? chunks_in(run_length_) : run_length_) * L::size * L::size);
    d_decay_room_ = take(run_length_ * keys);
    across_room_ = take(chunks_in(run_length_) * keys);
  }

  void sequence(Index b) {
    for (Index h = 0; h < z_.heads; ++h) {
      load_state(stored(in_.initial_state, b, h), z_.key_width, columns_, true, states_ + h * size_);
      load_state<T>(nullptr, z_.key_width, columns_, true, d_states_ + h * size_);
      load_state<T>(nullptr, z_.key_width, columns_, false, d_value_states_ + h * size_);
    }
    for (Index r = 0; r < runs_; ++r) {
      for (Index h = 0; h < z_.heads; ++h) {
        load(b, r, h);
        wants_decay() ? keep_start(r, h) : query_gradient(h);
      }
    }
    for (Index r = runs_ - 1; r >= 0; --r) {
      for (Index h = 0; h < z_.heads; ++h) {
        load(b, r, h);
        wants_decay() ? query_key_and_decay_gradient(r, h) : key_gradient(h);
        value_gradient(h);
        if (Kind::bonus && out_.bonus != nullptr) bonus_gradient(h);
      }
    }
    if (out_.initial_state == nullptr) return;
    for (Index h = 0; h < z_.heads; ++h)
      store_state(d_value_states_ + h * size_, z_.key_width, columns_, scale(), stored(out_.initial_state, b, h));
  }

private:
  /// Tokens of a run whose states are recorded: a tile of each, 16 KiB, stays in the first level of cache.
  static constexpr Index recorded_tokens = 16;

  /// The sweeps leave out the pair of a token with itself.
  static constexpr bool leaves_own_pairs_out = Kind::chunked || Kind::bonus;

  T scale() const { return static_cast<T>(z_.scale); }
  bool wants_decay() const { return Kind::decay != RecurrenceDecay::none && out_.log_decay.data != nullptr; }
  Index tokens() const { return run_.tokens(); }
  template <class U>
  U* stored(U* states, Index b, Index h) const {
    return states == nullptr ? states : states + (b * z_.heads + h) * z_.key_width * columns_;
  }

  /// Brings run r of head h into panels. c_t = scale (do_t . v_t) weighs the pair of a token with itself where the
  /// sweeps leave it out.
  void load(Index b, Index r, Index h) {
    row_ = b * shape_.length + r * run_length_;
    run_.load(h, row_, std::min(run_length_, shape_.length - r * run_length_));
    const View<const T> rows = d_output_.rows_from(row_);
    d_out_ = pack(rows.columns_from(h * z_.value_width), tokens(), z_.value_width, z_.normaliser, d_output_room_);
    if (z_.normaliser) {
      // The column that is one among the values is the normaliser's gradient here.
      const Index panel = z_.value_width / L::size, lane = z_.value_width % L::size;
      for (Index t = 0; t < tokens(); ++t)
        packed(d_output_room_, tokens()).at(t, panel)[lane] = rows.row(t)[z_.heads * z_.value_width + h];
    }
    d_query_ = key_room(out_.query, h, d_query_room_);
    d_key_ = key_room(out_.key, h, d_key_room_);
    if constexpr (leaves_own_pairs_out)
      for (Index t = 0; t < tokens(); ++t) own_[t] = scale() * dot(d_out_, run_.value, t, run_.value_panels());
  }

  /// Where d_query and d_key are computed: in place unless heads of a group are added up.
  Panels<T> key_room(View<T> rows, Index h, T* buffer) const {
    return room(rows.rows_from(row_).columns_from(z_.group_of(h) * z_.key_width), tokens(), z_.key_width,
                z_.key_groups != z_.heads, buffer);
  }

  /// Sweeps for d_query and d_key: rows are value columns, lanes are key channels.
  Sweep<T> query_sweep() const {
    return {tokens(),
            run_.value,
            Kind::chunked ? run_.key_to_behind : run_.key,
            d_out_,
            Kind::chunked ? Panels<const T>(run_.factors.whole) : run_.decay,
            d_query_,
            scale(),
            chunk_tokens,
            recorded_};
  }
  Sweep<T> key_sweep() const {
    const Sweep<T> forwards{
        tokens(),
        d_out_,
        Kind::chunked ? run_.query_from_before : run_.query,
        run_.value,
        Kind::chunked ? Panels<const T>(run_.factors.whole) : run_.decay,
        d_key_,
        scale(),
        chunk_tokens,
        recorded_,
        Kind::chunked ? packed(across_room_, chunks_in(tokens())) : packed(d_decay_room_, tokens())};
    return forwards.reversed(Kind::chunked ? forwards.chunks() : tokens());
  }

  void keep_start(Index r, Index h) {
    T* const state = states_ + h * size_;
    std::copy_n(state, size_, starts_ + (r * z_.heads + h) * size_);
    if constexpr (Kind::decay != RecurrenceDecay::none)
      sweep_state<Kind, SweepOrder::decay_add_read, SweepDecay::lanes, SweepTask::update>(query_sweep(), columns_,
                                                                                          z_.key_width, state);
  }

  void query_gradient(Index h) {
    sweep_state<Kind, SweepOrder::decay_add_read, SweepDecay::lanes>(query_sweep(), columns_, z_.key_width,
                                                                     states_ + h * size_);
    if constexpr (Kind::chunked) {
      multiply<T>(d_query_, run_.factors.from_before, tokens(), run_.key_panels(), d_query_);
      for_pairs([&](const auto& chunk, const Pairs<T>& weights) {
        chunk.add_query_gradient(weights, run_.key, run_.key_panels(), d_query_);
      });
    }
    finish(h, run_.key, d_query_, out_.query);
  }

  void key_gradient(Index h) {
    sweep_state<Kind, SweepOrder::add_read_decay, SweepDecay::lanes>(key_sweep(), columns_, z_.key_width,
                                                                     d_states_ + h * size_);
    if constexpr (Kind::chunked) {
      multiply<T>(d_key_, run_.factors.to_behind, tokens(), run_.key_panels(), d_key_);
      for_pairs([&](const auto& chunk, const Pairs<T>& weights) {
        chunk.add_key_gradient(weights, run_.query, run_.key_panels(), d_key_);
      });
    }
    finish(h, run_.query, d_key_, out_.key);
  }

  void query_key_and_decay_gradient([[maybe_unused]] Index r, [[maybe_unused]] Index h) {
    if constexpr (Kind::decay != RecurrenceDecay::none) {
      T* const state = starts_ + (r * z_.heads + h) * size_;
      T* const d_state = d_states_ + h * size_;
      const Panels<T> d_decay = packed(d_decay_room_, tokens());
      const Index panels = run_.key_panels();
      if constexpr (Kind::chunked) {
        sweep_chunks_paired<SweepDecay::lanes>(query_sweep(), key_sweep(), columns_, z_.key_width, state, d_state);
        multiply<T>(d_query_, run_.factors.from_before, tokens(), panels, d_query_);
        multiply<T>(d_key_, run_.factors.to_behind, tokens(), panels, d_key_);
        const Panels<T> across = packed(across_room_, chunks_in(tokens()));
        for_pairs([&](const auto& chunk, const Pairs<T>& weights) {
          chunk.add_query_and_decay_gradient(weights, run_.query, run_.key, d_key_, across, panels, d_query_, d_decay);
          chunk.add_key_gradient(weights, run_.query, panels, d_key_);
        });
      } else {
        sweep_tokens_paired<sweep_decay<Kind, SweepDecay::lanes>, sweep_order<Kind, SweepOrder::decay_add_read>,
                            sweep_order<Kind, SweepOrder::add_read_decay>>(query_sweep(), key_sweep(), columns_,
                                                                           z_.key_width, state, d_state);
      }
      finish(h, run_.key, d_query_, out_.query);
      finish(h, run_.query, d_key_, out_.key);
      write_decay_gradient(h, d_decay);
    }
  }

  /// Calls body(chunk, weights) for all chunks of the run, weights[t,s] = scale (do_t . v_s).
  template <class Body>
  void for_pairs(const Body& body) const {
    for_chunks<Kind::bonus>(run_.decay, tokens(), [&](const auto& chunk) {
      Pairs<T> weights;
      chunk.products(d_out_, run_.value, run_.value_panels(), scale(), weights);
      body(chunk, weights);
    });
  }

  /// Adds the pairs of tokens with themselves, c_t x_t, to d_query or d_key where they are missing, and writes it.
  void finish(Index h, Panels<const T> x, Panels<T> d, View<T> to) const {
    if constexpr (leaves_own_pairs_out) {
      for (Index p = 0; p < run_.key_panels(); ++p)
        for (Index t = 0; t < tokens(); ++t) {
          auto lanes = L::load(x.at(t, p));
          if constexpr (Kind::bonus) lanes = L::mul(lanes, L::load(run_.weight.at(0, p)));
          L::store(d.at(t, p), L::mul_add(L::all(own_[t]), lanes, L::load(d.at(t, p))));
        }
    }
    const View<T> rows = to.rows_from(row_).columns_from(z_.group_of(h) * z_.key_width);
    if (d.data != rows.data) unpack<T>(d, tokens(), z_.key_width, !z_.opens_group(h), rows);
  }

  void write_decay_gradient(Index h, Panels<T> d) const {
    const View<T> to = out_.log_decay.rows_from(z_.decay_per_token ? row_ : 0).columns_from(decay_column(z_, h));
    if (!z_.decay_per_token) {
      for (Index p = 0; p < run_.key_panels(); ++p) {
        auto sum = L::load(d.at(0, p));
        for (Index t = 1; t < tokens(); ++t) sum = L::add(sum, L::load(d.at(t, p)));
        L::store(d.at(0, p), sum);
      }
    }
    const Index rows = z_.decay_per_token ? tokens() : 1;
    if (z_.decay == RecurrenceDecay::channel) {
      unpack<T>(d, rows, z_.key_width, !z_.decay_per_token, to);
      return;
    }
    for (Index t = 0; t < rows; ++t) {
      auto sum = L::load(d.at(t, 0));
      for (Index p = 1; p < run_.key_panels(); ++p) sum = L::add(sum, L::load(d.at(t, p)));
      T& total = to.row(t)[0];
      total = z_.decay_per_token ? L::sum(sum) : total + L::sum(sum);
    }
  }

  void value_gradient(Index h) {
    const View<T> rows = out_.value.rows_from(row_).columns_from(h * z_.value_width);
    const Panels<T> d_value = room(rows, tokens(), z_.value_width, z_.normaliser, d_value_room_);
    const Sweep<T> sweep{tokens(),
                         Kind::chunked ? run_.query_from_before : run_.query,
                         d_out_,
                         Kind::chunked ? run_.key_to_behind : run_.key,
                         Kind::chunked ? Panels<const T>(run_.factors.whole) : run_.decay,
                         d_value,
                         scale()};
    sweep_state<Kind, SweepOrder::add_read_decay, SweepDecay::rows>(
        sweep.reversed(Kind::chunked ? sweep.chunks() : tokens()), z_.key_width, columns_, d_value_states_ + h * size_);
    if constexpr (Kind::chunked) {
      for_chunks<Kind::bonus>(run_.decay, tokens(), [&](const auto& chunk) {
        Pairs<T> scores;
        chunk.scores(run_.query, run_.key, run_.weight, run_.key_panels(), scale(), scores);
        chunk.add_later(scores, d_out_, run_.value_panels(), d_value);
      });
    } else if constexpr (Kind::bonus) {
      for (Index t = 0; t < tokens(); ++t)
        add_multiple(scale() * run_.weighted_score(t), d_out_, t, run_.value_panels(), d_value);
    }
    if (d_value.data != rows.data) unpack<T>(d_value, tokens(), z_.value_width, false, rows);
  }

  /// du += sum_t c_t q_t k_t
  void bonus_gradient(Index h) {
    for (Index p = 0; p < run_.key_panels(); ++p) {
      auto sum = L::zero();
      for (Index t = 0; t < tokens(); ++t)
        sum = L::mul_add(L::mul(L::all(own_[t]), L::load(run_.query.at(t, p))), L::load(run_.key.at(t, p)), sum);
      L::store(d_bonus_room_ + p * L::size, sum);
    }
    for (Index i = 0; i < z_.key_width; ++i) out_.bonus[h * z_.key_width + i] += d_bonus_room_[i];
  }

  Shape shape_;
  RecurrenceSizes z_;
  RecurrenceOperands<T> in_;
  View<const T> d_output_;
  RecurrenceGradients<T> out_;
  Index columns_;     // of a state
  Index size_;        // of a state in tiles
  Index run_length_;  // tokens of a run
  Index runs_;
  HeadRun<Kind, T> run_;
  Index row_ = 0;  // of the present run
  Panels<const T> d_out_;
  Panels<T> d_query_, d_key_;
  // States and their gradients with the key channels in lanes, gradients once more with them in rows.
  T *states_, *d_states_, *d_value_states_;
  T *d_query_room_, *d_key_room_, *d_value_room_, *d_output_room_, *own_, *d_bonus_room_;
  T *starts_ = nullptr, *recorded_ = nullptr, *d_decay_room_ = nullptr, *across_room_ = nullptr;
};

}  // namespace mad::cpu::recurrence_detail
