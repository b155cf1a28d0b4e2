// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "cpu/linear_recurrence_cases.hpp"

namespace mad::linear_recurrence_testing {

namespace {

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
    // Eigen's exponential of a packet ends near the smallest normal number (in AVX2 at 2.9e-39, where std::exp goes to
    // 0), and so much may be wrong in every term of a sum over tokens and states.
    const auto terms = static_cast<double>(shape.tokens() * s.key_width * s.value_width);
    const double floor = terms * static_cast<double>(std::numeric_limits<T>::min()) / tolerance;
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

}  // namespace mad::linear_recurrence_testing
