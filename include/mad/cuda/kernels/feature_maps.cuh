// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Feature maps of linear attention that multiply channels of a head with each other, and their gradients.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/feature_maps.hpp>

#include <cmath>

namespace mad::cuda {

namespace feature_map_detail {

inline constexpr int shifts = ops::dpfp_shifts;

/// r = [relu(x), -relu(x)] of a head of `Width` channels, a ring of twice the width. r_{i+Width} = -r_i.
template <int Width, class T>
struct Ring {
  const T* x;

  /// Elements [first, first + N) for a `first` that N divides, at least -8 Width; N divides the width.
  template <int N>
  __device__ void get(int first, float (&r)[N]) const {
    const unsigned at = static_cast<unsigned>(first + 8 * Width) % (2 * Width);
    const bool second = at >= Width;
    load(x + (second ? at - Width : at), r);
#pragma unroll
    for (int i = 0; i < N; ++i) r[i] = second ? -fmaxf(r[i], 0.0f) : fmaxf(r[i], 0.0f);
  }
};

/// y_{j,i} = r_i r_{i-j} for j = 1 .. 4. A thread computes `Chunk` neighbours i for all j.
template <int Heads, int Width, int Chunk, class T, class U>
__global__ void __launch_bounds__(256)
    dpfp_forward(const T* x, std::size_t x_stride, U* y, std::size_t y_stride, unsigned items) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= items) return;
  constexpr unsigned per_head = 2 * Width / Chunk;
  const unsigned row = index / (Heads * per_head);
  const unsigned head = index / per_head % Heads;
  const int first = static_cast<int>(index % per_head) * Chunk;
  const Ring<Width, T> ring{x + row * x_stride + head * Width};
  constexpr int piece = Chunk < shifts ? Chunk : shifts;
  float r[shifts + Chunk];  // from `shifts` elements before the first on
#pragma unroll
  for (int i = 0; i < shifts; i += piece) ring.get(first - shifts + i, reinterpret_cast<float(&)[piece]>(r[i]));
  ring.get(first, reinterpret_cast<float(&)[Chunk]>(r[shifts]));
  y += row * y_stride + head * (2 * shifts * Width) + first;
#pragma unroll
  for (int j = 1; j <= shifts; ++j) {
    float product[Chunk];
#pragma unroll
    for (int i = 0; i < Chunk; ++i) product[i] = r[shifts + i] * r[shifts + i - j];
    store(y + (j - 1) * 2 * Width, product);
  }
}

/// dx_i = [x_i > 0] sum_j (e_{j,i} r_{i-j} + e_{j,i+j} r_{i+j}) with e_{j,i} = dy_{j,i} + dy_{j,i+Width}, of period
/// `Width` in i: the two halves of the ring at once. A thread computes `Chunk` neighbours i.
template <int Heads, int Width, int Chunk, class T, class U, class V>
__global__ void __launch_bounds__(256)
    dpfp_backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, V* dx, std::size_t dx_stride,
                  unsigned items) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= items) return;
  constexpr unsigned per_head = Width / Chunk;
  const unsigned row = index / (Heads * per_head);
  const unsigned head = index / per_head % Heads;
  const int first = static_cast<int>(index % per_head) * Chunk;
  const Ring<Width, U> ring{x + row * x_stride + head * Width};
  constexpr int piece = Chunk < shifts ? Chunk : shifts;
  float r[shifts + Chunk + shifts];  // from `shifts` elements before the first on
#pragma unroll
  for (int i = 0; i < shifts; i += piece) {
    ring.get(first - shifts + i, reinterpret_cast<float(&)[piece]>(r[i]));
    ring.get(first + Chunk + i, reinterpret_cast<float(&)[piece]>(r[shifts + Chunk + i]));
  }
  ring.get(first, reinterpret_cast<float(&)[Chunk]>(r[shifts]));
  dy += row * dy_stride + head * (2 * shifts * Width);
  float sum[Chunk]{};
