// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// AdamW and SGD over the flat arena of a model's parameters.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/cpu/packets/lanes.hpp>
#include <mad/models/parameter_info.hpp>
#include <mad/train/optimizer_settings.hpp>
#include <mad/train/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mad::train {

/// One optimiser with its state. With gradient g, step n = 1, 2, ..., rate lr and decay wd,
///
///     AdamW   p <- p (1 - lr wd),  m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
///             p <- p - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)      (Loshchilov and Hutter 2019)
///     SGD     p <- p - lr (g + wd p)
///
/// `Fidelity::published` treats all parameters alike; `Fidelity::intended` honours the marks on them: own learning
/// rate, no decay. Parameters that are not trained are skipped in both.
///
/// A step is `begin_step`, then `update` on ranges that together cover the arena, in any order and on any threads;
/// the result does not depend on how the arena was split.
template <class T>
class Optimizer {
public:
  /// \throws UsageError if a setting is out of range, Error if parameters overlap or are out of order.
  Optimizer(const OptimizerSettings& settings, std::span<const ParameterInfo> parameters) : settings_(settings) {
    check(settings);
    for (const ParameterInfo& parameter : parameters) append(parameter);
    if (settings.kind == OptimizerKind::adamw) {
      first_moment_.assign(static_cast<std::size_t>(size_), T(0));
      second_moment_.assign(static_cast<std::size_t>(size_), T(0));
    }
  }

  /// Starts the next step at the schedule's rates.
  void begin_step(const Schedule& schedule) {
    begin_step(schedule.rate(), [&](double own) { return schedule.rate(own); });
  }
  /// Starts the next step at a given rate; own rates apply as they are.
  void begin_step(double learning_rate) {
    begin_step(learning_rate, [](double own) { return own; });
  }

  /// Applies the step to the elements [begin, end) of the arena.
  void update(T* parameters, const T* gradients, Index begin, Index end) {
    for (const Segment& segment : segments_) {
      const Index from = std::max(begin, segment.begin);
      const Index to = std::min(end, segment.end);
      if (from >= to) continue;
      if (settings_.kind == OptimizerKind::adamw) {
        update_adamw(segment, parameters, gradients, from, to);
      } else {
        update_sgd(segment, parameters, gradients, from, to);
      }
    }
  }

  /// A whole step on one thread.
  void step(T* parameters, const T* gradients, double learning_rate) {
    begin_step(learning_rate);
    update(parameters, gradients, 0, size_);
  }

  const OptimizerSettings& settings() const { return settings_; }
  Index size() const { return size_; }              ///< elements of the arena up to the end of the last parameter
  Index step_count() const { return step_count_; }  ///< steps begun so far

  /// Running means of g and of g^2 in the arena's layout; empty for SGD.
  std::span<const T> first_moment() const { return first_moment_; }
  std::span<const T> second_moment() const { return second_moment_; }

  /// Continues from an earlier state, bit for bit. \throws Error if the moments have another size.
  void restore(Index step_count, std::span<const T> first_moment, std::span<const T> second_moment) {
    if (first_moment.size() != first_moment_.size() || second_moment.size() != second_moment_.size()) {
      throw Error(
          message({"the optimiser's saved moments have ", first_moment.size(), " and ", second_moment.size(),
                   " elements, expected ", first_moment_.size(), " each. Is it the checkpoint of another model?"}));
    }
    step_count_ = step_count;
    std::ranges::copy(first_moment, first_moment_.begin());
    std::ranges::copy(second_moment, second_moment_.begin());
  }

private:
  /// A run of neighbouring parameters that are treated alike.
  struct Segment {
    Index begin;
    Index end;
    double own_rate;  ///< not positive: the run's
    bool decay;
    double rate = 0;  ///< in the current step
  };

  /// Elements are always processed in blocks of this size, the last one padded, so that every element meets the same
  /// instructions wherever a range begins or ends.
  static constexpr Index block = 16;

  static MAD_ALWAYS_INLINE inline auto load(const T* source) { return cpu::Lanes<T>::load(source); }

  /// The same numbers from elsewhere, zero behind the last.
  struct Padded {
    T numbers[block] = {};
    Padded(const T* source, Index count) { std::copy_n(source, count, numbers); }
  };

  static void check(const OptimizerSettings& settings) {
    const auto require = [](bool valid, const char* what, double found) {
      if (!valid) throw UsageError(message({what, ", found ", std::to_string(found), "."}));
    };
    require(settings.weight_decay >= 0 && std::isfinite(settings.weight_decay),
            "the weight decay must be finite and not negative", settings.weight_decay);
    require(settings.beta1 >= 0 && settings.beta1 < 1, "beta1 must lie in [0, 1)", settings.beta1);
    require(settings.beta2 >= 0 && settings.beta2 < 1, "beta2 must lie in [0, 1)", settings.beta2);
    require(settings.epsilon > 0, "epsilon must be positive", settings.epsilon);
  }

