// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective state-space recurrence of Mamba: one thread per channel and chunk of the sequence, the states in
/// registers. What a chunk hands on is found first, so that all chunks run at the same time.
#pragma once

#include <mad/cuda/context.hpp>
#include <mad/cuda/sum.cuh>
#include <mad/ops/selective_scan.hpp>

namespace mad::cuda {

namespace scan_detail {

/// Tokens of a chunk.
inline constexpr int chunk = 32;
/// Tokens between two checkpoints of the states: the backward pass computes that many states again and keeps them.
inline constexpr int stretch = 8;
static_assert(chunk % stretch == 0);

template <class T>
struct Operands {
  const T* u;
  const T* dt;
  const float* a;
  const T* b;
  const T* c;
  const float* skip;
  std::size_t u_stride, dt_stride, b_stride, c_stride;
};

template <class T>
struct Gradients {
  T* u;
  T* dt;
  std::size_t u_stride, dt_stride;
  float* bc;    ///< (blocks along the channels, tokens, 2 States): dB and dC, summed over a block's channels
  float* a;     ///< (chunks of all sequences, Channels States)
  float* skip;  ///< (chunks of all sequences, Channels)
};

/// What a channel needs of one token.
template <int States, class T>
struct Token {
  float u, dt, b[States], c[States];
  __device__ void load(const Operands<T>& o, std::size_t row, int channel) {
    u = to_float(o.u[row * o.u_stride + channel]);
    dt = to_float(o.dt[row * o.dt_stride + channel]);
#pragma unroll
    for (int n = 0; n < States; ++n) {
      b[n] = to_float(o.b[row * o.b_stride + n]);
      c[n] = to_float(o.c[row * o.c_stride + n]);
    }
  }
};

/// What chunks hand on, for all sequences, chunks and channels: with decays a and inputs x, a chunk of tokens turns a
/// state S into exp(A `decay`) S + `state`.
struct Summaries {
  float* decay;     ///< (batch, chunks, Channels): the sum of dt
  float* state;     ///< (batch, chunks, States, Channels): from a state of 0
  float* gradient;  ///< likewise, of the gradient of the state before the chunk; backward pass only

