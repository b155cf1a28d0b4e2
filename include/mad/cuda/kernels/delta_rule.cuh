// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The delta rule, with and without decay, and its gradient, token by token.
#pragma once

#include <mad/cuda/kernels/column_recurrence.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/delta_rule.hpp>

namespace mad::cuda {

namespace delta_detail {

template <class C, int First>
struct Sizes {
  static constexpr int heads = C::node.attribute[ops::delta_rule::heads];
  static constexpr int key_heads = C::node.attribute[ops::delta_rule::key_heads];
  static constexpr int key = C::operand(First).width / key_heads;
  static constexpr int value = C::operand(First + 2).width / heads;
  static constexpr bool decay = C::has(First + 4);
  static constexpr int query_chunk = C::template in_chunk<First>();
  static constexpr int key_chunk = C::template in_chunk<First + 1>();
};

/// The sizes alone: layers of the same sizes share kernels.
template <int Heads, int KeyHeads, int Key, int Value, bool Decay, int QueryChunk, int KeyChunk>
struct Shape {
  static constexpr int heads = Heads, key_heads = KeyHeads, key = Key, value = Value;
  static constexpr bool decay = Decay;
  static constexpr int query_chunk = QueryChunk, key_chunk = KeyChunk;
};
template <class S>
using ShapeOf = Shape<S::heads, S::key_heads, S::key, S::value, S::decay, S::query_chunk, S::key_chunk>;

template <class T>
struct Operands {
  const T* query;
  const T* key;
  const T* value;
  const T* beta;
  const T* log_decay;
  std::size_t query_stride, key_stride, value_stride, beta_stride, decay_stride;
};

/// What a token brings to a column of the state. Behind the end of the sequence it brings nothing and keeps the state.
template <class S>
struct Token {
  float query[S::key];
  float key[S::key];
  float value;
  float beta;
  float decay;

  template <class T>
  __device__ void load(const Operands<T>& o, const Column<S::value, S::heads>& c, int t, int length) {
    const bool inside = t < length;
    const std::size_t row = std::size_t(c.sequence) * length + (inside ? t : length - 1);
    const int key_head = c.head / (S::heads / S::key_heads);
    load_row<S::query_chunk>(o.query + row * o.query_stride + key_head * S::key, query);
    load_row<S::key_chunk>(o.key + row * o.key_stride + key_head * S::key, key);
    value = c.here ? to_float(o.value[row * o.value_stride + c.head * S::value + c.column]) : 0.0f;
    beta = inside ? to_float(o.beta[row * o.beta_stride + c.head]) : 0.0f;
    decay = 1;
    if constexpr (S::decay) decay = inside ? expf(to_float(o.log_decay[row * o.decay_stride + c.head])) : 1.0f;
  }

