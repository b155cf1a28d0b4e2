// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/kernels/attention.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::AttentionSizes;
using mad::cpu::Workspace;

namespace {

/// A matrix with room between its rows, filled with a marker that no kernel may touch.
template <class T>
struct Matrix {
  static constexpr T marker = T(-77777);

  Matrix(Index row_count, Index width_, Index gap)
      : rows(row_count), width(width_), stride(width_ + gap), values(static_cast<std::size_t>(rows * stride), marker) {}

  T& at(Index r, Index c) { return values[static_cast<std::size_t>(r * stride + c)]; }
  T at(Index r, Index c) const { return values[static_cast<std::size_t>(r * stride + c)]; }
  View<T> view() { return {values.data(), stride}; }
  View<const T> view() const { return {values.data(), stride}; }

  void fill(std::mt19937& generator) {
    std::normal_distribution<double> normal;
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < width; ++c) at(r, c) = static_cast<T>(normal(generator));
    }
  }
  bool gaps_untouched() const {
    for (Index r = 0; r < rows; ++r) {
      for (Index c = width; c < stride; ++c) {
        if (at(r, c) != marker) return false;
      }
    }
    return true;
  }
  Matrix<double> in_double() const {
    Matrix<double> result(rows, width, 0);
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < width; ++c) result.at(r, c) = static_cast<double>(at(r, c));
    }
    return result;
  }

  Index rows, width, stride;
  std::vector<T> values;
};

template <class T, class U>
double largest_difference(const Matrix<T>& a, const Matrix<U>& b) {
  double worst = 0;
  for (Index r = 0; r < a.rows; ++r) {
    for (Index c = 0; c < a.width; ++c) {
      const double difference = std::abs(static_cast<double>(a.at(r, c)) - static_cast<double>(b.at(r, c)));
      if (!(difference <= worst)) worst = std::isnan(difference) ? INFINITY : difference;
    }
  }
  return worst;
}

/// Inputs, outputs and gradients of one call.
template <class T>
struct Tensors {
  Tensors(const Shape& shape, const AttentionSizes& s, Index gap)
      : q(shape.tokens(), Index{s.heads} * s.head_dim, gap),
        k(shape.tokens(), Index{s.kv_heads} * s.head_dim, gap),
        v(k),
        out(q),
        lse(shape.tokens(), s.heads, gap),
        d_out(q),
        d_q(q),
        d_k(k),
        d_v(k) {}

  void fill(unsigned seed) {
    std::mt19937 generator(seed);
    for (Matrix<T>* m : {&q, &k, &v, &d_out}) m->fill(generator);
  }
  Matrix<T> q, k, v, out, lse, d_out, d_q, d_k, d_v;
};

/// The definition, one query and one head at a time, in double; a row of probabilities is kept whole.
struct Definition {
  Shape shape;
  AttentionSizes sizes;

  void turn(Matrix<double>& x, int heads, double direction) const {
    const int half = sizes.rotary / 2;
    for (Index r = 0; r < x.rows; ++r) {
      for (int h = 0; h < heads; ++h) {
        for (int j = 0; j < half; ++j) {
          const double angle = direction * static_cast<double>(r % shape.length) *
                               std::exp(-2.0 * j / sizes.rotary * std::log(sizes.rotary_base));
          double& a = x.at(r, h * sizes.head_dim + (sizes.interleaved ? 2 * j : j));
          double& b = x.at(r, h * sizes.head_dim + (sizes.interleaved ? 2 * j + 1 : j + half));
          const double turned = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = turned;
        }
      }
    }
  }

