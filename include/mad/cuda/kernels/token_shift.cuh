// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rows moved by one position within their sequence.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/token_shift.hpp>

namespace mad::cuda {

namespace token_shift_detail {

/// y_t = x_{t + Step} for a step of 1 or -1, 0 where the sequence has no such token. One thread per chunk of a row.
template <int Width, int Chunk, int Step, class T, class U>
__global__ void __launch_bounds__(256)
    shift(const T* x, std::size_t x_stride, U* y, std::size_t y_stride, unsigned length, unsigned chunks) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= chunks) return;
  constexpr unsigned per_row = Width / Chunk;
  const unsigned row = index / per_row;
  const unsigned column = index % per_row * Chunk;
  float value[Chunk]{};
  if (row % length != (Step < 0 ? 0 : length - 1))
    load(x + std::size_t{row + static_cast<unsigned>(Step)} * x_stride + column, value);
  store(y + row * y_stride + column, value);
}

template <int Step, class C>
void run(const C& call, std::string_view what) {
  constexpr int width = C::node.width;
  constexpr int chunk = common_chunk<width, C::template in_chunk<0>(), C::template out_chunk<0>()>();
  using T = typename C::template In<0>;
  using U = typename C::template Out<0>;
  const auto x = call.template in<0>();
  const auto y = call.out();
  const Index chunks = call.rows() * (width / chunk);
  call.queue().launch(what, shift<width, chunk, Step, T, U>, sum_detail::blocks(chunks, 256), dim3(256), 0, x.data,
                      x.stride, y.data, y.stride, call.shape().length, chunks);
}

}  // namespace token_shift_detail

template <>
struct Kernel<&ops::token_shift_op> {
  template <class C>
  static void run(const C& call) {
    token_shift_detail::run<-1>(call, "a token shift");
  }
};

template <>
struct Kernel<&ops::token_shift_gradient_op> {
  template <class C>
  static void run(const C& call) {
    token_shift_detail::run<1>(call, "the gradient of a token shift");
  }
};

}  // namespace mad::cuda
