// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/cpu/linear_recurrence.hpp>
#include <mad/train/safetensors.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::RecurrenceDecay;
using mad::cpu::RecurrenceForm;
using mad::cpu::RecurrenceGradients;
using mad::cpu::RecurrenceKind;
using mad::cpu::RecurrenceOperands;
using mad::cpu::RecurrenceSizes;

namespace {

using Numbers = std::vector<double>;

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// A recurrence's operands or gradients, rows packed, in double; empty where there are none.
struct Operands {
  Numbers query, key, value, log_decay, bonus, initial;
};
const Numbers Operands::*const fields[] = {&Operands::query,     &Operands::key,   &Operands::value,
                                           &Operands::log_decay, &Operands::bonus, &Operands::initial};

struct Result {
  Numbers output, final_state;
};

Index decay_width(const RecurrenceSizes& s) {
  if (s.decay == RecurrenceDecay::none) return 0;
  return s.decay == RecurrenceDecay::head ? s.heads : s.heads * s.key_width;
}
Index output_width(const RecurrenceSizes& s) { return s.heads * s.state_columns(); }

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

Operands draw(const Shape& shape, const RecurrenceSizes& s, bool bonus, unsigned seed, double mean_log_decay = -0.3) {
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
double distance(const Numbers& found, const Numbers& expected, double floor = 1e-290) {
  REQUIRE(found.size() == expected.size());
  double worst = 0, largest = floor;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

template <class T>
void check(const Shape& shape, const RecurrenceSizes& s, bool bonus, double tolerance, double mean_log_decay = -0.3) {
  CAPTURE(shape.batch, shape.length, s.heads, s.key_groups, s.key_width, s.value_width, s.scale, s.normaliser,
          static_cast<int>(s.decay), s.decay_per_token, bonus, mean_log_decay, sizeof(T));
  const Operands in = draw(shape, s, bonus, static_cast<unsigned>(shape.length * 100 + s.key_width), mean_log_decay);
  Numbers d_output(z(shape.tokens() * output_width(s)));
  for (std::size_t i = 0; i < d_output.size(); ++i) d_output[i] = std::sin(static_cast<double>(i) * 1.7) + 0.1;
  const Formula formula{shape, s, in};
  const Result expected = formula.forward();
  const Operands expected_gradient = formula.gradient(d_output);
  for (const RecurrenceForm form : {RecurrenceForm::stepwise, RecurrenceForm::chunked}) {
    if (form == RecurrenceForm::chunked && s.decay == RecurrenceDecay::none) continue;
    CAPTURE(static_cast<int>(form));
    const Computed found = run<T>(shape, s, in, d_output, form);
    CHECK(distance(found.forward.output, expected.output) < tolerance);
    CHECK(distance(found.forward.final_state, expected.final_state) < tolerance);
    const double floor = static_cast<double>(std::numeric_limits<T>::min()) / tolerance;
    for (std::size_t i = 0; i < std::size(fields); ++i) {
      CAPTURE(i);
      CHECK(distance(found.gradient.*fields[i], expected_gradient.*fields[i], floor) < 5 * tolerance);
    }
  }
}

/// Every kind of recurrence at given head sizes.
std::vector<std::pair<RecurrenceSizes, bool>> kinds(Index heads, Index key_width, Index value_width) {
  const RecurrenceSizes plain{heads, heads, key_width, value_width, 0.7};
  std::vector<std::pair<RecurrenceSizes, bool>> result{{plain, false}};
  RecurrenceSizes s = plain;
  s.normaliser = true;
  result.emplace_back(s, false);
  for (const RecurrenceDecay decay : {RecurrenceDecay::head, RecurrenceDecay::channel})
    for (const bool per_token : {true, false})
      for (const bool bonus : {false, true}) {
        s = plain;
        s.decay = decay;
        s.decay_per_token = per_token;
        result.emplace_back(s, bonus);
      }
  if (heads % 2 == 0) {
    s = plain;
    s.key_groups = heads / 2;
    s.scale = 1;
    result.emplace_back(s, false);
    s.decay = RecurrenceDecay::head;
    result.emplace_back(s, false);
    s.decay_per_token = false;
    result.emplace_back(s, false);
  }
  return result;
}

void check_shapes(Index heads, Index key_width, Index value_width) {
  for (const Shape& shape : {Shape{1, 1}, {3, 1}, {2, 2}, {1, 7}, {2, 8}, {1, 33}, {1, 64}, {2, 65}, {1, 131}})
    for (const auto& [s, bonus] : kinds(heads, key_width, value_width)) {
      check<double>(shape, s, bonus, 1e-12);
      check<float>(shape, s, bonus, 1e-5);
    }
}

}  // namespace

TEST_CASE("the recurrence of heads of one register is the formula", "[cpu][linear_recurrence]") {
  check_shapes(2, 16, 16);
}
TEST_CASE("the recurrence of narrow heads is the formula", "[cpu][linear_recurrence]") {
  check_shapes(4, 8, 8);
  check_shapes(1, 1, 1);
  check_shapes(2, 3, 2);
}
TEST_CASE("the recurrence of heads of odd widths is the formula", "[cpu][linear_recurrence]") {
  check_shapes(2, 13, 7);
  check_shapes(2, 5, 31);
  check_shapes(1, 45, 15);
}
TEST_CASE("the recurrence of wide heads is the formula", "[cpu][linear_recurrence]") {
  for (const auto& [s, bonus] : kinds(1, 64, 48)) {
    check<double>({1, 70}, s, bonus, 1e-12);
    check<float>({1, 70}, s, bonus, 1e-5);
  }
}
TEST_CASE("a long recurrence is the formula", "[cpu][linear_recurrence]") {
  for (const auto& [s, bonus] : kinds(2, 8, 4)) {
    check<double>({1, 1000}, s, bonus, 1e-12, -0.01);
    check<float>({1, 1000}, s, bonus, 1e-4, -0.01);
  }
}

TEST_CASE("the strongest decays neither overflow nor lose digits", "[cpu][linear_recurrence]") {
  for (const double mean : {-1.0, -20.0, -400.0})
    for (const auto& [s, bonus] : kinds(2, 16, 8)) {
      check<double>({1, 70}, s, bonus, 1e-12, mean);
      check<float>({1, 70}, s, bonus, 1e-5, mean);
    }
}

TEST_CASE("chunked equals stepwise as a law", "[cpu][linear_recurrence]") {
  for (const Index length : {1, 3, 8, 9, 63, 64, 71, 200})
    for (const auto& [s, bonus] : kinds(2, 24, 40)) {
      if (s.decay == RecurrenceDecay::none) continue;
      CAPTURE(length, bonus, static_cast<int>(s.decay), s.decay_per_token, s.key_groups);
      const Shape shape{2, length};
      const Operands in = draw(shape, s, bonus, 11);
      const Numbers d_output = draw(shape, {1, 1, output_width(s), 1}, false, 12).query;
      const Computed a = run<double>(shape, s, in, d_output, RecurrenceForm::stepwise);
      const Computed b = run<double>(shape, s, in, d_output, RecurrenceForm::chunked);
      CHECK(distance(a.forward.output, b.forward.output) < 1e-13);
      CHECK(distance(a.forward.final_state, b.forward.final_state) < 1e-13);
      for (const auto field : fields) CHECK(distance(a.gradient.*field, b.gradient.*field) < 1e-12);
    }
}

TEST_CASE("the gradient of the recurrence agrees with finite differences", "[cpu][linear_recurrence]") {
  const Shape shape{2, 6};
  for (const auto& [s, bonus] : kinds(2, 3, 2)) {
    CAPTURE(bonus, static_cast<int>(s.decay), s.decay_per_token, s.key_groups, s.normaliser);
    Operands in = draw(shape, s, bonus, 1);
    const Numbers d_output = draw(shape, {1, 1, output_width(s), 1}, false, 2).query;
    const auto form = s.decay == RecurrenceDecay::none ? RecurrenceForm::stepwise : RecurrenceForm::chunked;
    const Computed found = run<double>(shape, s, in, d_output, form);
    const auto objective = [&] {
      const Numbers output = Formula{shape, s, in}.forward().output;
      double sum = 0;
      for (std::size_t i = 0; i < output.size(); ++i) sum += output[i] * d_output[i];
      return sum;
    };
    for (const auto field : fields) {
      Numbers& values = const_cast<Numbers&>(in.*field);
      Numbers differences;
      for (double& x : values) {
        const double kept = x, h = 1e-3;
        const auto at = [&](double offset) {
          x = kept + offset;
          const double result = objective();
          x = kept;
          return result;
        };
        differences.push_back((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h));
      }
      CHECK(distance(found.gradient.*field, differences) < 1e-9);
    }
  }
}

TEST_CASE("gradients do not depend on whether that of the decay is wanted", "[cpu][linear_recurrence]") {
  const Shape shape{2, 70};
  for (const auto& [s, bonus] : kinds(2, 16, 20)) {
    if (s.decay == RecurrenceDecay::none) continue;
    const Operands in = draw(shape, s, bonus, 21);
    const Numbers d_output = draw(shape, {1, 1, output_width(s), 1}, false, 22).query;
    for (const RecurrenceForm form : {RecurrenceForm::stepwise, RecurrenceForm::chunked}) {
      const Operands with = run<float>(shape, s, in, d_output, form).gradient;
      const Operands without = run<float>(shape, s, in, d_output, form, false).gradient;
      CHECK(distance(with.query, without.query) < 1e-6);
      CHECK(distance(with.key, without.key) < 1e-6);
      CHECK(distance(with.value, without.value) < 1e-6);
      CHECK(distance(with.bonus, without.bonus) < 1e-6);
    }
  }
}

TEST_CASE("gradients of what all tokens share are added", "[cpu][linear_recurrence]") {
  const Shape shape{2, 20};
  for (const auto& [s, bonus] : kinds(2, 16, 8)) {
    if (s.decay == RecurrenceDecay::none || s.decay_per_token) continue;
    const Operands in = draw(shape, s, bonus, 25);
    const Numbers d_output = draw(shape, {1, 1, output_width(s), 1}, false, 26).query;
    for (const RecurrenceForm form : {RecurrenceForm::stepwise, RecurrenceForm::chunked}) {
      Operands on_zero = run<double>(shape, s, in, d_output, form).gradient;
      const Operands on_two = run<double>(shape, s, in, d_output, form, true, 2).gradient;
      for (double& x : on_zero.log_decay) x += 2;
      for (double& x : on_zero.bonus) x += 2;
      CHECK(distance(on_two.log_decay, on_zero.log_decay) < 1e-13);
      CHECK(distance(on_two.bonus, on_zero.bonus) < 1e-13);
    }
  }
}

TEST_CASE("a sequence has the same bits alone and in a batch", "[cpu][linear_recurrence]") {
  const Index length = 75;
  for (const auto& [s, bonus] : kinds(2, 16, 9)) {
    const Operands in = draw({2, length}, s, bonus, 31);
    const Numbers d_output = draw({2, length}, {1, 1, output_width(s), 1}, false, 32).query;
    const auto second = [](const Numbers& x) { return Numbers(x.begin() + static_cast<Index>(x.size() / 2), x.end()); };
    const Operands alone{second(in.query), second(in.key),
                         second(in.value), s.decay_per_token ? second(in.log_decay) : in.log_decay,
                         in.bonus,         second(in.initial)};
    for (const RecurrenceForm form : {RecurrenceForm::stepwise, RecurrenceForm::chunked}) {
      if (form == RecurrenceForm::chunked && s.decay == RecurrenceDecay::none) continue;
      const Computed both = run<float>({2, length}, s, in, d_output, form);
      const Computed one = run<float>({1, length}, s, alone, second(d_output), form);
      CHECK(second(both.forward.output) == one.forward.output);
      CHECK(second(both.gradient.query) == one.gradient.query);
      CHECK(second(both.gradient.key) == one.gradient.key);
      CHECK(second(both.gradient.value) == one.gradient.value);
      CHECK(second(both.gradient.initial) == one.gradient.initial);
    }
  }
}

TEST_CASE("step by step is all at once", "[cpu][linear_recurrence]") {
  const Shape shape{3, 20};
  for (const Index width : {16, 9})
    for (const auto& [s, bonus] : kinds(2, width, width)) {
      CAPTURE(width, bonus, static_cast<int>(s.decay), s.decay_per_token, s.key_groups, s.normaliser);
      Operands in = draw(shape, s, bonus, 41);
      in.initial.assign(in.initial.size(), 0.0);
      const Result expected = Formula{shape, s, in}.forward();
      Numbers state(z(shape.batch * s.state_size()));
      Numbers output(expected.output.size());
      const Index keys = s.key_groups * s.key_width, values = s.heads * s.value_width, decays = decay_width(s);
      for (Index t = 0; t < shape.length; ++t) {
        // Row b of a view is token t of sequence b.
        const auto rows = [&](const Numbers& x, Index columns) {
          return View<const double>{x.data() + t * columns, shape.length * columns};
        };
        const RecurrenceOperands<double> operands{
            rows(in.query, keys),
            rows(in.key, keys),
            rows(in.value, values),
            s.decay_per_token ? rows(in.log_decay, decays) : View<const double>{in.log_decay.data(), decays},
            bonus ? in.bonus.data() : nullptr,
            nullptr};
        const View<double> out{output.data() + t * output_width(s), shape.length * output_width(s)};
        mad::cpu::linear_recurrence_step<double>(shape.batch, s, operands, out, state.data());
      }
      CHECK(distance(output, expected.output) < 1e-12);
      CHECK(distance(state, expected.final_state) < 1e-12);
    }
}

TEST_CASE("a recurrence of impossible sizes is refused", "[cpu][linear_recurrence]") {
  const std::vector<double> x(64, 0.5);
  std::vector<double> y(64);
  mad::cpu::Workspace workspace;
  const auto refused = [&]<class Kind>(Kind, const RecurrenceSizes& s, const double* bonus) {
    const View<const double> view{x.data(), 4};
    const RecurrenceOperands<double> in{view, view, view, view, bonus};
    const View<double> out{y.data(), 4};
    CHECK_THROWS_AS((mad::cpu::linear_recurrence_forward<Kind, double>({1, 2}, s, in, out, workspace)),
                    mad::UsageError);
  };
  using Plain = RecurrenceKind<RecurrenceDecay::none>;
  using PerHead = RecurrenceKind<RecurrenceDecay::head>;
  using PerChannel = RecurrenceKind<RecurrenceDecay::channel>;
  refused(Plain{}, {.heads = 3, .key_groups = 2}, nullptr);
  refused(Plain{}, {.heads = 2, .key_groups = 2}, x.data());
  refused(PerChannel{}, {.heads = 2, .key_groups = 1, .decay = RecurrenceDecay::channel}, nullptr);
  refused(PerHead{}, {.heads = 2, .key_groups = 2}, nullptr);
  refused(PerHead{}, {.heads = 1, .normaliser = true, .decay = RecurrenceDecay::head}, nullptr);
}

namespace {

/// A fixture of the reference.
struct Fixture {
  mad::train::Safetensors file;
  Index batch = 2, heads, length, keys, values;

  Fixture(const std::string& name, Index heads_, Index length_, Index keys_, Index values_)
      : file(mad::train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/core_" + name + ".safetensors")),
        heads(heads_),
        length(length_),
        keys(keys_),
        values(values_) {}

  Numbers flat(const std::string& name) const { return file.values<double>(name); }
  /// (batch, heads, length, width) as rows (batch, length, heads width).
  Numbers rows(const std::string& name) const {
    const Numbers x = flat(name);
    const Index width = static_cast<Index>(x.size()) / (batch * heads * length);
    Numbers result(x.size());
    for (Index b = 0; b < batch; ++b)
      for (Index h = 0; h < heads; ++h)
        for (Index t = 0; t < length; ++t)
          for (Index i = 0; i < width; ++i)
            result[z(((b * length + t) * heads + h) * width + i)] = x[z(((b * heads + h) * length + t) * width + i)];
    return result;
  }
  Numbers no_state() const { return Numbers(z(batch * heads * keys * values)); }
  Shape shape() const { return {batch, length}; }
  RecurrenceSizes sizes(double scale, RecurrenceDecay decay, bool per_token) const {
    return {heads, heads, keys, values, scale, false, decay, per_token};
  }
};

constexpr RecurrenceForm forms[] = {RecurrenceForm::stepwise, RecurrenceForm::chunked};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST_CASE("the recurrence reproduces gated linear attention", "[cpu][linear_recurrence][golden]") {
  const Fixture f("gla_l24", 2, 24, 8, 6);
  const Operands in{f.rows("input.q"), f.rows("input.k"), f.rows("input.v"), f.rows("input.g"), {}, f.no_state()};
  for (const RecurrenceForm form : forms) {
    const Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::channel, true), in,
                                   f.rows("grad_output"), form);
    CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
    CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
    CHECK(distance(c.gradient.query, f.rows("grad_input.q")) < 1e-12);
    CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
    CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
    CHECK(distance(c.gradient.log_decay, f.rows("grad_input.g")) < 1e-12);
  }
}

TEST_CASE("the recurrence reproduces HGRN2", "[cpu][linear_recurrence][golden]") {
  const Fixture f("hgrn2_l24", 2, 24, 8, 6);
  const Numbers raw_q = f.rows("input.q"), raw_f = f.rows("input.f");
  Operands in{raw_q, raw_f, f.rows("input.v"), raw_f, {}, f.no_state()};
  for (std::size_t i = 0; i < raw_q.size(); ++i) {
    in.query[i] = raw_q[i] * sigmoid(raw_q[i]);
    in.key[i] = sigmoid(-raw_f[i]);
    in.log_decay[i] = -std::log1p(std::exp(-raw_f[i]));
  }
  for (const RecurrenceForm form : forms) {
    Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::channel, true), in,
                             f.rows("grad_output"), form);
    Numbers d_q = c.gradient.query, d_f = c.gradient.key;
    for (std::size_t i = 0; i < d_q.size(); ++i) {
      const double s = sigmoid(raw_q[i]), g = sigmoid(raw_f[i]);
      d_q[i] *= s * (1 + raw_q[i] * (1 - s));
      d_f[i] = -c.gradient.key[i] * g * (1 - g) + c.gradient.log_decay[i] * (1 - g);
    }
    CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
    CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
    CHECK(distance(d_q, f.rows("grad_input.q")) < 1e-12);
    CHECK(distance(d_f, f.rows("grad_input.f")) < 1e-12);
    CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
  }
}