  void run(Tensors<double>& x) const {
    const int d = sizes.head_dim;
    Matrix<double> q = x.q, k = x.k;
    turn(q, sizes.heads, 1);
    turn(k, sizes.kv_heads, 1);
    for (Matrix<double>* m : {&x.out, &x.d_q, &x.d_k, &x.d_v}) std::fill(m->values.begin(), m->values.end(), 0.0);
    std::vector<double> p(static_cast<std::size_t>(shape.length));
    for (Index row = 0; row < shape.tokens(); ++row) {
      const Index first = row / shape.length * shape.length;
      for (int h = 0; h < sizes.heads; ++h) {
        const int g = h / (sizes.heads / sizes.kv_heads);
        auto sees = [&](Index key) { return key <= row && (sizes.window < 0 || key >= row - sizes.window); };
        double sum = 0;
        for (Index key = first; key <= row; ++key) {
          double score = 0;
          for (int j = 0; j < d; ++j) score += q.at(row, h * d + j) * k.at(key, g * d + j);
          p[static_cast<std::size_t>(key - first)] = sees(key) ? std::exp(sizes.scale * score) : 0.0;
          sum += p[static_cast<std::size_t>(key - first)];
        }
        x.lse.at(row, h) = std::log(sum);
        double mean = 0;  // of the gradients of the probabilities
        for (Index key = first; key <= row; ++key) {
          p[static_cast<std::size_t>(key - first)] /= sum;
          for (int j = 0; j < d; ++j) {
            const double weight = p[static_cast<std::size_t>(key - first)];
            x.out.at(row, h * d + j) += weight * x.v.at(key, g * d + j);
            x.d_v.at(key, g * d + j) += weight * x.d_out.at(row, h * d + j);
            mean += weight * x.d_out.at(row, h * d + j) * x.v.at(key, g * d + j);
          }
        }
        for (Index key = first; key <= row; ++key) {
          double d_p = 0;
          for (int j = 0; j < d; ++j) d_p += x.d_out.at(row, h * d + j) * x.v.at(key, g * d + j);
          const double d_score = sizes.scale * p[static_cast<std::size_t>(key - first)] * (d_p - mean);
          for (int j = 0; j < d; ++j) {
            x.d_q.at(row, h * d + j) += d_score * k.at(key, g * d + j);
            x.d_k.at(key, g * d + j) += d_score * q.at(row, h * d + j);
          }
        }
      }
    }
    turn(x.d_q, sizes.heads, -1);
    turn(x.d_k, sizes.kv_heads, -1);
  }
};

template <int HeadDim, class T>
void run_kernels(const Shape& shape, const AttentionSizes& sizes, Tensors<T>& x, Workspace& workspace) {
  const Tensors<T>& in = x;
  mad::cpu::attention_forward<HeadDim, T>(shape, sizes, in.q.view(), in.k.view(), in.v.view(), x.out.view(),
                                          x.lse.view(), workspace);
  mad::cpu::attention_backward<HeadDim, T>(shape, sizes, in.q.view(), in.k.view(), in.v.view(), in.out.view(),
                                           in.lse.view(), in.d_out.view(), x.d_q.view(), x.d_k.view(), x.d_v.view(),
                                           workspace);
}

template <int HeadDim, class T>
void check_against_definition(const Shape& shape, const AttentionSizes& sizes, Workspace& workspace) {
  Tensors<T> x(shape, sizes, 3);
  x.fill(static_cast<unsigned>(shape.tokens() + sizes.heads + sizes.window));
  run_kernels<HeadDim, T>(shape, sizes, x, workspace);

  Tensors<double> expected(shape, sizes, 0);
  expected.q = x.q.in_double(), expected.k = x.k.in_double();
  expected.v = x.v.in_double(), expected.d_out = x.d_out.in_double();
  Definition{shape, sizes}.run(expected);

  CAPTURE(HeadDim, sizeof(T), shape.batch, shape.length, sizes.heads, sizes.kv_heads, sizes.window, sizes.rotary,
          sizes.interleaved);
  const double bound = sizeof(T) == 4 ? 2e-5 : 2e-13;
  CHECK(largest_difference(x.out, expected.out) < bound);
  CHECK(largest_difference(x.lse, expected.lse) < bound);
  // Gradients of keys and values are sums over queries and heads.
  const double several = 10 * sizes.heads / sizes.kv_heads;
  CHECK(largest_difference(x.d_q, expected.d_q) < several * bound);
  CHECK(largest_difference(x.d_k, expected.d_k) < several * bound);
  CHECK(largest_difference(x.d_v, expected.d_v) < several * bound);
  for (const Matrix<T>* m : {&x.out, &x.lse, &x.d_q, &x.d_k, &x.d_v}) CHECK(m->gaps_untouched());
}

