// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The recurrence of RWKV-7 and its gradient, token by token. A block takes one head of one sequence; the vectors of
/// several tokens lie in shared memory, the state in registers.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/column_recurrence.cuh>
#include <mad/ops/diagonal_plus_rank_one.hpp>

namespace mad::cuda {

namespace rank_one_detail {

/// The vectors of a token that all rows of the state read.
enum Vector { receptance, decay, key, reading, writing };  // r, w, k, a, b
inline constexpr int vectors = 5;

/// How the state (Value, Key) of a head is spread over a block: `parts` lanes share a row, each with `own` neighbouring
/// columns. Lanes of the same columns are neighbours, so that sums over rows stay within 32 / parts of them. `Chunk`
/// channels of a head's vectors are read at once, `OutChunk` of their gradients written.
template <int Heads, int Key, int Value, int Chunk, int OutChunk>
struct Layout {
  static constexpr int heads = Heads, key = Key, value = Value, chunk = Chunk, out_chunk = OutChunk;
  static constexpr int parts = Key < 8 ? 1 : Key <= 16 ? 2 : 4;
  static constexpr int own = (Key + parts - 1) / parts;
  static constexpr int padded = own * parts;
  static constexpr int rows = 32 / parts;  ///< of a warp
  static constexpr int warps = (Value + rows - 1) / rows;
  static constexpr int threads = 32 * warps;
  static_assert(threads <= 1024, "mad: heads of the generalised delta rule on the device have at most 256 values");
  static constexpr int stretch = own <= 8 ? 8 : 4;  ///< tokens in shared memory, and between states that are kept

  using Tokens = float[stretch][vectors][padded];
};

/// A thread's place in a block's state.
template <class S>
struct Place {
  int head;
  std::size_t sequence;  ///< its first token
  int part;
  int row;
  bool here;  ///< false for rows behind the last, which hold zeros

  __device__ explicit Place(int length) {
    head = static_cast<int>(blockIdx.x % S::heads);
    sequence = std::size_t{blockIdx.x / S::heads} * length;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    part = lane / S::rows;
    row = static_cast<int>(threadIdx.x) / 32 * S::rows + lane % S::rows;
    here = row < S::value;
  }

  /// The sum over a whole row of products of what its lanes hold.
  __device__ float row_dot(const float (&a)[S::own], const float (&b)[S::own]) const {
    float sum = dot(a, b);
#pragma unroll
    for (int offset = S::rows; offset < 32; offset *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    return sum;
  }
};

template <class T>
struct Operands {
  const T* vector[vectors];
  std::size_t stride[vectors];
  const T* value;
  std::size_t value_stride;
};

/// Numbers of a thread's row, `S::stretch` tokens from `first` on; 0 behind the end of the sequence.
template <class S, class T>
__device__ void load_values(float (&x)[S::stretch], const T* from, std::size_t stride, const Place<S>& place, int first,
                            int length) {
#pragma unroll
  for (int u = 0; u < S::stretch; ++u)
    x[u] = place.here && first + u < length
               ? to_float(from[(place.sequence + first + u) * stride + place.head * S::value + place.row])
               : 0.0f;
}

/// The vectors of a stretch on their way from memory to shared memory, a share in each thread. Behind the end of the
/// sequence all are 0 and the decay is exp(0): such tokens change nothing.
template <class S>
struct Stretch {
  static constexpr int per_token = S::key / S::chunk;
  static constexpr int chunks = S::stretch * per_token;
  static constexpr int rounds = (chunks + S::threads - 1) / S::threads;
  float value[vectors][rounds][S::chunk];