  static __device__ std::size_t at(int batch_entry, int chunks, int k, int states, int n, int channels, int channel) {
    return ((static_cast<std::size_t>(batch_entry) * chunks + k) * states + n) * channels + channel;
  }
};

/// Fills the summaries: of all chunks but the last forward, and, given dy, of all but the first backward. Grid:
/// (channels, chunks, batch).
template <int Channels, int States, bool Backward, class T>
__global__ void __launch_bounds__(128)
    summarise(Operands<T> o, const T* dy, std::size_t dy_stride, Summaries to, int length) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (channel >= Channels) return;
  const int k = static_cast<int>(blockIdx.y);
  const int chunks = static_cast<int>(gridDim.y);
  const int count = min(chunk, length - k * chunk);
  const std::size_t first = std::size_t{blockIdx.z} * length + k * chunk;
  float a[States];
  float state[States]{};
  float gradient[States]{};  // sum over the tokens so far of dy_t C_t and all decays up to t
  float product[States];
  float total = 0;
#pragma unroll
  for (int n = 0; n < States; ++n) {
    a[n] = o.a[channel * States + n];
    product[n] = 1;
  }
#pragma unroll 4
  for (int t = 0; t < count; ++t) {
    Token<States, T> token;
    token.load(o, first + t, channel);
    const float input = token.dt * token.u;
    total += token.dt;
    float dy_t = 0;
    if constexpr (Backward) dy_t = to_float(dy[(first + t) * dy_stride + channel]);
#pragma unroll
    for (int n = 0; n < States; ++n) {
      const float decay = expf(token.dt * a[n]);
      state[n] = decay * state[n] + input * token.b[n];
      if constexpr (Backward) {
        product[n] *= decay;
        gradient[n] += product[n] * dy_t * token.c[n];
      }
    }
  }
  const int entry = static_cast<int>(blockIdx.z);
  to.decay[Summaries::at(entry, chunks, k, 1, 0, Channels, channel)] = total;
#pragma unroll
  for (int n = 0; n < States; ++n) {
    to.state[Summaries::at(entry, chunks, k, States, n, Channels, channel)] = state[n];
    if constexpr (Backward) to.gradient[Summaries::at(entry, chunks, k, States, n, Channels, channel)] = gradient[n];
  }
}

/// The states before chunk k, from the summaries of the chunks before it.
template <int Channels, int States>
__device__ inline void enter(const Summaries& from, int entry, int chunks, int k, int channel, const float (&a)[States],
                             float (&state)[States]) {
#pragma unroll 4
  for (int j = 0; j < k; ++j) {
    const float total = from.decay[Summaries::at(entry, chunks, j, 1, 0, Channels, channel)];
#pragma unroll
    for (int n = 0; n < States; ++n)
      state[n] =
          expf(total * a[n]) * state[n] + from.state[Summaries::at(entry, chunks, j, States, n, Channels, channel)];
  }
}

/// y_t = S_t.C_t + D u_t with S_t = exp(dt_t A) S_{t-1} + dt_t B_t u_t. Grid: (channels, chunks, batch).
template <int Channels, int States, class T>
__global__ void __launch_bounds__(128) forward(Operands<T> o, Summaries from, T* y, std::size_t y_stride, int length) {
  const int channel = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (channel >= Channels) return;
  const int k = static_cast<int>(blockIdx.y);
  float a[States];
  float state[States]{};
#pragma unroll
  for (int n = 0; n < States; ++n) a[n] = o.a[channel * States + n];
  enter<Channels>(from, static_cast<int>(blockIdx.z), static_cast<int>(gridDim.y), k, channel, a, state);
  const float skip = o.skip[channel];
  const std::size_t first = std::size_t{blockIdx.z} * length + k * chunk;
  const int count = min(chunk, length - k * chunk);
#pragma unroll 4
  for (int t = 0; t < count; ++t) {
    Token<States, T> token;
    token.load(o, first + t, channel);
    float out = skip * token.u;
    const float input = token.dt * token.u;
#pragma unroll
    for (int n = 0; n < States; ++n) {
      state[n] = expf(token.dt * a[n]) * state[n] + input * token.b[n];
      out += state[n] * token.c[n];
    }
    y[(first + t) * y_stride + channel] = from_float<T>(out);
  }
}

/// Sums of N numbers over the lanes of a warp; N a power of two of at most 32. Lane i gets the sum of number
/// i / (32 / N). Each step halves the numbers a lane is in charge of, so that it costs N - 1 + log2(32 / N) exchanges.
template <int N>
__device__ inline float sum_over_lanes(float (&x)[N]) {
  int offset = 16;
#pragma unroll
  for (int count = N; count > 1; count /= 2, offset /= 2) {
    const bool upper = (threadIdx.x & offset) != 0;
#pragma unroll
    for (int i = 0; i < count / 2; ++i) {
      const float mine = upper ? x[i + count / 2] : x[i];
      const float theirs = upper ? x[i] : x[i + count / 2];
      x[i] = mine + __shfl_xor_sync(0xffffffffu, theirs, offset);
    }
  }
#pragma unroll
  for (; offset > 0; offset /= 2) x[0] += __shfl_xor_sync(0xffffffffu, x[0], offset);
  return x[0];
}

/// The smallest power of two that is at least N.
template <int N>
inline constexpr int power_of_two = 2 * power_of_two<(N + 1) / 2>;
template <>
inline constexpr int power_of_two<1> = 1;

/// Warps of a block of the backward pass.
template <int Channels>
inline constexpr int warps = Channels >= 256 ? 8 : (Channels + 31) / 32;

//   G_t = dy_t C_t + a_{t+1} G_{t+1};  dC_t = dy_t S_t,  dB_t = dt_t u_t G_t,  du_t = D dy_t + dt_t (G_t.B_t),
//   d_dt = u_t (G_t.B_t) + sum_n G_t S_{t-1} a_t A,  dA = sum_t G_t S_{t-1} a_t dt_t,  dD = sum_t dy_t u_t
/// Grid: (channels, chunks, batch).
template <int Channels, int States, class T>
__global__ void __launch_bounds__(32 * warps<Channels>)
    backward(Operands<T> o, Summaries from, const T* dy, std::size_t dy_stride, Gradients<T> d, int length) {
  constexpr int sums = power_of_two<2 * States>;
  static_assert(sums <= 32, "the selective scan keeps at most 16 states per channel in registers");
  constexpr int stretches = chunk / stretch;
  __shared__ float part[stretch][warps<Channels>][sums];
  const int own = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const bool here = own < Channels;
  const int channel = here ? own : Channels - 1;  // threads without a channel take part in sums, with nothing
  const int k = static_cast<int>(blockIdx.y);
  const int chunks = static_cast<int>(gridDim.y);
  const int entry = static_cast<int>(blockIdx.z);
  const int tokens = min(chunk, length - k * chunk);
  const std::size_t first = std::size_t{blockIdx.z} * length + k * chunk;
  float a[States];
  float state[States]{};
#pragma unroll
  for (int n = 0; n < States; ++n) a[n] = o.a[channel * States + n];
  const float skip = o.skip[channel];
  enter<Channels>(from, entry, chunks, k, channel, a, state);
  float checkpoint[stretches][States];
#pragma unroll
  for (int s = 0; s < stretches; ++s) {
#pragma unroll
    for (int n = 0; n < States; ++n) checkpoint[s][n] = state[n];
    if (s + 1 == stretches) break;
#pragma unroll
    for (int t = s * stretch; t < (s + 1) * stretch; ++t) {
      if (t >= tokens) break;
      Token<States, T> token;
      token.load(o, first + t, channel);
      const float input = token.dt * token.u;
#pragma unroll
      for (int n = 0; n < States; ++n) state[n] = expf(token.dt * a[n]) * state[n] + input * token.b[n];
    }
  }
  float later[States]{};  // a_{t+1} G_{t+1}
  for (int j = chunks - 1; j > k; --j) {
    const float total = from.decay[Summaries::at(entry, chunks, j, 1, 0, Channels, channel)];
#pragma unroll
    for (int n = 0; n < States; ++n)
      later[n] =
          expf(total * a[n]) * later[n] + from.gradient[Summaries::at(entry, chunks, j, States, n, Channels, channel)];
  }
  if (!here) {
#pragma unroll
    for (int n = 0; n < States; ++n) later[n] = 0;
  }
  float d_a[States]{};
  float d_skip = 0;
#pragma unroll
  for (int s = stretches - 1; s >= 0; --s) {
    const int begin = s * stretch;
    const int count = min(stretch, tokens - begin);
    if (count <= 0) continue;
    float before[stretch][States];  // S_{t-1}
#pragma unroll
    for (int n = 0; n < States; ++n) state[n] = checkpoint[s][n];
#pragma unroll
    for (int t = 0; t < stretch; ++t) {
      if (t >= count) break;
      Token<States, T> token;
      token.load(o, first + begin + t, channel);
      const float input = token.dt * token.u;
#pragma unroll
      for (int n = 0; n < States; ++n) {
        before[t][n] = state[n];
        state[n] = expf(token.dt * a[n]) * state[n] + input * token.b[n];
      }
    }
    __syncthreads();  // the sums of the stretch before have been read
#pragma unroll
    for (int t = stretch - 1; t >= 0; --t) {
      if (t >= count) continue;
      Token<States, T> token;
      const std::size_t row = first + begin + t;
      token.load(o, row, channel);
      const float gradient = here ? to_float(dy[row * dy_stride + channel]) : 0.0f;
      float across[sums]{};
      float from_input = 0;
      float from_decay = 0;
#pragma unroll
      for (int n = 0; n < States; ++n) {
        const float decay = expf(token.dt * a[n]);
        const float input = token.dt * token.u * token.b[n];
        const float now = decay * before[t][n] + input;
        const float g = gradient * token.c[n] + later[n];
        later[n] = decay * g;
        const float through = later[n] * before[t][n];
        from_input += g * token.b[n];
        from_decay += through * a[n];
        d_a[n] += through * token.dt;
        across[n] = token.dt * token.u * g;
        across[States + n] = gradient * now;
      }
      d_skip += gradient * token.u;
      if (here) {
        d.u[row * d.u_stride + channel] = from_float<T>(skip * gradient + token.dt * from_input);
        d.dt[row * d.dt_stride + channel] = from_float<T>(token.u * from_input + from_decay);
      }
      const float sum = sum_over_lanes(across);
      constexpr int same = 32 / sums;
      if (threadIdx.x % same == 0) part[t][threadIdx.x / 32][threadIdx.x % 32 / same] = sum;
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count * 2 * States; i += static_cast<int>(blockDim.x)) {
      const int t = i / (2 * States);
      const int n = i % (2 * States);
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps<Channels>; ++w) sum += part[t][w][n];
      d.bc[((std::size_t{blockIdx.x} * gridDim.z * length) + first + begin + t) * 2 * States + n] = sum;
    }
  }
  if (!here) return;
#pragma unroll
  for (int n = 0; n < States; ++n)
    d.a[((std::size_t{blockIdx.z} * chunks + k) * Channels + channel) * States + n] = d_a[n];
  d.skip[(std::size_t{blockIdx.z} * chunks + k) * Channels + channel] = d_skip;
}