  /// S' = w S, e = v - k S', S = S' + beta k e. Returns e.
  __device__ float advance(float (&state)[S::key]) const {
    if constexpr (S::decay) {
#pragma unroll
      for (int i = 0; i < S::key; ++i) state[i] *= decay;
    }
    const float error = value - dot(key, state);
    const float input = beta * error;
#pragma unroll
    for (int i = 0; i < S::key; ++i) state[i] += key[i] * input;
    return error;
  }
};

inline constexpr int at_once = 4;  ///< tokens whose operands are read together
inline constexpr int stretch = 8;  ///< tokens between states that are kept

template <class S, class T>
__global__ void __launch_bounds__(128)
    forward(Operands<T> o, T* y, std::size_t y_stride, unsigned items, int length, float scale) {
  const Column<S::value, S::heads> c(items);
  float state[S::key]{};
  for (int first = 0; first < length; first += at_once) {
    Token<S> token[at_once];
#pragma unroll
    for (int u = 0; u < at_once; ++u) token[u].load(o, c, first + u, length);
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      token[u].advance(state);
      if (c.here && first + u < length)
        y[(std::size_t(c.sequence) * length + first + u) * y_stride + c.head * S::value + c.column] =
            from_float<T>(scale * dot(token[u].query, state));
    }
  }
}

/// Gradients; those of query, key, beta and log decay go to `parts` (tiles and heads, tokens, 2 key + 2) where several
/// items share them.
template <class T>
struct Gradients {
  T* query;
  T* key;
  T* value;
  T* beta;
  T* log_decay;
  std::size_t query_stride, key_stride, value_stride, beta_stride, decay_stride;
  float* parts;
};

template <class S>
inline constexpr bool is_shared = ColumnLanes<S::value>::tiles > 1 || S::heads != S::key_heads;
template <class S>
inline constexpr int part_width = 2 * S::key + 2;

//   G_t = c q_t^T do_t + w_{t+1} (G_{t+1} - k_{t+1}^T dv_{t+1})
//   dv_t = beta_t k_t G_t,  dbeta_t = e_t.(k_t G_t),  dq_t = c do_t S_t^T,
//   dk_t = beta_t e_t G_t^T - dv_t S'^T,  dg_t = sum of S' * (G_t - k_t^T dv_t)
template <class S, class T>
__global__ void __launch_bounds__(128)
    backward(Operands<T> o, const T* dy, std::size_t dy_stride, Gradients<T> d, Checkpoints checkpoints, unsigned items,
             int batch, int length, float scale) {
  constexpr int lanes = ColumnLanes<S::value>::lanes;
  const Column<S::value, S::heads> c(items);
  const bool item_here = blockIdx.x * ColumnLanes<S::value>::items_per_block + threadIdx.x / lanes < items;
  const int stretches = (length + stretch - 1) / stretch;
  float state[S::key]{};
  for (int s = 0; s < stretches; ++s) {
    checkpoints.keep(s, state);
    if (s + 1 == stretches) break;
#pragma unroll
    for (int half = 0; half < stretch; half += at_once) {
      Token<S> token[at_once];
#pragma unroll
      for (int u = 0; u < at_once; ++u) token[u].load(o, c, s * stretch + half + u, length);
#pragma unroll
      for (int u = 0; u < at_once; ++u) token[u].advance(state);
    }
  }
  float later[S::key]{};  // w_{t+1} (G_{t+1} - k_{t+1} dv_{t+1})
  for (int s = stretches - 1; s >= 0; --s) {
    float before[stretch][S::key];  // S_{t-1}
    checkpoints.load(s, state);
#pragma unroll
    for (int u = 0; u < stretch; ++u) {
#pragma unroll
      for (int i = 0; i < S::key; ++i) before[u][i] = state[i];
      if (u + 1 == stretch) break;
      Token<S> token;
      token.load(o, c, s * stretch + u, length);
      token.advance(state);
    }
#pragma unroll
    for (int u = stretch - 1; u >= 0; --u) {
      const int t = s * stretch + u;
      const bool inside = t < length;
      const std::size_t row = std::size_t(c.sequence) * length + (inside ? t : length - 1);
      Token<S> token;
      token.load(o, c, t, length);
      const float gradient =
          c.here && inside ? scale * to_float(dy[row * dy_stride + c.head * S::value + c.column]) : 0.0f;
      float kept[S::key];  // S'
#pragma unroll
      for (int i = 0; i < S::key; ++i) kept[i] = token.decay * before[u][i];
      const float error = token.value - dot(token.key, kept);
      const float input = token.beta * error;
#pragma unroll
      for (int i = 0; i < S::key; ++i) later[i] += token.query[i] * gradient;  // G_t
      const float through = dot(token.key, later);
      const float d_value = token.beta * through;
      float d_query[S::key];
      float d_key[S::key];
      float d_decay = 0;
#pragma unroll
      for (int i = 0; i < S::key; ++i) {
        d_query[i] = gradient * (kept[i] + token.key[i] * input);
        d_key[i] = input * later[i] - d_value * kept[i];
        later[i] -= token.key[i] * d_value;
        d_decay += kept[i] * later[i];
        later[i] *= token.decay;
      }
      if (c.here && inside) d.value[row * d.value_stride + c.head * S::value + c.column] = from_float<T>(d_value);
      const bool writes = item_here && inside;
      float* part = nullptr;
      if constexpr (is_shared<S>)
        part = d.parts + ((std::size_t(c.tile) * S::heads + c.head) * batch * length + row) * part_width<S>;
      sum_to_lanes<lanes>(d_query, c.lane, [&](int i, float sum) {
        if (!writes) return;
        if constexpr (is_shared<S>)
          part[i] = sum;
        else
          d.query[row * d.query_stride + c.head * S::key + i] = from_float<T>(sum);
      });
      sum_to_lanes<lanes>(d_key, c.lane, [&](int i, float sum) {
        if (!writes) return;
        if constexpr (is_shared<S>)
          part[S::key + i] = sum;
        else
          d.key[row * d.key_stride + c.head * S::key + i] = from_float<T>(sum);
      });
      const float d_beta = lane_sum<lanes>(error * through);
      if constexpr (S::decay) d_decay = lane_sum<lanes>(d_decay);
      if (!writes || c.lane != 0) continue;
      if constexpr (is_shared<S>) {
        part[2 * S::key] = d_beta;
        part[2 * S::key + 1] = d_decay;
      } else {
        d.beta[row * d.beta_stride + c.head] = from_float<T>(d_beta);
        if constexpr (S::decay) d.log_decay[row * d.decay_stride + c.head] = from_float<T>(d_decay);
      }
    }
  }
}

/// Operands of a delta rule from operand First on.
template <int First, class C>
auto operands(const C& call) {
  using T = typename C::template In<First>;
  const auto query = call.template in<First>();
  const auto key = call.template in<First + 1>();
  const auto value = call.template in<First + 2>();
  const auto beta = call.template in<First + 3>();
  View<const T> log_decay;
  if constexpr (C::has(First + 4)) log_decay = call.template in<First + 4>();
  const auto stride = [](const auto& v) { return static_cast<std::size_t>(v.stride); };
  return Operands<T>{query.data,    key.data,    value.data,    beta.data,    log_decay.data,
                     stride(query), stride(key), stride(value), stride(beta), stride(log_decay)};
}

/// Adds up the parts of the items that share a gradient.
template <class S, class T>
void add_shares(Queue& queue, const Gradients<T>& d, Index tokens) {
  constexpr int tiles = ColumnLanes<S::value>::tiles;
  constexpr int group = S::heads / S::key_heads;
  constexpr auto width = static_cast<std::size_t>(part_width<S>);
  const auto sum = [&](const float* from, int parts, std::size_t part_stride, int first, int columns, T* to,
                       std::size_t to_stride) {
    const Index elements = tokens * columns;
    queue.launch("a sum over heads", add_parts<T>, sum_detail::blocks(elements, 256), dim3(256), 0, from, parts,
                 part_stride, width, first, columns, to, to_stride, elements);
  };
  static_assert(tiles == 1 || group == 1,
                "mad: the delta rule on the device shares keys among heads of at most 32 values");
  const std::size_t head = static_cast<std::size_t>(tokens) * width;
  for (int h = 0; h < S::key_heads; ++h) {
    const int parts = tiles > 1 ? tiles : group;
    const std::size_t stride = tiles > 1 ? S::heads * head : head;
    const float* from = d.parts == nullptr ? nullptr : d.parts + static_cast<std::size_t>(h) * group * head;
    sum(from, parts, stride, 0, S::key, d.query + h * S::key, d.query_stride);
    sum(from, parts, stride, S::key, S::key, d.key + h * S::key, d.key_stride);
  }
  for (int h = 0; h < S::heads; ++h) {
    const float* from = d.parts == nullptr ? nullptr : d.parts + static_cast<std::size_t>(h) * head;
    sum(from, tiles, S::heads * head, 2 * S::key, 1, d.beta + h, d.beta_stride);
    if constexpr (S::decay) sum(from, tiles, S::heads * head, 2 * S::key + 1, 1, d.log_decay + h, d.decay_stride);
  }
}

}  // namespace delta_detail

