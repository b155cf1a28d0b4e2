// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Linear recurrences in double, element by element from the formula, and the kernels run on the same numbers.
#pragma once

#include <mad/cpu/kernels/linear_recurrence.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace mad::linear_recurrence_testing {

using cpu::RecurrenceDecay;
using cpu::RecurrenceForm;
using cpu::RecurrenceGradients;
using cpu::RecurrenceKind;
using cpu::RecurrenceOperands;
using cpu::RecurrenceSizes;

using Numbers = std::vector<double>;

inline std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// A recurrence's operands or gradients, rows packed, in double; empty where there are none.
struct Operands {
  Numbers query, key, value, log_decay, bonus, initial;
};
inline const Numbers Operands::*const fields[] = {&Operands::query,     &Operands::key,   &Operands::value,
                                                  &Operands::log_decay, &Operands::bonus, &Operands::initial};

struct Result {
  Numbers output, final_state;
};

inline Index decay_width(const RecurrenceSizes& s) {
  if (s.decay == RecurrenceDecay::none) return 0;
  return s.decay == RecurrenceDecay::head ? s.heads : s.heads * s.key_width;
}
inline Index output_width(const RecurrenceSizes& s) { return s.heads * s.state_columns(); }

/// The formulas of the specification, element by element.
struct Formula {
  Shape shape;
  RecurrenceSizes s;
  const Operands& in;

  Index group(Index h) const { return h / (s.heads / s.key_groups); }
  std::size_t key_at(Index row, Index h, Index i) const { return z((row * s.key_groups + group(h)) * s.key_width + i); }
  std::size_t value_at(Index row, Index h, Index j) const { return z((row * s.heads + h) * s.value_width + j); }
  std::size_t decay_at(Index row, Index h, Index i) const {
    const Index column = s.decay == RecurrenceDecay::head ? h : h * s.key_width + i;
    return z((s.decay_per_token ? row * decay_width(s) : 0) + column);
  }
  std::size_t output_at(Index row, Index h, Index j) const {
    return z(row * output_width(s) + (j < s.value_width ? h * s.value_width + j : s.heads * s.value_width + h));
  }
  std::size_t bonus_at(Index h, Index i) const { return z(h * s.key_width + i); }
  std::size_t state_at(Index b, Index h, Index i, Index j) const {
    return z(((b * s.heads + h) * s.key_width + i) * s.state_columns() + j);
  }
  double value(Index row, Index h, Index j) const { return j < s.value_width ? in.value[value_at(row, h, j)] : 1; }
  double decay(Index row, Index h, Index i) const {
    return s.decay == RecurrenceDecay::none ? 1 : std::exp(in.log_decay[decay_at(row, h, i)]);
  }

  Result forward() const {
    Result r{Numbers(z(shape.tokens() * output_width(s))), in.initial};
    each([&](Index b, Index h, Index i, Index j) {
      double& state = r.final_state[state_at(b, h, i, j)];
      for (Index row = b * shape.length; row < (b + 1) * shape.length; ++row) {
        const double q = s.scale * in.query[key_at(row, h, i)];
        const double added = in.key[key_at(row, h, i)] * value(row, h, j);
        double& output = r.output[output_at(row, h, j)];
        if (!in.bonus.empty()) output += q * (state + in.bonus[bonus_at(h, i)] * added);
        state = decay(row, h, i) * state + added;
        if (in.bonus.empty()) output += q * state;
      }
    });
    return r;
  }