/// dB and dC from the parts of the blocks along the channels.
template <int States, class T>
__global__ void __launch_bounds__(256)
    finish(const float* bc, int parts, T* d_b, std::size_t b_stride, T* d_c, std::size_t c_stride, unsigned tokens) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= tokens * 2 * States) return;
  float sum = 0;
  for (int p = 0; p < parts; ++p) sum += bc[std::size_t{static_cast<unsigned>(p)} * tokens * 2 * States + index];
  const unsigned row = index / (2 * States);
  const unsigned n = index % (2 * States);
  if (n < States)
    d_b[row * b_stride + n] = from_float<T>(sum);
  else
    d_c[row * c_stride + n - States] = from_float<T>(sum);
}

/// Operands u, dt, A, B, C, D of a scan from operand First on.
template <int First, class C>
auto operands(const C& call) {
  using T = typename C::template In<First>;
  const auto u = call.template in<First>();
  const auto dt = call.template in<First + 1>();
  const auto b = call.template in<First + 3>();
  const auto c = call.template in<First + 4>();
  return Operands<T>{u.data,
                     dt.data,
                     call.template in<First + 2>().data,
                     b.data,
                     c.data,
                     call.template in<First + 5>().data,
                     static_cast<std::size_t>(u.stride),
                     static_cast<std::size_t>(dt.stride),
                     static_cast<std::size_t>(b.stride),
                     static_cast<std::size_t>(c.stride)};
}