template <>
struct Kernel<&ops::delta_rule_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = delta_detail;
    using S = d::ShapeOf<d::Sizes<C, 0>>;
    using L = ColumnLanes<S::value>;
    using T = typename C::template Out<0>;
    const auto y = call.out();
    const Index items = call.shape().batch * S::heads * L::tiles;
    call.queue().launch("a delta rule", d::forward<S, T>, dim3(L::blocks(items)), dim3(L::threads), 0,
                        d::operands<0>(call), y.data, y.stride, items, call.shape().length,
                        C::node.number[ops::delta_rule::scale]);
  }
};

template <>
struct Kernel<&ops::delta_rule_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = delta_detail;
    using S = d::ShapeOf<d::Sizes<C, 1>>;
    using L = ColumnLanes<S::value>;
    using T = typename C::template Out<0>;
    const auto& shape = call.shape();
    const auto dy = call.template in<0>();
    const auto query = call.template out<0>();
    const auto key = call.template out<1>();
    const auto value = call.template out<2>();
    const auto beta = call.template out<3>();
    View<T> log_decay;
    if constexpr (S::decay) log_decay = call.template out<4>();
    const auto stride = [](const auto& v) { return static_cast<std::size_t>(v.stride); };
    const Index items = shape.batch * S::heads * L::tiles;
    const unsigned blocks = L::blocks(items);
    const unsigned threads = blocks * L::threads;
    const Index stretches = (shape.length + d::stretch - 1) / d::stretch;
    float* parts = nullptr;
    if constexpr (d::is_shared<S>)
      parts = call.queue().template take<float>(shape.tokens() * S::heads * L::tiles * d::part_width<S>);
    const d::Gradients<T> gradients{query.data,     key.data,          value.data,  beta.data,
                                    log_decay.data, stride(query),     stride(key), stride(value),
                                    stride(beta),   stride(log_decay), parts};
    const Checkpoints checkpoints{call.queue().template take<float>(stretches * S::key * threads), threads};
    call.queue().launch("the gradient of a delta rule", d::backward<S, T>, dim3(blocks), dim3(L::threads), 0,
                        d::operands<1>(call), dy.data, dy.stride, gradients, checkpoints, items, shape.batch,
                        shape.length, C::node.number[ops::delta_rule::scale]);
    if constexpr (d::is_shared<S>) d::add_shares<S>(call.queue(), gradients, shape.tokens());
  }
};

}  // namespace mad::cuda