  /// The chain rule for every element of the state by itself, all states kept.
  Operands gradient(const Numbers& d_output) const {
    Operands g{Numbers(in.query.size()),     Numbers(in.key.size()),   Numbers(in.value.size()),
               Numbers(in.log_decay.size()), Numbers(in.bonus.size()), Numbers(in.initial.size())};
    const bool bonus = !in.bonus.empty();
    each([&](Index b, Index h, Index i, Index j) {
      Numbers states{in.initial[state_at(b, h, i, j)]};
      for (Index row = b * shape.length; row < (b + 1) * shape.length; ++row)
        states.push_back(decay(row, h, i) * states.back() + in.key[key_at(row, h, i)] * value(row, h, j));
      double d = 0;  // of the state after the token
      for (Index t = shape.length - 1; t >= 0; --t) {
        const Index row = b * shape.length + t;
        const std::size_t at = key_at(row, h, i);
        const double q = in.query[at], k = in.key[at], v = value(row, h, j), w = decay(row, h, i);
        const double d_read = s.scale * d_output[output_at(row, h, j)];
        const double u = bonus ? in.bonus[bonus_at(h, i)] : 1;
        const double d_own = d_read * q * u;  // of k v through the token's own output
        g.query[at] += d_read * (bonus ? states[z(t)] + u * k * v : states[z(t + 1)]);
        if (bonus) g.bonus[bonus_at(h, i)] += d_read * q * k * v;
        g.key[at] += (d + d_own) * v;
        if (j < s.value_width) g.value[value_at(row, h, j)] += (d + d_own) * k;
        if (!bonus) d += d_own;
        if (!in.log_decay.empty()) g.log_decay[decay_at(row, h, i)] += d * w * states[z(t)];
        d = w * d + (bonus ? d_read * q : 0);
      }
      g.initial[state_at(b, h, i, j)] = d;
    });
    return g;
  }

private:
  template <class Body>
  void each(const Body& body) const {
    for (Index b = 0; b < shape.batch; ++b)
      for (Index h = 0; h < s.heads; ++h)
        for (Index i = 0; i < s.key_width; ++i)
          for (Index j = 0; j < s.state_columns(); ++j) body(b, h, i, j);
  }
};

inline Operands draw(const Shape& shape, const RecurrenceSizes& s, bool bonus, unsigned seed,
                     double mean_log_decay = -0.3) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  const auto numbers = [&](Index count) {
    Numbers result(z(count));
    for (double& x : result) x = static_cast<double>(static_cast<float>(normal(generator)));
    return result;
  };
  Operands in;
  in.query = numbers(shape.tokens() * s.key_groups * s.key_width);
  in.key = numbers(shape.tokens() * s.key_groups * s.key_width);
  in.value = numbers(shape.tokens() * s.heads * s.value_width);
  in.log_decay = numbers((s.decay_per_token ? shape.tokens() : 1) * decay_width(s));
  for (double& x : in.log_decay) x = static_cast<double>(static_cast<float>(mean_log_decay * x * x));
  if (bonus) in.bonus = numbers(s.heads * s.key_width);
  in.initial = numbers(shape.batch * s.state_size());
  return in;
}

/// Rows further apart than they are wide; what lies between must stay as it is.
template <class T>
struct Rows {
  static constexpr Index gap = 5;
  Index width;
  std::vector<T> values;

  Rows(const Numbers& packed, Index width_) : width(width_) {
    const Index rows = width == 0 ? 0 : static_cast<Index>(packed.size()) / width;
    values.assign(z(rows * (width + gap)), T(77));
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) values[z(r * (width + gap) + c)] = static_cast<T>(packed[z(r * width + c)]);
  }
  View<T> view() { return {values.data(), width + gap}; }
  View<const T> view() const { return {values.data(), width + gap}; }
  Numbers packed() const {
    Numbers result;
    bool intact = true;
    for (Index r = 0; r < static_cast<Index>(values.size()) / (width + gap); ++r)
      for (Index c = 0; c < width + gap; ++c) {
        const T value = values[z(r * (width + gap) + c)];
        if (c < width) result.push_back(static_cast<double>(value));
        if (c >= width) intact = intact && value == T(77);
      }
    REQUIRE(intact);
    return result;
  }
};

template <class T>
std::vector<T> rounded(const Numbers& x) {
  std::vector<T> result;
  for (double value : x) result.push_back(static_cast<T>(value));
  return result;
}