TEST_CASE("the recurrence reproduces retention", "[cpu][linear_recurrence][golden]") {
  for (const Index length : {7, 24}) {
    const bool initial = length == 7;
    const Index heads = initial ? 2 : 4;
    const Fixture f("retention_l" + std::to_string(length), heads, length, 8, 6);
    Numbers log_decay;
    for (Index h = 0; h < heads; ++h) log_decay.push_back(std::log(1 - std::pow(2.0, static_cast<double>(-5 - h))));
    const Operands in{f.rows("input.q"),
                      f.rows("input.k"),
                      f.rows("input.v"),
                      log_decay,
                      {},
                      initial ? f.flat("input.initial_state") : f.no_state()};
    for (const RecurrenceForm form : forms) {
      const Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::head, false), in,
                                     f.rows("grad_output"), form);
      CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
      CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
      CHECK(distance(c.gradient.query, f.rows("grad_input.q")) < 1e-12);
      CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
      CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
      if (initial) CHECK(distance(c.gradient.initial, f.flat("grad_input.initial_state")) < 1e-12);
    }
  }
}

TEST_CASE("the recurrence reproduces the state space duality of Mamba-2", "[cpu][linear_recurrence][golden]") {
  for (const bool grouped : {false, true}) {
    // Query C, key B, value dt x; the file's states are (value, key).
    const Index heads = 4, groups = grouped ? 2 : 1, keys = grouped ? 5 : 8, values = grouped ? 6 : 4;
    const Fixture f(grouped ? "ssd_g2_l7" : "ssd_l24", heads, grouped ? 7 : 24, keys, values);
    const Numbers x = f.flat("input.x"), raw_dt = f.flat("input.dt"), bias = f.flat("input.dt_bias");
    const Numbers a_log = f.flat("input.A_log"), skip = f.flat("input.D");
    const auto transposed = [&](const Numbers& s, Index rows, Index columns) {
      Numbers result(s.size());
      for (Index n = 0; n < f.batch * heads; ++n)
        for (Index i = 0; i < rows; ++i)
          for (Index j = 0; j < columns; ++j)
            result[z((n * columns + j) * rows + i)] = s[z((n * rows + i) * columns + j)];
      return result;
    };
    Operands in{f.flat("input.C"), f.flat("input.B"), x, raw_dt, {}, f.no_state()};
    if (grouped) in.initial = transposed(f.flat("input.initial_state"), values, keys);
    Numbers dt = raw_dt;
    for (std::size_t i = 0; i < dt.size(); ++i) {
      dt[i] = std::log1p(std::exp(raw_dt[i] + bias[i % z(heads)]));
      in.log_decay[i] = -dt[i] * std::exp(a_log[i % z(heads)]);
    }
    for (std::size_t i = 0; i < x.size(); ++i) in.value[i] = dt[i / z(values)] * x[i];
    RecurrenceSizes s = f.sizes(1, RecurrenceDecay::head, true);
    s.key_groups = groups;
    const Numbers d_output = f.flat("grad_output");
    for (const RecurrenceForm form : forms) {
      const Computed c = run<double>(f.shape(), s, in, d_output, form);
      Numbers output = c.forward.output, d_x = output, d_dt(dt.size()), d_a(z(heads)), d_skip = d_a, d_bias = d_a;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t h = i / z(values) % z(heads);
        output[i] += skip[h] * x[i];
        d_x[i] = c.gradient.value[i] * dt[i / z(values)] + skip[h] * d_output[i];
        d_dt[i / z(values)] += c.gradient.value[i] * x[i];
        d_skip[h] += d_output[i] * x[i];
      }
      for (std::size_t i = 0; i < dt.size(); ++i) {
        const std::size_t h = i % z(heads);
        d_a[h] += c.gradient.log_decay[i] * in.log_decay[i];
        d_dt[i] -= c.gradient.log_decay[i] * std::exp(a_log[h]);
        d_dt[i] *= sigmoid(raw_dt[i] + bias[h]);
        d_bias[h] += d_dt[i];
      }
      CHECK(distance(output, f.flat("output")) < 1e-12);
      CHECK(distance(transposed(c.forward.final_state, keys, values), f.flat("final_state")) < 1e-12);
      CHECK(distance(c.gradient.query, f.flat("grad_input.C")) < 1e-12);
      CHECK(distance(c.gradient.key, f.flat("grad_input.B")) < 1e-12);
      CHECK(distance(d_x, f.flat("grad_input.x")) < 1e-12);
      CHECK(distance(d_dt, f.flat("grad_input.dt")) < 1e-12);
      CHECK(distance(d_a, f.flat("grad_input.A_log")) < 1e-12);
      CHECK(distance(d_skip, f.flat("grad_input.D")) < 1e-12);
      CHECK(distance(d_bias, f.flat("grad_input.dt_bias")) < 1e-12);
      if (grouped)
        CHECK(distance(transposed(c.gradient.initial, keys, values), f.flat("grad_input.initial_state")) < 1e-12);
    }
  }
}