  template <class T>
  __device__ void load(const Operands<T>& o, const Place<S>& place, int first, int length) {
#pragma unroll
    for (int v = 0; v < vectors; ++v)
#pragma unroll
      for (int r = 0; r < rounds; ++r) {
        const int i = r * S::threads + static_cast<int>(threadIdx.x);
        const int t = first + i / per_token;
#pragma unroll
        for (int n = 0; n < S::chunk; ++n) value[v][r][n] = 0;
        if (i < chunks && t < length)
          cuda::load(o.vector[v] + (place.sequence + t) * o.stride[v] + place.head * S::key + i % per_token * S::chunk,
                     value[v][r]);
      }
  }
  __device__ void store(typename S::Tokens& to) const {
#pragma unroll
    for (int v = 0; v < vectors; ++v)
#pragma unroll
      for (int r = 0; r < rounds; ++r) {
        const int i = r * S::threads + static_cast<int>(threadIdx.x);
        if (i >= chunks) break;
#pragma unroll
        for (int n = 0; n < S::chunk; ++n)
          to[i / per_token][v][i % per_token * S::chunk + n] = v == decay ? expf(value[v][r][n]) : value[v][r][n];
      }
  }
};

/// Columns behind the last hold zeros for good.
template <class S>
__device__ void clear_padding(typename S::Tokens& tokens) {
  constexpr int columns = S::padded - S::key;
  if constexpr (columns > 0)
    for (int i = static_cast<int>(threadIdx.x); i < S::stretch * vectors * columns; i += S::threads)
      tokens[i / columns / vectors][i / columns % vectors][S::key + i % columns] = 0;
}

template <class S>
__device__ void load_own(const typename S::Tokens& tokens, int u, Vector v, int part, float (&x)[S::own]) {
  load_row<4>(&tokens[u][v][part * S::own], x);
}

/// S_t = S_{t-1} diag(w) + p b + v k, p = S_{t-1} a^T. Returns p.
template <class S>
__device__ float advance(const typename S::Tokens& tokens, int u, const Place<S>& place, float value,
                         float (&state)[S::own]) {
  float a[S::own];
  float b[S::own];
  float k[S::own];
  float w[S::own];
  load_own<S>(tokens, u, reading, place.part, a);
  load_own<S>(tokens, u, writing, place.part, b);
  load_own<S>(tokens, u, key, place.part, k);
  load_own<S>(tokens, u, decay, place.part, w);
  const float p = place.row_dot(state, a);
#pragma unroll
  for (int i = 0; i < S::own; ++i) state[i] = state[i] * w[i] + value * k[i] + p * b[i];
  return p;
}

template <class S, class T>
__global__ void __launch_bounds__(S::threads)
    forward(const __grid_constant__ Operands<T> o, T* y, std::size_t y_stride, int length) {
  __shared__ alignas(16) typename S::Tokens tokens;
  const Place<S> place(length);
  clear_padding<S>(tokens);
  float state[S::own]{};
  Stretch<S> next;
  float next_values[S::stretch];
  next.load(o, place, 0, length);
  load_values<S>(next_values, o.value, o.value_stride, place, 0, length);
  for (int first = 0; first < length; first += S::stretch) {
    float values[S::stretch];
#pragma unroll
    for (int u = 0; u < S::stretch; ++u) values[u] = next_values[u];
    __syncthreads();
    next.store(tokens);
    __syncthreads();
    next.load(o, place, first + S::stretch, length);
    load_values<S>(next_values, o.value, o.value_stride, place, first + S::stretch, length);
#pragma unroll
    for (int u = 0; u < S::stretch; ++u) {
      advance<S>(tokens, u, place, values[u], state);
      float r[S::own];
      load_own<S>(tokens, u, receptance, place.part, r);
      const float out = place.row_dot(state, r);
      if (place.here && place.part == 0 && first + u < length)
        y[(place.sequence + first + u) * y_stride + place.head * S::value + place.row] = from_float<T>(out);
    }
  }
}

template <class T>
struct Gradients {
  T* vector[vectors];
  std::size_t stride[vectors];
  T* value;
  std::size_t value_stride;
};

/// Shared memory of the backward pass: vectors of a stretch, and their gradients as each warp's rows give them.
template <class S>
struct BackwardMemory {
  alignas(16) typename S::Tokens tokens;
  typename S::Tokens gradients[S::warps];
};

/// The gradients of a stretch's vectors: sums over the warps.
template <class S, class T>
__device__ void store_gradients(const BackwardMemory<S>& memory, const Gradients<T>& d, const Place<S>& place,
                                int first, int length) {
  constexpr int per_token = S::key / S::out_chunk;
  for (int i = static_cast<int>(threadIdx.x); i < S::stretch * per_token; i += S::threads) {
    const int u = i / per_token;
    const int c = i % per_token * S::out_chunk;
    if (first + u >= length) break;
    const std::size_t token = place.sequence + first + u;
#pragma unroll
    for (int v = 0; v < vectors; ++v) {
      float sum[S::out_chunk]{};
      for (int warp = 0; warp < S::warps; ++warp)
#pragma unroll
        for (int n = 0; n < S::out_chunk; ++n) sum[n] += memory.gradients[warp][u][v][c + n];
      store(d.vector[v] + token * d.stride[v] + place.head * S::key + c, sum);
    }
  }
}

//   G_t = do_t^T r_t + G_{t+1} diag(w_{t+1}) + (G_{t+1} b_{t+1}^T) a_{t+1}
//   dr_t = do_t S_t,  dk_t = v_t G_t,  dv_t = G_t k_t^T,  db_t = p_t^T G_t,
//   da_t = (G_t b_t^T)^T S_{t-1},  d log w_t = w_t * (column sums of G_t * S_{t-1})
template <class S, class T>
__global__ void __launch_bounds__(S::threads)
    backward(const __grid_constant__ Operands<T> o, const T* dy, std::size_t dy_stride,
             const __grid_constant__ Gradients<T> d, Checkpoints checkpoints, int length) {
  extern __shared__ float4 dynamic_memory[];
  BackwardMemory<S>& memory = *reinterpret_cast<BackwardMemory<S>*>(dynamic_memory);
  const typename S::Tokens& tokens = memory.tokens;
  const Place<S> place(length);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane_row = static_cast<int>(threadIdx.x) % S::rows;
  clear_padding<S>(memory.tokens);
  const int stretches = (length + S::stretch - 1) / S::stretch;
  float state[S::own]{};
  Stretch<S> next;
  float values[S::stretch];
  next.load(o, place, 0, length);
  for (int s = 0; s < stretches; ++s) {
    checkpoints.keep(s, state);
    if (s + 1 == stretches) break;  // `next` holds the last stretch
    load_values<S>(values, o.value, o.value_stride, place, s * S::stretch, length);
    __syncthreads();
    next.store(memory.tokens);
    __syncthreads();
    next.load(o, place, (s + 1) * S::stretch, length);
#pragma unroll
    for (int u = 0; u < S::stretch; ++u) advance<S>(tokens, u, place, values[u], state);
  }
  float later[S::own]{};  // G_{t+1} diag(w_{t+1}) + (G_{t+1} b_{t+1}^T) a_{t+1}
  for (int s = stretches - 1; s >= 0; --s) {
    const int first = s * S::stretch;
    float gradients[S::stretch];
    load_values<S>(values, o.value, o.value_stride, place, first, length);
    load_values<S>(gradients, dy, dy_stride, place, first, length);
    float before[S::stretch + 1][S::own];  // S_{t-1}
    checkpoints.load(s, before[0]);
    __syncthreads();
    next.store(memory.tokens);
    __syncthreads();
    if (s > 0) next.load(o, place, first - S::stretch, length);
    float p[S::stretch];
#pragma unroll
    for (int u = 0; u < S::stretch; ++u) {
#pragma unroll
      for (int i = 0; i < S::own; ++i) before[u + 1][i] = before[u][i];
      p[u] = advance<S>(tokens, u, place, values[u], before[u + 1]);
    }
#pragma unroll
    for (int u = S::stretch - 1; u >= 0; --u) {
      const auto give = [&](Vector v, const float(&x)[S::own]) {
        sum_to_lanes<S::rows>(x, lane_row,
                              [&](int i, float sum) { memory.gradients[warp][u][v][place.part * S::own + i] = sum; });
      };
      float x[S::own];
      float sum[S::own];
      load_own<S>(tokens, u, receptance, place.part, x);
#pragma unroll
      for (int i = 0; i < S::own; ++i) {
        later[i] += gradients[u] * x[i];  // G_t
        sum[i] = gradients[u] * before[u + 1][i];
      }
      give(receptance, sum);
      load_own<S>(tokens, u, key, place.part, x);
      const float d_value = place.row_dot(later, x);
      if (place.here && place.part == 0 && first + u < length)
        d.value[(place.sequence + first + u) * d.value_stride + place.head * S::value + place.row] =
            from_float<T>(d_value);
#pragma unroll
      for (int i = 0; i < S::own; ++i) sum[i] = values[u] * later[i];
      give(key, sum);
      load_own<S>(tokens, u, writing, place.part, x);
      const float d_p = place.row_dot(later, x);
#pragma unroll
      for (int i = 0; i < S::own; ++i) sum[i] = p[u] * later[i];
      give(writing, sum);
#pragma unroll
      for (int i = 0; i < S::own; ++i) sum[i] = d_p * before[u][i];
      give(reading, sum);
      load_own<S>(tokens, u, decay, place.part, x);
#pragma unroll
      for (int i = 0; i < S::own; ++i) {
        later[i] *= x[i];
        sum[i] = later[i] * before[u][i];
      }
      give(decay, sum);
      load_own<S>(tokens, u, reading, place.part, x);
#pragma unroll
      for (int i = 0; i < S::own; ++i) later[i] += d_p * x[i];
    }
    __syncthreads();
    store_gradients<S>(memory, d, place, first, length);
  }
}

// Operands of the recurrence from operand First on, and outputs of its gradient, lie in the order r, log w, k, v, a, b.
inline constexpr int value_operand = 3;
inline constexpr int vector_operand[vectors] = {0, 1, 2, 4, 5};

template <int First, class C>
auto operands(const C& call) {
  using T = typename C::template In<First>;
  Operands<T> o{};
  [&]<int... V>(std::integer_sequence<int, V...>) {
    const auto set = [&](int v, const View<const T>& x) {
      o.vector[v] = x.data;
      o.stride[v] = static_cast<std::size_t>(x.stride);
    };
    (set(V, call.template in<First + vector_operand[V]>()), ...);
  }
  (std::make_integer_sequence<int, vectors>{});
  const auto value = call.template in<First + value_operand>();
  o.value = value.data;
  o.value_stride = static_cast<std::size_t>(value.stride);
  return o;
}

template <class C>
auto gradients(const C& call) {
  using T = typename C::template Out<0>;
  Gradients<T> d{};
  [&]<int... V>(std::integer_sequence<int, V...>) {
    const auto set = [&](int v, const View<T>& x) {
      d.vector[v] = x.data;
      d.stride[v] = static_cast<std::size_t>(x.stride);
    };
    (set(V, call.template out<vector_operand[V]>()), ...);
  }
  (std::make_integer_sequence<int, vectors>{});
  const auto value = call.template out<value_operand>();
  d.value = value.data;
  d.value_stride = static_cast<std::size_t>(value.stride);
  return d;
}

template <class C, int First, bool Backward, int... V>
auto layout_of(std::integer_sequence<int, V...>) {
  constexpr int heads = C::node.attribute[ops::diagonal_plus_rank_one::heads];
  constexpr int key = C::operand(First).width / heads;
  constexpr int value = C::operand(First + value_operand).width / heads;
  constexpr int chunk = common_chunk<key, 4, C::template in_chunk<First + vector_operand[V]>()...>();
  if constexpr (Backward)
    return Layout<heads, key, value, chunk, common_chunk<key, 4, C::template out_chunk<vector_operand[V]>()...>()>{};
  else
    return Layout<heads, key, value, chunk, 1>{};
}
template <class C, int First, bool Backward>
using LayoutOf = decltype(layout_of<C, First, Backward>(std::make_integer_sequence<int, vectors>{}));

}  // namespace rank_one_detail

template <>
struct Kernel<&ops::diagonal_plus_rank_one_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = rank_one_detail;
    using S = d::LayoutOf<C, 0, false>;
    using T = typename C::template Out<0>;
    const auto y = call.out();
    const Shape& shape = call.shape();
    call.queue().launch("a generalised delta rule", d::forward<S, T>,
                        dim3(static_cast<unsigned>(shape.batch * S::heads)), dim3(S::threads), 0, d::operands<0>(call),
                        y.data, y.stride, shape.length);
  }
};

template <>
struct Kernel<&ops::diagonal_plus_rank_one_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = rank_one_detail;
    using S = d::LayoutOf<C, 1, true>;
    using T = typename C::template Out<0>;
    const auto dy = call.template in<0>();
    const Shape& shape = call.shape();
    const Index blocks = shape.batch * S::heads;
    const Index threads = blocks * S::threads;
    const Index stretches = (shape.length + S::stretch - 1) / S::stretch;
    const Checkpoints checkpoints{call.queue().template take<float>(stretches * S::own * threads),
                                  static_cast<unsigned>(threads)};
    call.queue().launch("the gradient of a generalised delta rule", d::backward<S, T>,
                        dim3(static_cast<unsigned>(blocks)), dim3(S::threads), sizeof(d::BackwardMemory<S>),
                        d::operands<1>(call), dy.data, dy.stride, d::gradients(call), checkpoints, shape.length);
  }
};

}  // namespace mad::cuda