struct Computed {
  Result forward;
  Operands gradient;
};

/// Calls run(kind) with the kind of the recurrence.
template <class Run>
void with_kind(RecurrenceDecay decay, bool bonus, RecurrenceForm form, const Run& run) {
  const auto in_form = [&]<RecurrenceDecay Decay, RecurrenceForm Form>() {
    bonus ? run(RecurrenceKind<Decay, true, Form>{}) : run(RecurrenceKind<Decay, false, Form>{});
  };
  const auto with_decay = [&]<RecurrenceDecay Decay>() {
    form == RecurrenceForm::chunked ? in_form.template operator()<Decay, RecurrenceForm::chunked>()
                                    : in_form.template operator()<Decay, RecurrenceForm::stepwise>();
  };
  if (decay == RecurrenceDecay::none) run(RecurrenceKind<RecurrenceDecay::none>{});
  if (decay == RecurrenceDecay::head) with_decay.template operator()<RecurrenceDecay::head>();
  if (decay == RecurrenceDecay::channel) with_decay.template operator()<RecurrenceDecay::channel>();
}

/// Runs the kernels under test. Outputs that are added to start from `start`, others from 3.
template <class T>
Computed run(const Shape& shape, const RecurrenceSizes& s, const Operands& in, const Numbers& d_output,
             RecurrenceForm form, bool decay_gradient = true, double start = 0) {
  const Index keys = s.key_groups * s.key_width, values = s.heads * s.value_width;
  const Rows<T> query(in.query, keys), key(in.key, keys), value(in.value, values);
  const Rows<T> log_decay(in.log_decay, decay_width(s)), d_out(d_output, output_width(s));
  const std::vector<T> bonus = rounded<T>(in.bonus), initial = rounded<T>(in.initial);
  const RecurrenceOperands<T> operands{
      query.view(), key.view(), value.view(), log_decay.view(), bonus.empty() ? nullptr : bonus.data(), initial.data()};
  Rows<T> output(Numbers(d_output.size(), 3.0), output_width(s));
  Rows<T> d_query(Numbers(in.query.size(), 3.0), keys), d_key = d_query;
  Rows<T> d_value(Numbers(in.value.size(), 3.0), values);
  const bool decays = decay_gradient && !in.log_decay.empty();
  Rows<T> d_decay(Numbers(in.log_decay.size(), s.decay_per_token ? 3.0 : start), decay_width(s));
  std::vector<T> d_bonus(bonus.size(), static_cast<T>(start)), last(initial.size(), T(3)),
      d_initial(initial.size(), T(3));
  mad::cpu::Workspace workspace;
  const RecurrenceGradients<T> gradients{d_query.view(),
                                         d_key.view(),
                                         d_value.view(),
                                         decays ? d_decay.view() : View<T>{},
                                         bonus.empty() ? nullptr : d_bonus.data(),
                                         d_initial.data()};
  with_kind(s.decay, !bonus.empty(), form, [&]<class Kind>(Kind) {
    mad::cpu::linear_recurrence_forward<Kind, T>(shape, s, operands, output.view(), workspace, last.data());
    mad::cpu::linear_recurrence_backward<Kind, T>(shape, s, operands, std::as_const(d_out).view(), gradients,
                                                  workspace);
  });
  return {{output.packed(), Numbers(last.begin(), last.end())},
          {d_query.packed(), d_key.packed(), d_value.packed(), d_decay.packed(),
           Numbers(d_bonus.begin(), d_bonus.end()), Numbers(d_initial.begin(), d_initial.end())}};
}

/// The largest difference over the largest number, or over `floor`, below which numbers may vanish.
inline double distance(const Numbers& found, const Numbers& expected, double floor = 1e-290) {
  REQUIRE(found.size() == expected.size());
  double worst = 0, largest = floor;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

}  // namespace mad::linear_recurrence_testing
