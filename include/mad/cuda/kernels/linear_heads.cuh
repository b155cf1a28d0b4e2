// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A linear map shared by heads, and its gradients:
///
///     y_h = x_h W^T + b:   dx_h = dy_h W,   dW = sum over rows and heads of dy_h^T x_h
///
/// Heads are usually narrow, so that the work is reading and writing them: a thread takes one head of one row and
/// multiplies it with the weight in shared memory. Wide heads are matrix products.
#pragma once

#include <mad/cuda/call/chunk.hpp>
#include <mad/cuda/kernels/column_recurrence.cuh>
#include <mad/cuda/kernels/linear.cuh>
#include <mad/ops/linear_heads.hpp>

#include <algorithm>

namespace mad::cuda {

namespace linear_heads_detail {

/// Sizes of a map from heads of `in` to heads of `out` channels.
template <class C>
struct Sizes {
  static constexpr int heads = C::node.attribute[ops::linear_heads::heads];
  static constexpr int in = C::node.attribute[ops::linear_heads::in];
  static constexpr int out = C::node.attribute[ops::linear_heads::out];
  static constexpr bool narrow = in <= 32 && out <= 32;
};

/// y_h = x_h A + addend + bias (each where it is not null) for every head h, with A = W^T of a weight (To, From), or
/// A = W of a weight (From, To) where `Forth` is false. The addend may be the memory of y. One thread per head of a
/// row.
template <int Heads, int From, int To, bool Forth, int FromChunk, int ToChunk, class T, class W, class U>
__global__ void __launch_bounds__(256)
    apply(const T* x, std::size_t x_stride, const W* weight, const W* bias, const U* addend, std::size_t addend_stride,
          U* y, std::size_t y_stride, unsigned items) {
  __shared__ alignas(16) float w[From * To];
  for (int i = static_cast<int>(threadIdx.x); i < From * To; i += 256) w[i] = to_float(weight[i]);
  __syncthreads();
  const unsigned item = blockIdx.x * blockDim.x + threadIdx.x;
  if (item >= items) return;
  const std::size_t row = item / Heads;
  const unsigned head = item % Heads;
  float value[From];
  load_row<FromChunk>(x + row * x_stride + head * From, value);
#pragma unroll 1
  for (int o = 0; o < To; o += ToChunk) {
    const std::size_t column = head * To + o;
    float sum[ToChunk]{};
    if (addend != nullptr) load(addend + row * addend_stride + column, sum);
    if (bias != nullptr) {
#pragma unroll
      for (int k = 0; k < ToChunk; ++k) sum[k] += to_float(bias[o + k]);
    }
#pragma unroll
    for (int i = 0; i < From; ++i) {
#pragma unroll
      for (int k = 0; k < ToChunk; ++k) sum[k] += value[i] * w[Forth ? (o + k) * From + i : i * To + o + k];
    }
    store(y + row * y_stride + column, sum);
  }
}

/// How the block's threads share a weight gradient (Out, In): a thread adds up `per_thread` neighbours of a row over
/// the items of its group.
template <int In, int Out>
struct GradientTiles {
  static constexpr int threads = 256;
  static constexpr int items = 2048 / power_of_two_from(std::max(In, Out));  ///< that are read together
  static constexpr int per_thread = In % 4 == 0 ? 4 : 1;
  static constexpr int pieces = Out * In / per_thread;
  static constexpr int rounds = (pieces + threads - 1) / threads;  ///< of a thread over the pieces
  static constexpr int groups = std::max(1, threads / pieces);
};

/// The heads of `Width` channels of the items from `first` on, into shared memory; 0 behind the last item.
template <int Heads, int Items, int Width, int Chunk, class T>
__device__ inline void stage(const T* from, std::size_t stride, unsigned first, unsigned items, float* to) {
  constexpr int per_item = Width / Chunk;
  for (int i = static_cast<int>(threadIdx.x); i < Items * per_item; i += 256) {
    const unsigned item = first + i / per_item;
    const int column = i % per_item * Chunk;
    float value[Chunk]{};
    if (item < items) load(from + item / Heads * stride + item % Heads * Width + column, value);
    store(to + i / per_item * Width + column, value);
  }
}

/// partial[block] (Out, In) = sum of dy_h^T x_h over the block's share of the rows' heads.
template <int Heads, int In, int Out, int XChunk, int DyChunk, class T>
__global__ void __launch_bounds__(256)
    sum_products(const T* dy, std::size_t dy_stride, const T* x, std::size_t x_stride, float* partial, unsigned items) {
  using G = GradientTiles<In, Out>;
  __shared__ alignas(16) float gradient[G::items * Out];
  __shared__ alignas(16) float value[G::items * In];
  __shared__ float sums[G::groups > 1 ? G::groups * Out * In : 1];
  const auto thread = static_cast<int>(threadIdx.x);
  const int group = thread / G::pieces;
  float sum[G::rounds][G::per_thread]{};
  for (unsigned first = blockIdx.x * G::items; first < items; first += gridDim.x * G::items) {
    __syncthreads();  // the last items are used up
    stage<Heads, G::items, Out, DyChunk>(dy, dy_stride, first, items, gradient);
    stage<Heads, G::items, In, XChunk>(x, x_stride, first, items, value);
    __syncthreads();
    if (group >= G::groups && G::rounds == 1) continue;
#pragma unroll
    for (int r = 0; r < G::rounds; ++r) {
      const int piece = G::rounds == 1 ? thread % G::pieces : r * G::threads + thread;
      if (piece >= G::pieces) break;
      const int o = piece * G::per_thread / In;
      const int i = piece * G::per_thread % In;
#pragma unroll 4
      for (int item = G::rounds == 1 ? group : 0; item < G::items; item += G::groups) {
        float factor[G::per_thread];
        load(value + item * In + i, factor);
        const float scale = gradient[item * Out + o];
#pragma unroll
        for (int k = 0; k < G::per_thread; ++k) sum[r][k] += scale * factor[k];
      }
    }
  }
  partial += std::size_t{blockIdx.x} * (Out * In);
  if constexpr (G::groups > 1) {
    if (group < G::groups)
#pragma unroll
      for (int k = 0; k < G::per_thread; ++k) sums[thread * G::per_thread + k] = sum[0][k];
    __syncthreads();
    for (int element = thread; element < Out * In; element += G::threads) {
      float total = 0;
#pragma unroll
      for (int g = 0; g < G::groups; ++g) total += sums[g * Out * In + element];
      partial[element] = total;
    }
  } else {
#pragma unroll
    for (int r = 0; r < G::rounds; ++r) {
      const int piece = r * G::threads + thread;
      if (piece < G::pieces) store(partial + piece * G::per_thread, sum[r]);
    }
  }
}

/// Calls product(rows, head, stride_of) for all heads: for all at once where heads follow each other without a gap,
/// from row to row too. `stride_of(stride, width)` is the stride between the rows of the product in a value of that
/// stride and width of a head.
template <class Product>
void for_heads(Index rows, Index heads, bool without_gaps, const Product& product) {
  if (without_gaps) return product(rows * heads, Index{0}, [](Index, Index width) { return width; });
  for (Index h = 0; h < heads; ++h) product(rows, h, [](Index stride, Index) { return stride; });
}

}  // namespace linear_heads_detail

template <>
struct Kernel<&ops::linear_heads_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = linear_heads_detail;
    using S = d::Sizes<C>;
    using T = typename C::template In<0>;
    using W = typename C::template In<1>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    if constexpr (S::narrow) {
      constexpr int in_chunk = common_chunk<S::in, C::template in_chunk<0>()>();
      constexpr int out_chunk = common_chunk<S::out, C::template out_chunk<0>()>();
      const W* bias = nullptr;
      if constexpr (C::has(2)) bias = call.template in<2>().data;
      const Index items = call.rows() * S::heads;
      const U* no_addend = nullptr;
      call.queue().launch("a map shared by heads",
                          d::apply<S::heads, S::in, S::out, true, in_chunk, out_chunk, T, W, U>,
                          sum_detail::blocks(items, 256), dim3(256), 0, x.data, x.stride, call.template in<1>().data,
                          bias, no_addend, 0, y.data, y.stride, items);
    } else {
      const T* weight = linear_detail::in_type<1, T>(call);
      const U* bias = nullptr;
      if constexpr (C::has(2)) bias = linear_detail::in_type<2, U>(call);
      const bool without_gaps = x.stride == S::heads * S::in && y.stride == S::heads * S::out;
      d::for_heads(call.rows(), S::heads, without_gaps, [&](Index rows, Index h, auto stride_of) {
        linear_forward<T, U>(call.queue(), rows, S::in, S::out, {x.data + h * S::in, stride_of(x.stride, S::in)},
                             weight, bias, {}, {y.data + h * S::out, stride_of(y.stride, S::out)}, false);
      });
    }
  }
};

