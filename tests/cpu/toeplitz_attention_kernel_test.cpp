// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/toeplitz_attention.hpp>

#include "catch.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::ToeplitzAttentionGradients;
using mad::cpu::ToeplitzAttentionMethod;
using mad::cpu::ToeplitzAttentionOperands;
using mad::cpu::ToeplitzAttentionSizes;
using mad::cpu::Workspace;

namespace {

using Numbers = std::vector<double>;
std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// Operands, or gradients of them, rows packed.
struct Tensors {
  Numbers q, k, v, h, skip;
};

Tensors draw(const Shape& shape, const ToeplitzAttentionSizes& sizes, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  const auto numbers = [&](Index count) {
    Numbers result(z(count));
    for (double& x : result) x = static_cast<double>(static_cast<float>(normal(generator)));
    return result;
  };
  const Index width = sizes.heads * sizes.head_width;
  return {numbers(shape.tokens() * width), numbers(shape.tokens() * width), numbers(shape.tokens() * width),
          numbers(shape.length * sizes.heads), numbers(sizes.heads)};
}

/// y[t,j] = sum_i q[t,i] (h conv z_ij + skip z_ij)[t] with z_ij[s] = k[s,i] v[s,j] for every head, and the gradients of
/// sum(y dy), all as loops over the convolutions.
struct Reference {
  Numbers y;
  Tensors gradient;

  Reference(const Shape& shape, const ToeplitzAttentionSizes& sizes, const Tensors& in, const Numbers& dy) {
    const Index M = sizes.head_width, G = sizes.heads, L = shape.length;
    y.assign(in.q.size(), 0);
    gradient = {y, y, y, Numbers(in.h.size(), 0), Numbers(in.skip.size(), 0)};
    for (Index b = 0; b < shape.batch; ++b)
      for (Index g = 0; g < G; ++g)
        for (Index i = 0; i < M; ++i)
          for (Index j = 0; j < M; ++j) {
            const auto at = [&](Index t, Index c) { return z((b * L + t) * G * M + g * M + c); };
            for (Index t = 0; t < L; ++t) {
              double convolved = 0;
              double d_state = 0;  // of z_ij at t
              for (Index s = 0; s < L; ++s) {
                if (s <= t) {
                  const double state = in.k[at(s, i)] * in.v[at(s, j)];
                  convolved += in.h[z((t - s) * G + g)] * state;
                  gradient.h[z((t - s) * G + g)] += in.q[at(t, i)] * dy[at(t, j)] * state;
                }
                if (s >= t) d_state += in.h[z((s - t) * G + g)] * in.q[at(s, i)] * dy[at(s, j)];
              }
              const double state = in.k[at(t, i)] * in.v[at(t, j)];
              convolved += in.skip[z(g)] * state;
              d_state += in.skip[z(g)] * in.q[at(t, i)] * dy[at(t, j)];
              gradient.skip[z(g)] += in.q[at(t, i)] * dy[at(t, j)] * state;
              y[at(t, j)] += in.q[at(t, i)] * convolved;
              gradient.q[at(t, i)] += dy[at(t, j)] * convolved;
              gradient.k[at(t, i)] += d_state * in.v[at(t, j)];
              gradient.v[at(t, j)] += d_state * in.k[at(t, i)];
            }
          }
  }
};

/// Rows further apart than they are wide, with a marker in between.
template <class T>
struct Rows {
  static constexpr Index gap = 5;
  Index width;
  std::vector<T> values;

  Rows(const Numbers& packed, Index width_) : width(width_) {
    const Index rows = static_cast<Index>(packed.size()) / width;
    values.assign(z(rows * (width + gap)), T(77));
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) values[z(r * (width + gap) + c)] = static_cast<T>(packed[z(r * width + c)]);
  }
  View<T> view() { return {values.data(), width + gap}; }
  View<const T> view() const { return {values.data(), width + gap}; }
  Numbers packed() const {
    Numbers result;
    bool intact = true;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (static_cast<Index>(i) % (width + gap) < width)
        result.push_back(static_cast<double>(values[i]));
      else
        intact = intact && values[i] == T(77);
    }
    REQUIRE(intact);
    return result;
  }
};

enum class Form { direct, transform, chosen };

struct Computed {
  Numbers y;
  Tensors gradient;  // of h and skip: added to 1
};