#pragma unroll
  for (int j = 1; j <= shifts; ++j) {
    const T* from = dy + (j - 1) * 2 * Width;
    float e[Chunk + shifts];  // from the first on
    const auto both_halves = [&]<int N>(float(&to)[N], int at) {
      float other[N];
      load(from + at, to);
      load(from + Width + at, other);
#pragma unroll
      for (int i = 0; i < N; ++i) to[i] += other[i];
    };
    both_halves(reinterpret_cast<float(&)[Chunk]>(e[0]), first);
    if constexpr (Chunk == Width) {
#pragma unroll
      for (int i = 0; i < j; ++i) e[Chunk + i] = e[i % Width];
    } else {
#pragma unroll
      for (int i = 0; i < j; i += piece)
        both_halves(reinterpret_cast<float(&)[piece]>(e[Chunk + i]), (first + Chunk + i) % Width);
    }
#pragma unroll
    for (int i = 0; i < Chunk; ++i) sum[i] += e[i] * r[shifts + i - j] + e[i + j] * r[shifts + i + j];
  }
#pragma unroll
  for (int i = 0; i < Chunk; ++i) sum[i] = r[shifts + i] > 0 ? sum[i] : 0.0f;
  store(dx + row * dx_stride + head * Width + first, sum);
}

/// A feature of `taylor`: factor x_i x_j, where channel number `Width` stands for 1.
struct Term {
  unsigned short i, j;
  float factor;
};

/// The terms of a head of `width` channels in order.
inline const Term* taylor_terms(Queue& queue, int width) {
  constexpr double taylor = 1952541804;  // tells the table from those of other kernels
  return queue.table<Term>({static_cast<double>(width), 0, 0, taylor}, ops::taylor_width(width), [&](Term* to) {
    const auto one = static_cast<unsigned short>(width);
    const auto term = [&](int i, int j, double factor) {
      *to++ = {static_cast<unsigned short>(i), static_cast<unsigned short>(j), static_cast<float>(factor)};
    };
    term(one, one, 1);
    for (int i = 0; i < width; ++i) term(i, one, 1 / std::sqrt(std::sqrt(static_cast<double>(width))));
    for (int i = 0; i < width; ++i) term(i, i, 1 / std::sqrt(2.0 * width));
    for (int i = 0; i < width; ++i)
      for (int j = i + 1; j < width; ++j) term(i, j, 1 / std::sqrt(static_cast<double>(width)));
  });
}

/// One thread per chunk of a row of y, whatever heads it belongs to.
template <int Heads, int Width, int Chunk, class T, class U>
__global__ void __launch_bounds__(256)
    taylor_forward(const T* x, std::size_t x_stride, const Term* terms, U* y, std::size_t y_stride, unsigned items) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= items) return;
  constexpr unsigned features = ops::taylor_width(Width);
  constexpr unsigned per_row = Heads * features / Chunk;
  const unsigned row = index / per_row;
  const unsigned column = index % per_row * Chunk;
  x += row * x_stride;
  float value[Chunk];
#pragma unroll
  for (int k = 0; k < Chunk; ++k) {
    const T* head = x + (column + k) / features * Width;
    const Term term = terms[(column + k) % features];
    const float a = term.i < Width ? to_float(head[term.i]) : 1.0f;
    const float b = term.j < Width ? to_float(head[term.j]) : 1.0f;
    value[k] = term.factor * a * b;
  }
  store(y + row * y_stride + column, value);
}