template <>
struct Kernel<&ops::linear_heads_input_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = linear_heads_detail;
    using S = d::Sizes<C>;
    using T = typename C::template In<0>;
    using W = typename C::template In<1>;
    using U = typename C::template Out<0>;
    const auto dy = call.template in<0>();
    const auto dx = call.out();
    View<const U> addend;
    if constexpr (C::has(2)) {
      static_assert(std::is_same_v<typename C::template In<2>, U>);
      addend = call.template in<2>();
    }
    if constexpr (S::narrow) {
      constexpr int in_chunk = common_chunk<S::out, C::template in_chunk<0>()>();
      constexpr int out_chunk = common_chunk<S::in, C::template out_chunk<0>(), addend_chunk<C>()>();
      const Index items = call.rows() * S::heads;
      const W* no_bias = nullptr;
      call.queue().launch("the input gradient of a map shared by heads",
                          d::apply<S::heads, S::out, S::in, false, in_chunk, out_chunk, T, W, U>,
                          sum_detail::blocks(items, 256), dim3(256), 0, dy.data, dy.stride, call.template in<1>().data,
                          no_bias, addend.data, addend.stride, dx.data, dx.stride, items);
    } else {
      const T* weight = linear_detail::in_type<1, T>(call);
      const bool without_gaps =
          dy.stride == S::heads * S::out && dx.stride == S::heads * S::in && (!C::has(2) || addend.stride == dx.stride);
      d::for_heads(call.rows(), S::heads, without_gaps, [&](Index rows, Index h, auto stride_of) {
        View<const U> added;
        if (C::has(2)) added = {addend.data + h * S::in, stride_of(addend.stride, S::in)};
        linear_input_gradient<T, U>(call.queue(), rows, S::in, S::out,
                                    {dy.data + h * S::out, stride_of(dy.stride, S::out)}, weight, added,
                                    {dx.data + h * S::in, stride_of(dx.stride, S::in)}, false);
      });
    }
  }