template <int HeadWidth, class T>
Computed run(const Shape& shape, const ToeplitzAttentionSizes& sizes, const Tensors& in, const Numbers& dy, Form form) {
  using namespace mad::cpu;
  const Index width = sizes.heads * sizes.head_width;
  const Rows<T> q(in.q, width), k(in.k, width), v(in.v, width), h(in.h, sizes.heads), d_out(dy, width);
  const std::vector<T> skip(in.skip.begin(), in.skip.end());
  const ToeplitzAttentionOperands<T> operands{q.view(), k.view(), v.view(), h.view(), skip.data()};
  Rows<T> y(Numbers(in.q.size(), 3.0), width), dq = y, dk = y, dv = y, dh(Numbers(in.h.size(), 1.0), sizes.heads);
  std::vector<T> d_skip(skip.size(), T(1));
  const ToeplitzAttentionGradients<T> gradients{dq.view(), dk.view(), dv.view(), dh.view(), d_skip.data()};
  Workspace workspace;
  {  // kernels must not rely on what scratch memory holds
    Workspace::Frame frame(workspace);
    std::fill_n(frame.take<T>(1 << 18), 1 << 18, std::numeric_limits<T>::quiet_NaN());
  }
  const View<const T> d_view = d_out.view();
  switch (form) {
    case Form::direct:
      toeplitz_attention_direct<HeadWidth, T>(shape, sizes, operands, y.view(), workspace);
      toeplitz_attention_direct_backward<HeadWidth, T>(shape, sizes, operands, d_view, gradients, workspace);
      break;
    case Form::transform:
      toeplitz_attention_transform<T>(shape, sizes, operands, y.view(), workspace);
      toeplitz_attention_transform_backward<T>(shape, sizes, operands, d_view, gradients, workspace);
      break;
    case Form::chosen:
      toeplitz_attention_forward<HeadWidth, T>(shape, sizes, operands, y.view(), workspace);
      toeplitz_attention_backward<HeadWidth, T>(shape, sizes, operands, d_view, gradients, workspace);
      break;
  }
  return {y.packed(), {dq.packed(), dk.packed(), dv.packed(), dh.packed(), Numbers(d_skip.begin(), d_skip.end())}};
}

void check(const std::string& what, const Numbers& found, const Numbers& expected, double offset, double tolerance) {
  INFO(what);
  double scale = 1, error = 0;
  for (double x : expected) scale = std::max(scale, std::abs(x));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(found[i] - offset - expected[i]);
    error = std::isfinite(difference) ? std::max(error, difference) : INFINITY;
  }
  CHECK(error / scale < tolerance);
}

template <int HeadWidth, class T>
void compare(const Shape& shape, const ToeplitzAttentionSizes& sizes, Form form, double tolerance) {
  INFO("batch " << shape.batch << ", length " << shape.length << ", heads " << sizes.heads << ", head width "
                << sizes.head_width << ", form " << static_cast<int>(form));
  const Tensors in = draw(shape, sizes, 1);
  const Numbers dy = draw(shape, sizes, 2).q;
  const Reference expected(shape, sizes, in, dy);
  const Computed found = run<HeadWidth, T>(shape, sizes, in, dy, form);
  check("y", found.y, expected.y, 0, tolerance);
  check("dq", found.gradient.q, expected.gradient.q, 0, tolerance);
  check("dk", found.gradient.k, expected.gradient.k, 0, tolerance);
  check("dv", found.gradient.v, expected.gradient.v, 0, tolerance);
  check("dh", found.gradient.h, expected.gradient.h, 1, tolerance);
  check("d_skip", found.gradient.skip, expected.gradient.skip, 1, tolerance);
}

struct Case {
  Shape shape;
  ToeplitzAttentionSizes sizes;
};

// Length 1, odd lengths, lengths around the register, the tile and the transforms; odd head widths.
const Case cases[] = {
    {{1, 1, 1}, {1, 1}},     {{2, 1, 3}, {2, 3}},    {{3, 7, 7}, {2, 5}},     {{1, 8, 8}, {3, 8}},
    {{2, 9, 9}, {1, 9}},     {{1, 33, 40}, {3, 16}}, {{2, 63, 63}, {2, 2}},   {{1, 64, 64}, {1, 17}},
    {{1, 130, 130}, {2, 4}}, {{2, 71, 90}, {1, 32}}, {{1, 193, 193}, {1, 1}},
};

}  // namespace

TEST_CASE("Attention under a Toeplitz mask is the convolution of outer products") {
  for (const Case& c : cases) {
    for (const Form form : {Form::direct, Form::transform, Form::chosen}) {
      compare<0, double>(c.shape, c.sizes, form, 1e-12);
      compare<0, float>(c.shape, c.sizes, form, 1e-4);
    }
  }
}

