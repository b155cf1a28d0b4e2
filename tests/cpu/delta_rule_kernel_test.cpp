// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "recurrence.hpp"

#include <mad/cpu/kernels/delta_rule.hpp>

#include <utility>

namespace mad::testing {

namespace {

using cpu::DeltaRuleGradients;
using cpu::DeltaRuleOperands;
using cpu::DeltaRuleSizes;

/// Operands of a delta rule, or their gradients; rows packed, in double. No decay: `log_decay` is empty.
struct Problem {
  Shape shape;
  DeltaRuleSizes sizes;
  Numbers query, key, value, beta, log_decay, initial;
};

Problem random_problem(const Shape& shape, const DeltaRuleSizes& s, bool decays, unsigned seed) {
  const Index tokens = shape.tokens();
  Problem p{shape, s, {}, {}, {}, {}, {}, {}};
  p.query = draw(tokens * s.key_heads * s.key_width, seed);
  p.key = draw(tokens * s.key_heads * s.key_width, seed + 1, 1 / std::sqrt(static_cast<double>(s.key_width)));
  p.value = draw(tokens * s.heads * s.value_width, seed + 2);
  p.beta = draw(tokens * s.heads, seed + 3);
  for (double& b : p.beta) b = static_cast<float>(1.2 / (1 + std::exp(-b)));
  if (decays) {
    p.log_decay = draw(tokens * s.heads, seed + 4);
    for (std::size_t i = 0; i < p.log_decay.size(); ++i) {
      const double strength = i % 7 == 3 ? 300 : 0.4;  // now and then everything is forgotten
      p.log_decay[i] = static_cast<float>(-strength * std::abs(p.log_decay[i]));
    }
  }
  p.initial = draw(shape.batch * s.heads * s.state(), seed + 5);
  return p;
}

struct Passes {
  Numbers output, final_state;
  Problem gradient;
};

/// Forward and backward token by token, as the formulas are written, with all states kept.
Passes reference(const Problem& p, const Numbers& d_output, const Numbers& d_final) {
  const auto& s = p.sizes;
  const Index K = s.key_width, V = s.value_width, H = s.heads, length = p.shape.length;
  Passes r{Numbers(p.value.size()), Numbers(p.initial.size()), p};
  for (Numbers* x : {&r.gradient.query, &r.gradient.key}) x->assign(x->size(), 0.0);
  for (Index b = 0; b < p.shape.batch; ++b)
    for (Index h = 0; h < H; ++h) {
      const Index kh = h / (H / s.key_heads), start = (b * H + h) * K * V;
      const auto key_at = [&](Index t, Index i) { return z(((b * length + t) * s.key_heads + kh) * K + i); };
      const auto value_at = [&](Index t, Index j) { return z(((b * length + t) * H + h) * V + j); };
      const auto gate_at = [&](Index t) { return z((b * length + t) * H + h); };
      std::vector<Numbers> state{Numbers(p.initial.begin() + start, p.initial.begin() + start + K * V)}, decayed, error;
      for (Index t = 0; t < length; ++t) {
        Numbers d = state.back(), e(z(V)), next;
        const double decay = p.log_decay.empty() ? 1 : std::exp(p.log_decay[gate_at(t)]);
        for (double& x : d) x *= decay;
        for (Index j = 0; j < V; ++j) {
          e[z(j)] = p.value[value_at(t, j)];
          for (Index i = 0; i < K; ++i) e[z(j)] -= p.key[key_at(t, i)] * d[z(i * V + j)];
        }
        next = d;
        for (Index i = 0; i < K; ++i)
          for (Index j = 0; j < V; ++j) next[z(i * V + j)] += p.beta[gate_at(t)] * p.key[key_at(t, i)] * e[z(j)];
        for (Index j = 0; j < V; ++j) {
          double o = 0;
          for (Index i = 0; i < K; ++i) o += p.query[key_at(t, i)] * next[z(i * V + j)];
          r.output[value_at(t, j)] = s.scale * o;
        }
        decayed.push_back(d);
        error.push_back(e);
        state.push_back(next);
      }
      std::copy(state.back().begin(), state.back().end(), r.final_state.begin() + start);
      Numbers G(d_final.begin() + start, d_final.begin() + start + K * V);
      for (Index t = length - 1; t >= 0; --t) {
        const double beta = p.beta[gate_at(t)];
        Numbers d_error(z(V));
        for (Index i = 0; i < K; ++i)
          for (Index j = 0; j < V; ++j) {
            const double dy = d_output[value_at(t, j)];
            r.gradient.query[key_at(t, i)] += s.scale * dy * state[z(t + 1)][z(i * V + j)];
            G[z(i * V + j)] += s.scale * dy * p.query[key_at(t, i)];
          }
        double d_beta = 0;
        for (Index j = 0; j < V; ++j) {
          double sum = 0;
          for (Index i = 0; i < K; ++i) {
            sum += G[z(i * V + j)] * p.key[key_at(t, i)];
            r.gradient.key[key_at(t, i)] += G[z(i * V + j)] * beta * error[z(t)][z(j)];
          }
          d_beta += sum * error[z(t)][z(j)];
          d_error[z(j)] = beta * sum;
          r.gradient.value[value_at(t, j)] = d_error[z(j)];
        }
        r.gradient.beta[gate_at(t)] = d_beta;
        double d_decay = 0;  // with respect to its logarithm
        for (Index i = 0; i < K; ++i)
          for (Index j = 0; j < V; ++j) {
            r.gradient.key[key_at(t, i)] -= d_error[z(j)] * decayed[z(t)][z(i * V + j)];
            G[z(i * V + j)] -= d_error[z(j)] * p.key[key_at(t, i)];
            d_decay += G[z(i * V + j)] * decayed[z(t)][z(i * V + j)];
          }
        if (p.log_decay.empty()) continue;
        r.gradient.log_decay[gate_at(t)] = d_decay;
        for (double& x : G) x *= std::exp(p.log_decay[gate_at(t)]);
      }
      std::copy(G.begin(), G.end(), r.gradient.initial.begin() + start);
    }
  return r;
}

enum class Form { recurrent, chunked, chosen };

template <class T>
std::vector<T> rounded(const Numbers& x) {
  return {x.begin(), x.end()};
}

/// The kernels under test.
template <class T, int KeyWidth = 0>
Passes run(const Problem& p, const Numbers& d_output, const Numbers& d_final, Form form) {
  const auto& s = p.sizes;
  const Rows<T> query(p.query, s.key_heads * s.key_width), key(p.key, s.key_heads * s.key_width);
  const Rows<T> value(p.value, s.heads * s.value_width), beta(p.beta, s.heads), decay(p.log_decay, s.heads);
  const std::vector<T> initial = rounded<T>(p.initial), d_last = rounded<T>(d_final);
  DeltaRuleOperands<T> in{query.view(), key.view(), value.view(), beta.view(), {}, initial.data()};
  if (!p.log_decay.empty()) in.log_decay = decay.view();
  Rows<T> output(Numbers(p.value.size(), 3), s.heads * s.value_width);
  std::vector<T> last(initial.size(), T(3)), d_initial(initial.size(), T(3));
  cpu::Workspace workspace;
  if (form == Form::recurrent)
    cpu::delta_rule_recurrent<KeyWidth, T>(p.shape, s, in, output.view(), workspace, last.data());
  if (form == Form::chunked) cpu::delta_rule_chunked<T>(p.shape, s, in, output.view(), workspace, last.data());
  if (form == Form::chosen) cpu::delta_rule_forward<KeyWidth, T>(p.shape, s, in, output.view(), workspace, last.data());
  Rows<T> dq = query, dk = query, dv = output, db = beta, dg = decay;
  DeltaRuleGradients<T> out{dq.view(), dk.view(), dv.view(), db.view(), {}, d_initial.data()};
  if (!p.log_decay.empty()) out.log_decay = dg.view();
  const Rows<T> dy(d_output, s.heads * s.value_width);
  cpu::delta_rule_backward<T>(p.shape, s, in, dy.view(), out, workspace, d_last.data());
  const Numbers no_decay;
  return {output.packed(),
          Numbers(last.begin(), last.end()),
          {p.shape, s, dq.packed(), dk.packed(), dv.packed(), db.packed(), p.log_decay.empty() ? no_decay : dg.packed(),
           Numbers(d_initial.begin(), d_initial.end())}};
}

void check_forward(const Passes& found, const Passes& expected, double tolerance) {
  CHECK(distance(found.output, expected.output) < tolerance);
  CHECK(distance(found.final_state, expected.final_state) < tolerance);
}

void check_gradients(const Problem& found, const Problem& expected, double tolerance) {
  CHECK(distance(found.query, expected.query) < tolerance);
  CHECK(distance(found.key, expected.key) < tolerance);
  CHECK(distance(found.value, expected.value) < tolerance);
  CHECK(distance(found.beta, expected.beta) < tolerance);
  CHECK(distance(found.log_decay, expected.log_decay) < tolerance);
  CHECK(distance(found.initial, expected.initial) < tolerance);
}

template <int KeyWidth = 0>
void check(const Shape& shape, const DeltaRuleSizes& sizes, bool decays) {
  INFO("batch " << shape.batch << ", length " << shape.length << ", heads " << sizes.heads << " on " << sizes.key_heads
                << ", widths " << sizes.key_width << " and " << sizes.value_width << (decays ? ", decays" : ""));
  const Problem p = random_problem(shape, sizes, decays, 11);
  const Numbers d_output = draw(shape.tokens() * sizes.heads * sizes.value_width, 3);
  const Numbers d_final = draw(static_cast<Index>(p.initial.size()), 4);
  const Passes expected = reference(p, d_output, d_final);
  for (const Form form : {Form::recurrent, Form::chunked, Form::chosen}) {
    check_forward(run<double, KeyWidth>(p, d_output, d_final, form), expected, 1e-12);
    check_forward(run<float, KeyWidth>(p, d_output, d_final, form), expected, 2e-5);
  }
  check_gradients(run<double>(p, d_output, d_final, Form::chosen).gradient, expected.gradient, 1e-12);
  check_gradients(run<float>(p, d_output, d_final, Form::chosen).gradient, expected.gradient, 1e-4);
}

/// x / sqrt(sum of squares + 1e-6) of each group of `width`; with `dy` the gradient with respect to x instead.
Numbers unit_rows(const Numbers& x, Index width, const Numbers* dy = nullptr) {
  Numbers result(x.size());
  for (std::size_t r = 0; r < x.size(); r += z(width)) {
    double square = 1e-6, inner = 0;
    for (std::size_t i = r; i < r + z(width); ++i) {
      square += x[i] * x[i];
      if (dy) inner += x[i] * (*dy)[i];
    }
    for (std::size_t i = r; i < r + z(width); ++i)
      result[i] = ((dy ? (*dy)[i] : x[i]) - (dy ? x[i] * inner / square : 0)) / std::sqrt(square);
  }
  return result;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Compares both forms with a fixture whose keys may be normalised and whose gates may be raw.
void check_fixture(const std::string& name, bool normalised, bool raw_gates) {
  INFO("fixture " << name);
  const CoreFixture f(name);
  const auto& d = f.dims("input.q");
  const Index H = d[1], K = d[3], V = f.dims("input.v")[3];
  const Numbers q = f.tokens("input.q"), k = f.tokens("input.k");
  Problem p{
      {d[0], d[2], d[2]}, {H, H, K, V, 1 / std::sqrt(static_cast<double>(K))}, q, k, f.tokens("input.v"), {}, {}, {}};
  if (normalised) p.query = unit_rows(q, K), p.key = unit_rows(k, K);
  p.initial = f.contains("input.initial_state") ? f.values("input.initial_state") : Numbers(z(d[0] * H * K * V));
  Numbers a, b, A_log, dt_bias;
  if (raw_gates) {
    a = f.tokens("input.a"), b = f.tokens("input.b"), A_log = f.values("input.A_log"),
    dt_bias = f.values("input.dt_bias");
    for (std::size_t i = 0; i < a.size(); ++i) {
      p.beta.push_back(sigmoid(b[i]));
      p.log_decay.push_back(-std::exp(A_log[i % z(H)]) * std::log1p(std::exp(a[i] + dt_bias[i % z(H)])));
    }
  } else {
    p.beta = f.tokens("input.beta");
    if (f.contains("input.g")) p.log_decay = f.tokens("input.g");
  }
  const Numbers d_output = f.tokens("grad_output"), d_final(p.initial.size());
  for (const Form form : {Form::recurrent, Form::chunked, Form::chosen}) {
    const Passes found = run<double>(p, d_output, d_final, form);
    CHECK(distance(found.output, f.tokens("output")) < 1e-9);
    CHECK(distance(found.final_state, f.values("final_state")) < 1e-9);
  }
  const Problem g = run<double>(p, d_output, d_final, Form::chosen).gradient;
  CHECK(distance(normalised ? unit_rows(q, K, &g.query) : g.query, f.tokens("grad_input.q")) < 1e-9);
  CHECK(distance(normalised ? unit_rows(k, K, &g.key) : g.key, f.tokens("grad_input.k")) < 1e-9);
  CHECK(distance(g.value, f.tokens("grad_input.v")) < 1e-9);
  if (f.contains("input.initial_state")) CHECK(distance(g.initial, f.values("grad_input.initial_state")) < 1e-9);
  if (raw_gates) {
    Numbers da(a.size()), db(b.size()), d_log(z(H)), d_bias(z(H));
    for (std::size_t i = 0; i < a.size(); ++i) {
      const std::size_t h = i % z(H);
      db[i] = g.beta[i] * p.beta[i] * (1 - p.beta[i]);
      da[i] = g.log_decay[i] * -std::exp(A_log[h]) * sigmoid(a[i] + dt_bias[h]);
      d_bias[h] += da[i];
      d_log[h] += g.log_decay[i] * p.log_decay[i];
    }
    CHECK(distance(da, f.tokens("grad_input.a")) < 1e-9);
    CHECK(distance(db, f.tokens("grad_input.b")) < 1e-9);
    CHECK(distance(d_log, f.values("grad_input.A_log")) < 1e-9);
    CHECK(distance(d_bias, f.values("grad_input.dt_bias")) < 1e-9);
  } else {
    CHECK(distance(g.beta, f.tokens("grad_input.beta")) < 1e-9);
    if (!p.log_decay.empty()) CHECK(distance(g.log_decay, f.tokens("grad_input.g")) < 1e-9);
  }
}

}  // namespace

TEST_CASE("Both forms of the delta rule and its gradients are the plain recurrence") {
  for (const bool decays : {false, true}) {
    check({1, 1, 1}, {1, 1, 1, 1, 1.0}, decays);
    check({2, 5, 5}, {2, 2, 3, 5, 0.7}, decays);
    check({1, 16, 16}, {2, 1, 16, 16, 0.25}, decays);
    check<16>({2, 17, 17}, {4, 2, 16, 16, 0.25}, decays);
    check<8>({3, 33, 40}, {2, 2, 8, 20, 0.5}, decays);
    check({1, 47, 47}, {3, 1, 21, 35, 0.2}, decays);
    check({1, 40, 40}, {1, 1, 64, 32, 0.125}, decays);
    check<40>({1, 18, 18}, {1, 1, 40, 112, 0.125}, decays);
    check({2, 64, 64}, {1, 1, 32, 80, 0.2}, decays);
  }
}

TEST_CASE("The delta rule's gradient keeps only some states of a long sequence") {
  REQUIRE(cpu::chunk_side * cpu::detail::delta_rule_segment < 150);
  check({2, 301, 301}, {2, 1, 7, 9, 0.3}, true);
  check({1, 300, 300}, {2, 2, 12, 16, 0.3}, false);
}

TEST_CASE("The delta rule agrees with the reference") {
  check_fixture("core_delta-rule_l24", true, false);
  check_fixture("core_delta-rule_raw_l7", false, false);
  check_fixture("core_gated-delta-rule_l24", true, true);
  check_fixture("core_gated-delta-rule_raw_l7", false, false);
}

TEST_CASE("The delta rule step by step is the delta rule") {
  for (const bool decays : {false, true}) {
    Problem p = random_problem({3, 19, 19}, {4, 2, 6, 11, 0.4}, decays, 5);
    const auto& s = p.sizes;
    p.initial.assign(p.initial.size(), 0.0);
    const Numbers d_output(p.value.size()), d_final(p.initial.size());
    const Passes whole = run<double>(p, d_output, d_final, Form::chunked);
    const Index keys = s.key_heads * s.key_width, values = s.heads * s.value_width, length = p.shape.length;
    Numbers state = p.initial, output(p.value.size());
    for (Index t = 0; t < length; ++t) {
      DeltaRuleOperands<double> in{{p.query.data() + t * keys, length * keys},
                                   {p.key.data() + t * keys, length * keys},
                                   {p.value.data() + t * values, length * values},
                                   {p.beta.data() + t * s.heads, length * s.heads}};
      if (decays) in.log_decay = {p.log_decay.data() + t * s.heads, length * s.heads};
      cpu::delta_rule_step<double>(p.shape.batch, s, in, state.data(), {output.data() + t * values, length * values});
    }
    CHECK(distance(output, whole.output) < 1e-12);
    CHECK(distance(state, whole.final_state) < 1e-12);
  }
}

TEST_CASE("A sequence's delta rule does not depend on the sequences beside it") {
  const Problem p = random_problem({3, 37, 37}, {2, 2, 16, 16, 0.25}, true, 8);
  const Numbers d_output = draw(static_cast<Index>(p.value.size()), 3), d_final(p.initial.size());
  const Passes all = run<float>(p, d_output, d_final, Form::chunked);
  Problem last = p;
  last.shape.batch = 1;
  const auto tail = [](const Numbers& x) { return Numbers(x.end() - static_cast<Index>(x.size() / 3), x.end()); };
  for (Numbers* x : {&last.query, &last.key, &last.value, &last.beta, &last.log_decay, &last.initial}) *x = tail(*x);
  const Passes one = run<float>(last, tail(d_output), tail(d_final), Form::chunked);
  CHECK(one.output == tail(all.output));
  CHECK(one.gradient.key == tail(all.gradient.key));
  CHECK(one.gradient.log_decay == tail(all.gradient.log_decay));
}

TEST_CASE("Head counts that do not fit are refused") {
  cpu::Workspace workspace;
  CHECK_THROWS_AS((cpu::delta_rule_chunked<double>({1, 1, 1}, {3, 2, 4, 4, 1.0}, {}, {}, workspace)), UsageError);
}

}  // namespace mad::testing