template <int HeadDim>
void check_head_dim(int head_dim) {
  struct Row {
    Index batch, length;
    int heads, kv_heads, window, rotary;
    bool interleaved;
  };
  const int even = head_dim / 2 * 2, part = head_dim / 4 * 2;
  const std::vector<Row> rows{
      {1, 1, 1, 1, -1, even, false},   {2, 1, 2, 1, 0, 0, false},
      {3, 7, 2, 2, -1, even, false},   {2, 15, 2, 2, 3, part, true},
      {1, 16, 1, 1, 0, 0, false},      {2, 17, 4, 2, 40, even, true},
      {1, 24, 4, 1, 5, part, false},   {1, 33, 6, 3, 8, 0, false},
      {1, 64, 1, 1, 16, even, false},  {1, 65, 2, 1, -1, even, false},
      {1, 130, 2, 2, 63, part, false}, {1, 200, 1, 1, 70, even, false},
      {2, 150, 1, 1, -1, 0, false},    {1, 129, 1, 1, 1000000000, 0, false},
  };
  Workspace workspace;
  for (const Row& row : rows) {
    const Shape shape{.batch = row.batch, .length = row.length, .max_length = row.length};
    const AttentionSizes sizes{.heads = row.heads,
                               .kv_heads = row.kv_heads,
                               .head_dim = head_dim,
                               .window = row.window,
                               .scale = 1.0 / std::sqrt(static_cast<double>(head_dim)),
                               .rotary = row.rotary,
                               .rotary_base = 1000.0,
                               .interleaved = row.interleaved};
    check_against_definition<HeadDim, float>(shape, sizes, workspace);
    check_against_definition<HeadDim, double>(shape, sizes, workspace);
  }
}

/// y (rows, out) = x W^T + b
Matrix<double> linear(const Matrix<double>& x, const std::vector<double>& weight, const std::vector<double>& bias,
                      Index outputs) {
  Matrix<double> y(x.rows, outputs, 0);
  for (Index r = 0; r < x.rows; ++r) {
    for (Index o = 0; o < outputs; ++o) {
      double sum = bias.empty() ? 0.0 : bias[static_cast<std::size_t>(o)];
      for (Index i = 0; i < x.width; ++i) sum += x.at(r, i) * weight[static_cast<std::size_t>(o * x.width + i)];
      y.at(r, o) = sum;
    }
  }
  return y;
}

/// d_x (rows, in) = d_y W
Matrix<double> linear_backward(const Matrix<double>& d_y, const std::vector<double>& weight, Index inputs) {
  Matrix<double> d_x(d_y.rows, inputs, 0);
  for (Index r = 0; r < d_y.rows; ++r) {
    for (Index i = 0; i < inputs; ++i) {
      double sum = 0;
      for (Index o = 0; o < d_y.width; ++o) sum += d_y.at(r, o) * weight[static_cast<std::size_t>(o * inputs + i)];
      d_x.at(r, i) = sum;
    }
  }
  return d_x;
}

Matrix<double> matrix_of(const mad::train::Safetensors& file, const std::string& name, Index width) {
  const std::vector<double> values = file.values<double>(name);
  Matrix<double> result(static_cast<Index>(values.size()) / width, width, 0);
  result.values = values;
  return result;
}

}  // namespace

TEST_CASE("attention agrees with its definition for the usual head sizes") {
  check_head_dim<8>(8);
  check_head_dim<16>(16);
  check_head_dim<64>(64);
}

TEST_CASE("attention agrees with its definition for unusual head sizes") {
  check_head_dim<1>(1);
  check_head_dim<3>(3);
  check_head_dim<20>(20);
}

TEST_CASE("attention agrees with its definition for head sizes known at run time") {
  for (const int head_dim : {1, 2, 5, 8, 12, 23, 32, 128}) check_head_dim<0>(head_dim);
}

TEST_CASE("attention gradients agree with finite differences") {
  const Shape shape{.batch = 1, .length = 9, .max_length = 9};
  const AttentionSizes sizes{
      .heads = 2, .kv_heads = 1, .head_dim = 4, .window = 4, .scale = 0.7, .rotary = 2, .rotary_base = 50.0};
  Workspace workspace;
  Tensors<double> x(shape, sizes, 1);
  x.fill(5);
  auto objective = [&] {
    const Tensors<double>& in = x;
    mad::cpu::attention_forward<4, double>(shape, sizes, in.q.view(), in.k.view(), in.v.view(), x.out.view(),
                                           x.lse.view(), workspace);
    double sum = 0;
    for (Index r = 0; r < x.out.rows; ++r) {
      for (Index c = 0; c < x.out.width; ++c) sum += x.out.at(r, c) * x.d_out.at(r, c);
    }
    return sum;
  };
  run_kernels<4, double>(shape, sizes, x, workspace);
  auto check = [&](Matrix<double>& input, const Matrix<double>& gradient) {
    const double step = 1e-3;
    for (Index r = 0; r < input.rows; ++r) {
      for (Index c = 0; c < input.width; ++c) {
        const double value = input.at(r, c);
        auto at = [&](double shift) {
          input.at(r, c) = value + shift;
          return objective();
        };
        const double slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
        input.at(r, c) = value;
        CAPTURE(r, c);
        CHECK(std::abs(slope - gradient.at(r, c)) < 1e-9);
      }
    }
  };
  check(x.q, x.d_q);
  check(x.k, x.d_k);
  check(x.v, x.d_v);
}

