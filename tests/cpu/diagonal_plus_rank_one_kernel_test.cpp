// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "recurrence.hpp"

#include <mad/cpu/kernels/diagonal_plus_rank_one.hpp>

#include <utility>

namespace mad::testing {

namespace {

using cpu::RankOneGradients;
using cpu::RankOneOperands;
using cpu::RankOneSizes;

/// Operands of the recurrence, or their gradients; rows packed, in double. States are (batch, heads, dk, dv).
struct Problem {
  Shape shape;
  RankOneSizes sizes;
  Numbers r, log_w, k, v, a, b, initial;
};

Problem random_problem(const Shape& shape, const RankOneSizes& s, unsigned seed) {
  const Index keys = shape.tokens() * s.heads * s.key_width;
  const double small = 0.8 / std::sqrt(static_cast<double>(s.key_width));
  Problem p{shape,
            s,
            draw(keys, seed),
            draw(keys, seed + 1, 0.5),
            draw(keys, seed + 2),
            draw(shape.tokens() * s.heads * s.value_width, seed + 3),
            draw(keys, seed + 4, small),
            draw(keys, seed + 5, small),
            draw(shape.batch * s.heads * s.state(), seed + 6)};
  for (std::size_t i = 0; i < p.log_w.size(); ++i)
    p.log_w[i] = static_cast<float>((i % 11 == 4 ? -300 : -1) * std::abs(p.log_w[i]));
  return p;
}

struct Passes {
  Numbers output, final_state;
  Problem gradient;
};

/// Forward and backward token by token, as the formulas are written, with all states kept.
Passes reference(const Problem& p, const Numbers& d_output, const Numbers& d_final) {
  const Index K = p.sizes.key_width, V = p.sizes.value_width, H = p.sizes.heads, length = p.shape.length;
  Passes result{Numbers(p.v.size()), Numbers(p.initial.size()), p};
  Problem& g = result.gradient;
  for (Numbers* x : {&g.r, &g.log_w, &g.k, &g.v, &g.a, &g.b}) x->assign(x->size(), 0.0);
  for (Index n = 0; n < p.shape.batch * H; ++n) {
    const Index start = n * K * V;
    const auto key = [&](Index t, Index i) { return z(((n / H * length + t) * H + n % H) * K + i); };
    const auto value = [&](Index t, Index j) { return z(((n / H * length + t) * H + n % H) * V + j); };
    std::vector<Numbers> state{Numbers(p.initial.begin() + start, p.initial.begin() + start + K * V)}, read;
    for (Index t = 0; t < length; ++t) {
      const Numbers& S = state.back();
      Numbers next(S.size()), found(z(V));
      for (Index j = 0; j < V; ++j) {
        for (Index i = 0; i < K; ++i) found[z(j)] += S[z(i * V + j)] * p.a[key(t, i)];
        for (Index i = 0; i < K; ++i) {
          next[z(i * V + j)] = S[z(i * V + j)] * std::exp(p.log_w[key(t, i)]) + found[z(j)] * p.b[key(t, i)] +
                               p.v[value(t, j)] * p.k[key(t, i)];
          result.output[value(t, j)] += next[z(i * V + j)] * p.r[key(t, i)];
        }
      }
      state.push_back(next);
      read.push_back(found);
    }
    std::copy(state.back().begin(), state.back().end(), result.final_state.begin() + start);
    Numbers G(d_final.begin() + start, d_final.begin() + start + K * V);
    for (Index t = length - 1; t >= 0; --t) {
      Numbers before(G.size());
      for (Index j = 0; j < V; ++j) {
        double d_read = 0;
        for (Index i = 0; i < K; ++i) {
          double& d = G[z(i * V + j)];
          g.r[key(t, i)] += d_output[value(t, j)] * state[z(t + 1)][z(i * V + j)];
          d += d_output[value(t, j)] * p.r[key(t, i)];
          g.v[value(t, j)] += d * p.k[key(t, i)];
          g.k[key(t, i)] += d * p.v[value(t, j)];
          g.b[key(t, i)] += d * read[z(t)][z(j)];
          d_read += d * p.b[key(t, i)];
          before[z(i * V + j)] = d * std::exp(p.log_w[key(t, i)]);
          g.log_w[key(t, i)] += before[z(i * V + j)] * state[z(t)][z(i * V + j)];
        }
        for (Index i = 0; i < K; ++i) {
          before[z(i * V + j)] += d_read * p.a[key(t, i)];
          g.a[key(t, i)] += d_read * state[z(t)][z(i * V + j)];
        }
      }
      G = before;
    }
    std::copy(G.begin(), G.end(), g.initial.begin() + start);
  }
  return result;
}

/// The kernels under test.
template <class T, int KeyWidth = 0, int ValueWidth = 0>
Passes run(const Problem& p, const Numbers& d_output, const Numbers& d_final) {
  const Index keys = p.sizes.heads * p.sizes.key_width, values = p.sizes.heads * p.sizes.value_width;
  const Rows<T> r(p.r, keys), log_w(p.log_w, keys), k(p.k, keys), v(p.v, values), a(p.a, keys), b(p.b, keys);
  const std::vector<T> initial(p.initial.begin(), p.initial.end()), d_last(d_final.begin(), d_final.end());
  const RankOneOperands<T> in{r.view(), log_w.view(), k.view(), v.view(), a.view(), b.view(), initial.data()};
  Rows<T> o(Numbers(p.v.size(), 3), values);
  std::vector<T> last(initial.size(), T(3)), d_initial(initial.size(), T(3));
  cpu::Workspace workspace;
  cpu::diagonal_plus_rank_one_forward<KeyWidth, T>(p.shape, p.sizes, in, o.view(), workspace, last.data());
  Rows<T> dr = k, dw = k, dk = r, dv = o, da = r, db = r;
  const RankOneGradients<T> out{dr.view(), dw.view(), dk.view(), dv.view(), da.view(), db.view(), d_initial.data()};
  const Rows<T> d_o(d_output, values);
  cpu::diagonal_plus_rank_one_backward<KeyWidth, ValueWidth, T>(p.shape, p.sizes, in, d_o.view(), out, workspace,
                                                                d_last.data());
  return {o.packed(),
          Numbers(last.begin(), last.end()),
          {p.shape, p.sizes, dr.packed(), dw.packed(), dk.packed(), dv.packed(), da.packed(), db.packed(),
           Numbers(d_initial.begin(), d_initial.end())}};
}

void check_equal(const Passes& found, const Passes& expected, double tolerance) {
  CHECK(distance(found.output, expected.output) < tolerance);
  CHECK(distance(found.final_state, expected.final_state) < tolerance);
  const Problem &g = found.gradient, &e = expected.gradient;
  CHECK(distance(g.r, e.r) < tolerance);
  CHECK(distance(g.log_w, e.log_w) < tolerance);
  CHECK(distance(g.k, e.k) < tolerance);
  CHECK(distance(g.v, e.v) < tolerance);
  CHECK(distance(g.a, e.a) < tolerance);
  CHECK(distance(g.b, e.b) < tolerance);
  CHECK(distance(g.initial, e.initial) < tolerance);
}

template <int KeyWidth = 0, int ValueWidth = 0>
void check(const Shape& shape, const RankOneSizes& sizes) {
  INFO("batch " << shape.batch << ", length " << shape.length << ", heads " << sizes.heads << ", widths "
                << sizes.key_width << " and " << sizes.value_width);
  const Problem p = random_problem(shape, sizes, 21);
  const Numbers d_output = draw(static_cast<Index>(p.v.size()), 3);
  const Numbers d_final = draw(static_cast<Index>(p.initial.size()), 4);
  const Passes expected = reference(p, d_output, d_final);
  check_equal(run<double, KeyWidth, ValueWidth>(p, d_output, d_final), expected, 1e-12);
  check_equal(run<float, KeyWidth, ValueWidth>(p, d_output, d_final), expected, 1e-4);
}

}  // namespace

TEST_CASE("A diagonal plus rank one and its gradients are the plain recurrence") {
  check({1, 1, 1}, {1, 1, 1});
  check({3, 1, 4}, {2, 3, 5});
  check({2, 5, 5}, {2, 6, 4});
  check<16, 16>({2, 17, 17}, {2, 16, 16});
  check<8, 12>({1, 16, 16}, {3, 8, 12});
  check<5, 3>({2, 33, 40}, {2, 5, 3});
  check({1, 47, 47}, {1, 21, 35});
  check({1, 40, 40}, {2, 64, 32});
}

TEST_CASE("A diagonal plus rank one agrees with the reference's RWKV-7") {
  const CoreFixture f("core_rwkv7_l24");
  const auto& d = f.dims("input.r");
  const Index H = d[1], K = d[3], V = f.dims("input.v")[3];
  const Numbers raw_w = f.tokens("input.w"), raw_kk = f.tokens("input.kk"), rate = f.tokens("input.a");
  Problem p{{d[0], d[2], d[2]},
            {H, K, V},
            f.tokens("input.r"),
            raw_w,
            f.tokens("input.k"),
            f.tokens("input.v"),
            raw_kk,
            raw_kk,
            Numbers(z(d[0] * H * K * V))};
  const double clamp = std::exp(-0.5);
  Numbers norm(raw_kk.size());
  for (std::size_t i = 0; i < raw_w.size(); ++i) {
    p.log_w[i] = -clamp / (1 + std::exp(-raw_w[i]));
    for (std::size_t n = i / z(K) * z(K); n < (i / z(K) + 1) * z(K); ++n) norm[i] += raw_kk[n] * raw_kk[n];
    norm[i] = std::sqrt(norm[i]);
    p.a[i] = -raw_kk[i] / norm[i];
    p.b[i] = raw_kk[i] / norm[i] * rate[i];
  }
  const Passes found = run<double>(p, f.tokens("grad_output"), Numbers(p.initial.size()));
  CHECK(distance(found.output, f.tokens("output")) < 1e-9);
  const Numbers last = f.values("final_state");  // (.., dv, dk)
  Numbers transposed(last.size());
  for (std::size_t i = 0; i < last.size(); ++i) {
    const std::size_t n = i / z(K * V), j = i % z(K * V) / z(K), key = i % z(K);
    transposed[n * z(K * V) + key * z(V) + j] = last[i];
  }
  CHECK(distance(found.final_state, transposed) < 1e-9);

  const Problem& g = found.gradient;
  Numbers d_w(raw_w.size()), d_rate(rate.size()), d_unit(rate.size()), d_kk(rate.size());
  for (std::size_t i = 0; i < rate.size(); ++i) {
    const double s = 1 / (1 + std::exp(-raw_w[i]));
    d_w[i] = g.log_w[i] * -clamp * s * (1 - s);
    d_rate[i] = g.b[i] * -p.a[i];
    d_unit[i] = g.b[i] * rate[i] - g.a[i];
  }
  for (std::size_t i = 0; i < rate.size(); ++i) {
    double inner = 0;
    for (std::size_t n = i / z(K) * z(K); n < (i / z(K) + 1) * z(K); ++n) inner -= p.a[n] * d_unit[n];
    d_kk[i] = (d_unit[i] + p.a[i] * inner) / norm[i];
  }
  CHECK(distance(g.r, f.tokens("grad_input.r")) < 1e-9);
  CHECK(distance(d_w, f.tokens("grad_input.w")) < 1e-9);
  CHECK(distance(g.k, f.tokens("grad_input.k")) < 1e-9);
  CHECK(distance(g.v, f.tokens("grad_input.v")) < 1e-9);
  CHECK(distance(d_kk, f.tokens("grad_input.kk")) < 1e-9);
  CHECK(distance(d_rate, f.tokens("grad_input.a")) < 1e-9);
}

TEST_CASE("A diagonal plus rank one step by step is the whole") {
  Problem p = random_problem({3, 19, 19}, {2, 6, 11}, 5);
  p.initial.assign(p.initial.size(), 0.0);
  const Passes whole = run<double>(p, Numbers(p.v.size()), Numbers(p.initial.size()));
  const Index keys = p.sizes.heads * p.sizes.key_width, values = p.sizes.heads * p.sizes.value_width;
  const Index length = p.shape.length;
  Numbers state = p.initial, output(p.v.size());
  cpu::Workspace workspace;
  for (Index t = 0; t < length; ++t) {
    // Rows of one position lie a sequence apart.
    const auto at = [&](const Numbers& x, Index width) {
      return View<const double>{x.data() + t * width, length * width};
    };
    const RankOneOperands<double> in{at(p.r, keys),   at(p.log_w, keys), at(p.k, keys),
                                     at(p.v, values), at(p.a, keys),     at(p.b, keys)};
    cpu::diagonal_plus_rank_one_step<double>(p.shape.batch, p.sizes, in, state.data(),
                                             {output.data() + t * values, length * values}, workspace);
  }
  CHECK(distance(output, whole.output) < 1e-12);
  CHECK(distance(state, whole.final_state) < 1e-12);
}

TEST_CASE("A sequence's diagonal plus rank one does not depend on the sequences beside it") {
  const Problem p = random_problem({3, 37, 37}, {2, 16, 16}, 8);
  const Numbers d_output = draw(static_cast<Index>(p.v.size()), 3), d_final(p.initial.size());
  const Passes all = run<float, 16, 16>(p, d_output, d_final);
  Problem last = p;
  last.shape.batch = 1;
  const auto tail = [](const Numbers& x) { return Numbers(x.end() - static_cast<Index>(x.size() / 3), x.end()); };
  for (Numbers* x : {&last.r, &last.log_w, &last.k, &last.v, &last.a, &last.b, &last.initial}) *x = tail(*x);
  const Passes one = run<float, 16, 16>(last, tail(d_output), tail(d_final));
  CHECK(one.output == tail(all.output));
  CHECK(one.gradient.log_w == tail(all.gradient.log_w));
  CHECK(one.gradient.b == tail(all.gradient.b));
}

}  // namespace mad::testing
