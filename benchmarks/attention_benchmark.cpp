// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The attention kernels on one thread, float, full rotation, one micro-batch of about 512 tokens per iteration.
/// Arguments: length, heads, window. Counters: time per (query, key) pair that is not masked and head; floating-point
/// operations of those pairs alone (4 d forward, 10 d backward; exponentials not counted).
#include <mad/cpu/kernels/attention.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace {

using mad::Index;
using mad::View;

struct Call {
  Call(int head_dim, const benchmark::State& state)
      : sizes{.heads = static_cast<int>(state.range(1)),
              .kv_heads = static_cast<int>(state.range(1)),
              .head_dim = head_dim,
              .window = static_cast<int>(state.range(2)),
              .scale = 1.0 / std::sqrt(static_cast<double>(head_dim)),
              .rotary = head_dim} {
    const Index length = state.range(0);
    shape = {.batch = std::max<Index>(1, 512 / length), .length = length, .max_length = length};
    width = Index{sizes.heads} * head_dim;
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (std::vector<float>* values : {&qkv, &d_qkv, &d_out, &out, &lse}) {
      const Index columns = values == &lse ? sizes.heads : values == &qkv || values == &d_qkv ? 3 * width : width;
      values->resize(static_cast<std::size_t>(shape.tokens() * columns));
      for (float& value : *values) value = normal(generator);
    }
  }

  /// Pairs of query and key that are not masked, over sequences and heads.
  double pairs() const {
    double count = 0;
    for (Index t = 0; t < shape.length; ++t) {
      count += static_cast<double>(sizes.window < 0 ? t + 1 : std::min<Index>(t + 1, sizes.window + 1));
    }
    return count * static_cast<double>(shape.batch) * sizes.heads;
  }
  void count(benchmark::State& state, double operations_per_pair) const {
    using benchmark::Counter;
    const double all = pairs() * static_cast<double>(state.iterations());
    state.counters["s/pair"] = Counter(all, Counter::kIsRate | Counter::kInvert);
    state.counters["FLOP/s"] = Counter(all * operations_per_pair, Counter::kIsRate);
  }

  mad::cpu::AttentionSizes sizes;
  mad::Shape shape;
  Index width = 0;
  // Query, key and value lie side by side, as one projection leaves them.
  std::vector<float> qkv, d_qkv, d_out, out, lse;
  mad::cpu::Workspace workspace;
};

template <int HeadDim>
void forward(benchmark::State& state) {
  Call c(HeadDim, state);
  const View<const float> q{c.qkv.data(), 3 * c.width};
  for (auto _ : state) {
    mad::cpu::attention_forward<HeadDim, float>(c.shape, c.sizes, q, q.columns_from(c.width),
                                                q.columns_from(2 * c.width), {c.out.data(), c.width},
                                                {c.lse.data(), c.sizes.heads}, c.workspace);
    benchmark::ClobberMemory();
  }
  c.count(state, 4.0 * HeadDim);
}

template <int HeadDim>
void backward(benchmark::State& state) {
  Call c(HeadDim, state);
  const View<const float> q{c.qkv.data(), 3 * c.width}, k = q.columns_from(c.width), v = k.columns_from(c.width);
  const View<float> d_q{c.d_qkv.data(), 3 * c.width};
  const View<float> out{c.out.data(), c.width}, lse{c.lse.data(), c.sizes.heads};
  mad::cpu::attention_forward<HeadDim, float>(c.shape, c.sizes, q, k, v, out, lse, c.workspace);
  for (auto _ : state) {
    mad::cpu::attention_backward<HeadDim, float>(c.shape, c.sizes, q, k, v, out, lse, {c.d_out.data(), c.width}, d_q,
                                                 d_q.columns_from(c.width), d_q.columns_from(2 * c.width), c.workspace);
    benchmark::ClobberMemory();
  }
  c.count(state, 10.0 * HeadDim);
}

}  // namespace

BENCHMARK(forward<8>)->Args({128, 16, -1})->Args({1024, 16, -1})->Args({1024, 16, 32});
BENCHMARK(backward<8>)->Args({128, 16, -1})->Args({1024, 16, -1})->Args({1024, 16, 32});
BENCHMARK(forward<16>)->Args({128, 8, -1});
BENCHMARK(backward<16>)->Args({128, 8, -1});
BENCHMARK(forward<64>)->Args({128, 2, -1});
BENCHMARK(backward<64>)->Args({128, 2, -1});
BENCHMARK(forward<128>)->Args({128, 1, -1});
BENCHMARK(backward<128>)->Args({128, 1, -1});