  void append(const ParameterInfo& parameter) {
    if (parameter.offset < size_ || parameter.size < 0) {
      throw Error(message({"parameter '", parameter.name, "' begins at element ", parameter.offset,
                           " of the arena, but the ones before end at ", size_, "."}));
    }
    size_ = parameter.offset + parameter.size;
    if (!parameter.trained || parameter.size == 0) return;
    const bool marked = settings_.fidelity == Fidelity::intended;
    const double own_rate = marked && parameter.learning_rate > 0 ? parameter.learning_rate : 0;
    const bool decay = !marked || parameter.decay;
    if (!segments_.empty()) {
      Segment& last = segments_.back();
      if (last.end == parameter.offset && last.own_rate == own_rate && last.decay == decay) {
        last.end = size_;
        return;
      }
    }
    segments_.push_back({parameter.offset, size_, own_rate, decay});
  }

  template <class OwnRate>
  void begin_step(double learning_rate, const OwnRate& own_rate) {
    ++step_count_;
    for (Segment& segment : segments_) {
      segment.rate = segment.own_rate > 0 ? own_rate(segment.own_rate) : learning_rate;
    }
    const double n = static_cast<double>(step_count_);
    first_correction_ = 1 - std::pow(settings_.beta1, n);
    second_correction_ = 1 - std::pow(settings_.beta2, n);
  }

  void update_adamw(const Segment& segment, T* parameters, const T* gradients, Index from, Index to) {
    const T beta1 = static_cast<T>(settings_.beta1);
    const T beta2 = static_cast<T>(settings_.beta2);
    const T gain1 = static_cast<T>(1 - settings_.beta1);
    const T gain2 = static_cast<T>(1 - settings_.beta2);
    const T epsilon = static_cast<T>(settings_.epsilon);
    const T keep = static_cast<T>(1 - (segment.decay ? segment.rate * settings_.weight_decay : 0));
    const T rate = static_cast<T>(segment.rate / first_correction_);
    const T scale = static_cast<T>(1 / std::sqrt(second_correction_));
    const auto whole = [&](T* p, const T* g, T* m, T* v) {
      using L = cpu::Lanes<T>;
      for (Index i = 0; i < block; i += L::size) {
        const auto slope = load(g + i);
        const auto first = L::mul_add(L::all(gain1), slope, L::mul(L::all(beta1), load(m + i)));
        const auto second = L::mul_add(L::mul(L::all(gain2), slope), slope, L::mul(L::all(beta2), load(v + i)));
        const auto size = L::mul_add(L::all(scale), L::sqrt(second), L::all(epsilon));
        L::store(p + i, L::all(keep) * load(p + i) - L::all(rate) * first / size);
        L::store(m + i, first);
        L::store(v + i, second);
      }
    };
    for (Index i = from; i < to; i += block) {
      const Index count = std::min(block, to - i);
      T* const m = first_moment_.data() + i;
      T* const v = second_moment_.data() + i;
      if (count == block) {
        whole(parameters + i, gradients + i, m, v);
        continue;
      }
      Padded part(parameters + i, count), part_m(m, count), part_v(v, count);
      const Padded slopes(gradients + i, count);
      whole(part.numbers, slopes.numbers, part_m.numbers, part_v.numbers);
      std::copy_n(part.numbers, count, parameters + i);
      std::copy_n(part_m.numbers, count, m);
      std::copy_n(part_v.numbers, count, v);
    }
  }

  void update_sgd(const Segment& segment, T* parameters, const T* gradients, Index from, Index to) const {
    const T keep = static_cast<T>(1 - (segment.decay ? segment.rate * settings_.weight_decay : 0));
    const T rate = static_cast<T>(segment.rate);
    const auto whole = [&](T* p, const T* g) {
      using L = cpu::Lanes<T>;
      for (Index i = 0; i < block; i += L::size)
        L::store(p + i, L::sub_mul(L::mul(L::all(keep), load(p + i)), L::all(rate), load(g + i)));
    };
    for (Index i = from; i < to; i += block) {
      const Index count = std::min(block, to - i);
      if (count == block) {
        whole(parameters + i, gradients + i);
        continue;
      }
      Padded part(parameters + i, count);
      whole(part.numbers, Padded(gradients + i, count).numbers);
      std::copy_n(part.numbers, count, parameters + i);
    }
  }

  OptimizerSettings settings_;
  std::vector<Segment> segments_;
  Index size_ = 0;
  Index step_count_ = 0;
  double first_correction_ = 1;
  double second_correction_ = 1;
  std::vector<T> first_moment_;
  std::vector<T> second_moment_;
};

}  // namespace mad::train