/// dx_i = a dy_i + 2 b x_i dy_ii + c sum_{j != i} x_j dy_ij. One thread per channel.
template <int Heads, int Width, class T, class U, class V>
__global__ void __launch_bounds__(256)
    taylor_backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, V* dx, std::size_t dx_stride,
                    float linear, float square, float mixed, unsigned items) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= items) return;
  constexpr int features = ops::taylor_width(Width);
  const unsigned row = index / (Heads * Width);
  const unsigned head = index / Width % Heads;
  const int i = static_cast<int>(index % Width);
  x += row * x_stride + head * Width;
  dy += row * dy_stride + head * features + 1;
  float sum = linear * to_float(dy[i]) + 2 * square * to_float(x[i]) * to_float(dy[Width + i]);
  dy += 2 * Width;
  float products = 0;
  // Pair (j, i) for j < i: row j holds the pairs with j + 1, j + 2, ...
  int at = i - 1;
#pragma unroll 4
  for (int j = 0; j < i; ++j) {
    products += to_float(x[j]) * to_float(dy[at]);
    at += Width - 2 - j;
  }
  dy += i * (2 * Width - 1 - i) / 2;
#pragma unroll 4
  for (int j = i + 1; j < Width; ++j) products += to_float(x[j]) * to_float(dy[j - i - 1]);
  sum += mixed * products;
  dx[row * dx_stride + head * Width + i] = from_float<V>(sum);
}

}  // namespace feature_map_detail

template <>
struct Kernel<&ops::dpfp_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::feature_map;
    constexpr int heads = C::node.attribute[a::heads];
    constexpr int width = C::node.attribute[a::head_width];
    constexpr int chunk = common_chunk<width, C::template in_chunk<0>(), C::template out_chunk<0>()>();
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const Index items = call.rows() * (heads * 2 * width / chunk);
    call.queue().launch("a DPFP feature map", feature_map_detail::dpfp_forward<heads, width, chunk, T, U>,
                        sum_detail::blocks(items, 256), dim3(256), 0, x.data, x.stride, y.data, y.stride, items);
  }
};

template <>
struct Kernel<&ops::dpfp_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::feature_map;
    constexpr int heads = C::node.attribute[a::heads];
    constexpr int width = C::node.attribute[a::head_width];
    constexpr int chunk =
        common_chunk<width, C::template in_chunk<0>(), C::template in_chunk<1>(), C::template out_chunk<0>()>();
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    using V = typename C::template Out<0>;
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    const Index items = call.rows() * (heads * width / chunk);
    call.queue().launch("the gradient of a DPFP feature map",
                        feature_map_detail::dpfp_backward<heads, width, chunk, T, U, V>, sum_detail::blocks(items, 256),
                        dim3(256), 0, dy.data, dy.stride, x.data, x.stride, dx.data, dx.stride, items);
  }
};

template <>
struct Kernel<&ops::taylor_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::feature_map;
    constexpr int heads = C::node.attribute[a::heads];
    constexpr int width = C::node.attribute[a::head_width];
    constexpr int chunk = common_chunk<C::node.width, C::template out_chunk<0>()>();
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const Index items = call.rows() * (C::node.width / chunk);
    call.queue().launch("a Taylor feature map", feature_map_detail::taylor_forward<heads, width, chunk, T, U>,
                        sum_detail::blocks(items, 256), dim3(256), 0, x.data, x.stride,
                        feature_map_detail::taylor_terms(call.queue(), width), y.data, y.stride, items);
  }
};

template <>
struct Kernel<&ops::taylor_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::feature_map;
    constexpr int heads = C::node.attribute[a::heads];
    constexpr int width = C::node.attribute[a::head_width];
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    using V = typename C::template Out<0>;
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    const Index items = call.rows() * (heads * width);
    call.queue().launch("the gradient of a Taylor feature map",
                        feature_map_detail::taylor_backward<heads, width, T, U, V>, sum_detail::blocks(items, 256),
                        dim3(256), 0, dy.data, dy.stride, x.data, x.stride, dx.data, dx.stride,
                        1 / std::sqrt(std::sqrt(static_cast<double>(width))), 1 / std::sqrt(2.0 * width),
                        1 / std::sqrt(static_cast<double>(width)), items);
  }
};

}  // namespace mad::cuda