TEST_CASE("a later token changes nothing before it, to the bit") {
  const Shape shape{.batch = 2, .length = 40, .max_length = 40};
  const AttentionSizes sizes{.heads = 2, .kv_heads = 2, .head_dim = 8, .window = -1, .scale = 0.3, .rotary = 8};
  Workspace workspace;
  Tensors<float> x(shape, sizes, 0);
  x.fill(6);
  run_kernels<8, float>(shape, sizes, x, workspace);
  for (const Index changed : {Index{3}, Index{21}, Index{39}}) {
    Tensors<float> y = x;
    for (Index c = 0; c < y.q.width; ++c) y.q.at(changed, c) = y.k.at(changed, c) = y.v.at(changed, c) = 1e4f;
    run_kernels<8, float>(shape, sizes, y, workspace);
    bool same = true, differs = false;
    for (Index r = 0; r < shape.tokens(); ++r) {
      for (Index c = 0; c < y.out.width; ++c) {
        const bool reached = r >= changed && r < shape.length;
        (reached ? differs : same) =
            reached ? differs || x.out.at(r, c) != y.out.at(r, c) : same && x.out.at(r, c) == y.out.at(r, c);
      }
    }
    CAPTURE(changed);
    CHECK(same);
    CHECK(differs);
  }
}

TEST_CASE("attention stays finite for scores that an exponential alone cannot hold") {
  const Shape shape{.batch = 1, .length = 70, .max_length = 70};
  const AttentionSizes sizes{.heads = 1, .kv_heads = 1, .head_dim = 8, .window = -1, .scale = 40.0};
  Workspace workspace;
  Tensors<float> x(shape, sizes, 0);
  x.fill(7);
  run_kernels<8, float>(shape, sizes, x, workspace);
  Tensors<double> y(shape, sizes, 0);
  y.q = x.q.in_double(), y.k = x.k.in_double(), y.v = x.v.in_double(), y.d_out = x.d_out.in_double();
  run_kernels<8, double>(shape, sizes, y, workspace);
  // Scores reach several hundred, so a float's own rounding moves probabilities by some 1e-4.
  CHECK(largest_difference(x.out, y.out) < 2e-3);
  double highest = 0;
  for (Index r = 0; r < 70; ++r) highest = std::max(highest, y.lse.at(r, 0));
  CHECK(highest > 300);
  for (Index r = 0; r < 70; ++r) {
    for (Index c = 0; c < 8; ++c) CHECK(std::isfinite(x.d_q.at(r, c) + x.d_k.at(r, c) + x.d_v.at(r, c)));
  }
}

TEST_CASE("a number that is not one reaches the outputs that depend on it") {
  const Shape shape{.batch = 1, .length = 20, .max_length = 20};
  const AttentionSizes sizes{.heads = 1, .kv_heads = 1, .head_dim = 8, .window = -1, .scale = 0.3};
  Workspace workspace;
  for (const int which : {0, 1, 2}) {
    Tensors<float> x(shape, sizes, 0);
    x.fill(8);
    (which == 0 ? x.q : which == 1 ? x.k : x.v).at(5, 2) = std::numeric_limits<float>::quiet_NaN();
    run_kernels<8, float>(shape, sizes, x, workspace);
    CAPTURE(which);
    CHECK(std::isnan(x.out.at(5, 2)));
    CHECK(std::isnan(x.out.at(19, 2)) == (which != 0));
  }
}

