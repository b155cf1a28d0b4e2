// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rotary positions as an operation of its own.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/rotation.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/rotary.hpp>

#include <numeric>

namespace mad::cuda {

namespace rotary_detail {

/// How the channels of a row are dealt out: a thread takes `Chunk` pairs of channels, or as many channels that stay.
template <int Heads, int Width, int Turned, bool Interleaved, int Chunk>
struct Sizes {
  static constexpr unsigned turning = Turned / (2 * Chunk);
  static constexpr unsigned per_head = turning + (Width - Turned) / Chunk;
  static constexpr unsigned per_row = Heads * per_head;
};

/// y = x with the first `Turned` channels of every head of `Width` turned by the token's position, or against it where
/// `sign` is -1; y may be the memory of x. `table` holds (positions, Turned / 2) cosines and sines.
template <int Heads, int Width, int Turned, bool Interleaved, int Chunk, class T, class U>
__global__ void __launch_bounds__(256) rotate(const T* x, std::size_t x_stride, U* y, std::size_t y_stride,
                                              const float2* table, float sign, unsigned length, unsigned items) {
  using S = Sizes<Heads, Width, Turned, Interleaved, Chunk>;
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= items) return;
  const unsigned row = index / S::per_row;
  const unsigned head = index % S::per_row / S::per_head;
  const unsigned item = index % S::per_head;
  x += row * x_stride + head * Width;
  y += row * y_stride + head * Width;
  if (item >= S::turning) {
    const unsigned column = Turned + (item - S::turning) * Chunk;
    float value[Chunk];
    load(x + column, value);
    store(y + column, value);
    return;
  }
  // Two chunks: neighbours where pairs are neighbours, else half of the turned channels apart.
  const unsigned first = Interleaved ? item * 2 * Chunk : item * Chunk;
  const unsigned second = first + (Interleaved ? Chunk : Turned / 2);
  float value[2][Chunk];
  load(x + first, value[0]);
  load(x + second, value[1]);
  const float2* turn = table + row % length * (Turned / 2) + item * Chunk;
#pragma unroll
  for (int i = 0; i < Chunk; ++i) {
    float& a = Interleaved ? value[2 * i / Chunk][2 * i % Chunk] : value[0][i];
    float& b = Interleaved ? value[(2 * i + 1) / Chunk][(2 * i + 1) % Chunk] : value[1][i];
    const float cosine = turn[i].x;
    const float sine = sign * turn[i].y;
    const float before = a;
    a = before * cosine - b * sine;
    b = before * sine + b * cosine;
  }
  store(y + first, value[0]);
  store(y + second, value[1]);
}

}  // namespace rotary_detail

template <>
struct Kernel<&ops::rotary_op> {
  template <class C>
  static void run(const C& call) {
    namespace a = ops::rotary;
    constexpr int heads = C::node.attribute[a::heads];
    constexpr int width = C::node.width / heads;
    constexpr int turned = C::node.attribute[a::dims];
    constexpr bool interleaved = C::node.attribute[a::interleaved] != 0;
    constexpr int chunk =
        common_chunk<std::gcd(width, turned / 2), C::template in_chunk<0>(), C::template out_chunk<0>()>();
    using S = rotary_detail::Sizes<heads, width, turned, interleaved, chunk>;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    const float2* table = rotation_table(call.queue(), turned, C::node.number[0], call.shape().max_length);
    const float sign = C::node.attribute[a::backward] != 0 ? -1.0f : 1.0f;
    const Index items = call.rows() * S::per_row;
    call.queue().launch("a rotation", rotary_detail::rotate<heads, width, turned, interleaved, chunk, T, U>,
                        sum_detail::blocks(items, 256), dim3(256), 0, x.data, x.stride, y.data, y.stride, table, sign,
                        call.shape().length, items);
  }
};

}  // namespace mad::cuda