TEST_CASE("the recurrence reproduces the operator of RWKV-5 and RWKV-6", "[cpu][linear_recurrence][golden]") {
  for (const bool per_token : {false, true}) {
    const Fixture f(per_token ? "wkv6_l24" : "wkv5_l24", 2, 24, 8, 8);
    Operands in{f.rows("input.r"), f.rows("input.k"),
                f.rows("input.v"), per_token ? f.rows("input.w") : f.flat("input.w"),
                f.flat("input.u"), f.no_state()};
    for (double& a : in.log_decay) a = -std::exp(a);
    for (const RecurrenceForm form : forms) {
      const Computed c =
          run<double>(f.shape(), f.sizes(1, RecurrenceDecay::channel, per_token), in, f.rows("grad_output"), form);
      Numbers d_w = c.gradient.log_decay;
      for (std::size_t i = 0; i < d_w.size(); ++i) d_w[i] *= in.log_decay[i];
      CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
      CHECK(distance(c.gradient.query, f.rows("grad_input.r")) < 1e-12);
      CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
      CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
      CHECK(distance(c.gradient.bonus, f.flat("grad_input.u")) < 1e-12);
      CHECK(distance(d_w, per_token ? f.rows("grad_input.w") : f.flat("grad_input.w")) < 1e-12);
    }
  }
}