private:
  template <class C>
  static constexpr int addend_chunk() {
    if constexpr (C::has(2))
      return C::template in_chunk<2>();
    else
      return 16;
  }
};

template <>
struct Kernel<&ops::linear_heads_weight_gradient_op> {
  template <class C>
  static void run(const C& call) {
    namespace d = linear_heads_detail;
    using S = d::Sizes<C>;
    using T = typename C::template In<0>;
    static_assert(std::is_same_v<T, typename C::template In<1>>);
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const Index rows = rows_of(C::operand(0).domain, call.shape());
    float* d_weight = call.out().data;
    if constexpr (S::narrow) {
      constexpr int dy_chunk = common_chunk<S::out, C::template in_chunk<0>()>();
      constexpr int x_chunk = common_chunk<S::in, C::template in_chunk<1>()>();
      constexpr int width = S::out * S::in;
      constexpr Index per_tile = d::GradientTiles<S::in, S::out>::items;
      const Index items = rows * S::heads;
      const Index blocks =
          std::clamp<Index>((items + per_tile - 1) / per_tile, 1, 4 * Index{call.queue().multiprocessors()});
      float* partial = call.queue().template take<float>(blocks * width);
      call.queue().launch(
          "the gradient of a map shared by heads", d::sum_products<S::heads, S::in, S::out, x_chunk, dy_chunk, T>,
          dim3(static_cast<unsigned>(blocks)), dim3(256), 0, dy.data, dy.stride, x.data, x.stride, partial, items);
      add_row_sums<float>(call.queue(), {partial, width}, blocks, width, d_weight);
    } else {
      const bool without_gaps = dy.stride == S::heads * S::out && x.stride == S::heads * S::in;
      d::for_heads(rows, S::heads, without_gaps, [&](Index count, Index h, auto stride_of) {
        linear_weight_gradient<T>(
            call.queue(), count, S::in, S::out, {dy.data + h * S::out, stride_of(dy.stride, S::out)},
            {x.data + h * S::in, stride_of(x.stride, S::in)}, d_weight, false, call.adds_to_parameter());
      });
    }
  }
};

}  // namespace mad::cuda