/// Memory for summaries, and the kernel that fills them; a single chunk needs none.
template <int Channels, int States, bool Backward, class T>
Summaries make_summaries(Queue& queue, const Shape& shape, const Operands<T>& o, View<const T> dy) {
  const Index chunks = (shape.length + chunk - 1) / chunk;
  const Index places = shape.batch * chunks * Channels;
  const Summaries to{queue.take<float>(places), queue.take<float>(places * States),
                     queue.take<float>(Backward ? places * States : 0)};
  if (chunks > 1)
    queue.launch("the chunks of a selective scan", summarise<Channels, States, Backward, T>,
                 dim3((Channels + 127) / 128, static_cast<unsigned>(chunks), static_cast<unsigned>(shape.batch)),
                 dim3(128), 0, o, dy.data, dy.stride, to, shape.length);
  return to;
}

}  // namespace scan_detail

template <>
struct Kernel<&ops::selective_scan_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int states = C::node.attribute[ops::selective_scan::state_size];
    constexpr int channels = C::node.width;
    using T = typename C::template Out<0>;
    const auto y = call.out();
    namespace d = scan_detail;
    const Shape& shape = call.shape();
    const auto operands = d::operands<0>(call);
    const d::Summaries from = d::make_summaries<channels, states, false, T>(call.queue(), shape, operands, {});
    const dim3 grid((channels + 127) / 128, static_cast<unsigned>((shape.length + d::chunk - 1) / d::chunk),
                    static_cast<unsigned>(shape.batch));
    call.queue().launch("a selective scan", d::forward<channels, states, T>, grid, dim3(128), 0, operands, from, y.data,
                        y.stride, shape.length);
  }
};

template <>
struct Kernel<&ops::selective_scan_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = scan_detail;
    constexpr int states = C::node.attribute[ops::selective_scan::state_size];
    constexpr int channels = C::node.width;
    constexpr int threads = 32 * d::warps<channels>;
    constexpr int parts = (channels + threads - 1) / threads;
    using T = typename C::template Out<0>;
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const auto dy = call.template in<0>();
    const auto du = call.template out<0>();
    const auto d_dt = call.template out<1>();
    const auto d_b = call.template out<2>();
    const auto d_c = call.template out<3>();
    const Index chunks = (shape.length + d::chunk - 1) / d::chunk;
    const Index all_chunks = chunks * shape.batch;
    const auto operands = d::operands<1>(call);
    const d::Summaries from = d::make_summaries<channels, states, true, T>(queue, shape, operands, dy);
    const d::Gradients<T> gradients{.u = du.data,
                                    .dt = d_dt.data,
                                    .u_stride = static_cast<std::size_t>(du.stride),
                                    .dt_stride = static_cast<std::size_t>(d_dt.stride),
                                    .bc = queue.template take<float>(parts * shape.tokens() * 2 * states),
                                    .a = queue.template take<float>(all_chunks * channels * states),
                                    .skip = queue.template take<float>(all_chunks * channels)};
    queue.launch("the gradient of a selective scan", d::backward<channels, states, T>,
                 dim3(parts, static_cast<unsigned>(chunks), static_cast<unsigned>(shape.batch)), dim3(threads), 0,
                 operands, from, dy.data, dy.stride, gradients, shape.length);
    queue.launch("the gradient of a selective scan's projections", d::finish<states, T>,
                 sum_detail::blocks(shape.tokens() * 2 * states, 256), dim3(256), 0, gradients.bc, parts, d_b.data,
                 d_b.stride, d_c.data, d_c.stride, shape.tokens());
    add_row_sums<float>(queue, {gradients.a, channels * states}, all_chunks, channels * states,
                        call.template out<4>().data);
    add_row_sums<float>(queue, {gradients.skip, channels}, all_chunks, channels, call.template out<5>().data);
  }
};

}  // namespace mad::cuda