TEST_CASE("the exponential of the kernel is accurate to the last bits, and 0 for a masked score") {
  using Packet = Eigen::internal::packet_traits<float>::type;
  constexpr int lanes = mad::cpu::packet_size<Packet>();
  double worst = 0;
  alignas(64) float in[lanes], result[lanes];
  for (float x = -130.0f; x < 4.0f; x += 0.00137f * lanes) {
    for (int i = 0; i < lanes; ++i) in[i] = x + 0.00137f * static_cast<float>(i);
    Eigen::internal::pstore(result, mad::cpu::attention_detail::power_of_two(Eigen::internal::pload<Packet>(in)));
    for (int i = 0; i < lanes; ++i) {
      const double exact = std::exp2(static_cast<double>(in[i]));
      if (in[i] <= -127.0f) {
        CHECK(result[i] <= 0x1p-126f);
      } else if (in[i] > -126.0f) {
        worst = std::max(worst, std::abs(static_cast<double>(result[i]) / exact - 1));
      }
    }
  }
  const Packet masked = Eigen::internal::pset1<Packet>(std::numeric_limits<float>::lowest() / 2);
  Eigen::internal::pstore(result, mad::cpu::attention_detail::power_of_two(masked));
  for (int i = 0; i < lanes; ++i) CHECK(result[i] == 0.0f);
  CHECK(worst < 2e-7);
  CHECK(worst > 0);
}

TEST_CASE("attention layers agree with the reference") {
  for (const std::string name :
       {"attention_d32_l7", "attention_rot16_d32_l24", "mh-attention_d32_l7", "mh-attention_d48_l24",
        "mh-attention_gqa_d32_l24", "mh-attention_norot_d32_l24", "mh-attention_rot4_nobias_d16_l24",
        "mh-sliding-attention_w3_d48_l24", "mh-sliding-attention_w5_d32_l24", "sliding-attention_w32_d32_l7",
        "sliding-attention_w8_d32_l24"}) {
    CAPTURE(name);
    const auto file = mad::train::Safetensors::read(std::string(MAD_GOLDEN_DIR "/layers/") + name + ".safetensors");
    const nlohmann::json args = nlohmann::json::parse(file.text("config")).at("args");
    const Index width = args.at("dim").get<Index>();
    const int heads = args.at("n_heads").get<int>();
    const AttentionSizes sizes{
        .heads = heads,
        .kv_heads = args.at("num_heads_kv").is_null() ? heads : args.at("num_heads_kv").get<int>(),
        .head_dim = static_cast<int>(width) / heads,
        .window = args.at("window_size").at(0).get<int>(),
        .scale = args.at("softmax_scale").is_null() ? 1.0 / std::sqrt(static_cast<double>(width / heads))
                                                    : args.at("softmax_scale").get<double>(),
        .rotary = args.at("rotary_emb_dim").get<int>(),
        .rotary_base = args.at("rotary_emb_base").get<double>(),
        .interleaved = args.at("rotary_emb_interleaved").get<bool>()};
    const Shape shape{.batch = file.shape("input")[0],
                      .length = file.shape("input")[1],
                      .max_length = args.at("max_length").get<Index>()};
    auto weight = [&](const std::string& key) { return file.values<double>("param." + key + ".weight"); };
    auto bias = [&](const std::string& key) {
      return file.contains("param." + key + ".bias") ? file.values<double>("param." + key + ".bias")
                                                     : std::vector<double>{};
    };
    const Index kv_width = Index{sizes.kv_heads} * sizes.head_dim, all = width + 2 * kv_width;
    const Matrix<double> qkv = linear(matrix_of(file, "input", width), weight("Wqkv"), bias("Wqkv"), all);
    Matrix<double> out(shape.tokens(), width, 0), lse(shape.tokens(), heads, 0), d_qkv(shape.tokens(), all, 0);
    Workspace workspace;
    // Query, key and value lie side by side, as in a model.
    const View<const double> q = qkv.view(), k = q.columns_from(width), v = k.columns_from(kv_width);
    mad::cpu::attention_forward<0, double>(shape, sizes, q, k, v, out.view(), lse.view(), workspace);
    CHECK(largest_difference(linear(out, weight("out_proj"), bias("out_proj"), width),
                             matrix_of(file, "output", width)) < 1e-9);

    const Matrix<double> d_out = linear_backward(matrix_of(file, "grad_output", width), weight("out_proj"), width);
    const View<double> d_q = d_qkv.view(), d_k = d_q.columns_from(width), d_v = d_k.columns_from(kv_width);
    const Matrix<double>&const_out = out, &const_lse = lse;
    mad::cpu::attention_backward<0, double>(shape, sizes, q, k, v, const_out.view(), const_lse.view(), d_out.view(),
                                            d_q, d_k, d_v, workspace);
    CHECK(largest_difference(linear_backward(d_qkv, weight("Wqkv"), width), matrix_of(file, "grad_input", width)) <
          1e-9);
  }
}