TEST_CASE("Attention under a Toeplitz mask with the head width known to the compiler") {
  compare<1, double>({2, 37, 37}, {3, 1}, Form::direct, 1e-12);
  compare<3, double>({1, 50, 50}, {2, 3}, Form::direct, 1e-12);
  compare<8, double>({2, 65, 65}, {2, 8}, Form::direct, 1e-12);
  compare<16, double>({1, 129, 129}, {2, 16}, Form::direct, 1e-12);
  compare<16, float>({1, 129, 129}, {2, 16}, Form::direct, 1e-4);
}

TEST_CASE("Attention under a Toeplitz mask at length 2048") {
  compare<2, double>({1, 2048, 2048}, {1, 2}, Form::direct, 1e-12);
  compare<2, double>({1, 2048, 2048}, {1, 2}, Form::transform, 1e-12);
}

TEST_CASE("The form of attention under a Toeplitz mask follows the length") {
  using mad::cpu::Lanes;
  using mad::cpu::toeplitz_attention_method;
  STATIC_REQUIRE(toeplitz_attention_method<float>(1, 1) == ToeplitzAttentionMethod::direct);
  STATIC_REQUIRE(toeplitz_attention_method<float>(1, 64) == ToeplitzAttentionMethod::direct);
  STATIC_REQUIRE(toeplitz_attention_method<float>(128, 16) == ToeplitzAttentionMethod::direct);
  STATIC_REQUIRE(toeplitz_attention_method<float>(1 << 16, 16) == ToeplitzAttentionMethod::transform);
}

TEST_CASE("Attention under a Toeplitz mask has the same bits whatever stands beside it and after it") {
  const ToeplitzAttentionSizes sizes{2, 16};
  const Shape three{3, 37, 37}, one{1, 37, 37};
  const Index width = sizes.heads * sizes.head_width, all = three.length * width;
  Tensors in = draw(three, sizes, 3);
  const Numbers dy = draw(three, sizes, 4).q;
  const Computed whole = run<16, float>(three, sizes, in, dy, Form::chosen);
  const auto part = [&](const Numbers& x, Index b) { return Numbers(x.begin() + b * all, x.begin() + (b + 1) * all); };
  for (Index b = 0; b < 3; ++b) {
    const Computed alone = run<16, float>(one, sizes, {part(in.q, b), part(in.k, b), part(in.v, b), in.h, in.skip},
                                          part(dy, b), Form::chosen);
    CHECK(alone.y == part(whole.y, b));
    CHECK(alone.gradient.q == part(whole.gradient.q, b));
    CHECK(alone.gradient.k == part(whole.gradient.k, b));
    CHECK(alone.gradient.v == part(whole.gradient.v, b));
  }
  const Index changed = 20;
  for (Index c = 0; c < width; ++c) in.q[z(changed * width + c)] = in.k[z(changed * width + c)] = 100;
  const Computed later = run<16, float>(three, sizes, in, dy, Form::chosen);
  CHECK(std::equal(later.y.begin(), later.y.begin() + changed * width, whole.y.begin()));
  CHECK(later.y[z(changed * width)] != whole.y[z(changed * width)]);
}

TEST_CASE("Attention under a Toeplitz mask token by token") {
  const ToeplitzAttentionSizes sizes{3, 5};
  const Shape shape{2, 19, 24};
  const Index width = sizes.heads * sizes.head_width;
  const Tensors in = draw(shape, sizes, 5);
  const Reference expected(shape, sizes, in, in.q);
  const Rows<double> h(in.h, sizes.heads);
  Numbers state(z(shape.batch * mad::cpu::toeplitz_attention_step_state(shape.max_length, sizes)), 0);
  REQUIRE(static_cast<Index>(state.size()) == 2 * shape.batch * shape.max_length * width);
  for (Index t = 0; t < shape.length; ++t) {
    Numbers q, k, v, row;
    for (Index b = 0; b < shape.batch; ++b)
      for (Index c = 0; c < width; ++c) {
        const std::size_t at = z((b * shape.length + t) * width + c);
        q.push_back(in.q[at]);
        k.push_back(in.k[at]);
        v.push_back(in.v[at]);
        row.push_back(expected.y[at]);
      }
    const Rows<double> q_rows(q, width), k_rows(k, width), v_rows(v, width);
    Rows<double> y(Numbers(row.size(), 3.0), width);
    mad::cpu::toeplitz_attention_step<double>(shape.batch, shape.max_length, t, sizes,
                                              {q_rows.view(), k_rows.view(), v_rows.view(), h.view(), in.skip.data()},
                                              y.view(), state.data());
    check("y at " + std::to_string(t), y.packed(), row, 0, 1e-12);
  }
}
