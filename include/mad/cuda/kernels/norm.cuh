// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// LayerNorm, RMSNorm and GroupNorm of single rows.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/kernels/put_off_products.cuh>
#include <mad/cuda/products/row_sum.cuh>
#include <mad/ops/norm.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace mad::cuda {

/// A group of `Size` neighbouring channels is spread over `lanes` lanes of a warp: lane i holds chunks i, i + lanes,
/// ... of `chunk` channels, at most `Largest` (a power of two).
template <int Size, int Largest>
struct NormGroup {
  static constexpr int chunk = Size % 8 == 0 && Largest >= 8   ? 8
                               : Size % 4 == 0 && Largest >= 4 ? 4
                               : Size % 2 == 0 && Largest >= 2 ? 2
                                                               : 1;
  static constexpr int chunks = Size / chunk;
  static constexpr int lanes = chunks >= 32   ? 32
                               : chunks >= 16 ? 16
                               : chunks >= 8  ? 8
                               : chunks >= 4  ? 4
                               : chunks >= 2  ? 2
                                              : 1;
  static constexpr int rounds = (chunks + lanes - 1) / lanes;
  static constexpr int per_lane = rounds * chunk;
  static constexpr int block = 256;
  static constexpr int groups_per_block = block / lanes;
  /// Groups that a lane holds at once, so that enough is on its way from memory.
  static constexpr int at_once = per_lane <= 8 ? 4 : per_lane <= 16 ? 2 : 1;

  /// f(index in the lane, channel in the group) for every chunk of the lane.
  template <class F>
  static __device__ void for_chunks(const F& f) {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
#pragma unroll
    for (int r = 0; r < rounds; ++r) {
      const int c = r * lanes + lane;
      if (rounds * lanes == chunks || c < chunks) f(r * chunk, c * chunk);
    }
  }

  /// The lane's channels of a group, 0 where the group has no more.
  template <class T>
  static __device__ void load_group(const T* from, float (&x)[per_lane]) {
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] = 0;
    for_chunks([&](int i, int c) { load(from + c, reinterpret_cast<float(&)[chunk]>(x[i])); });
  }
  template <class T>
  static __device__ void store_group(T* to, const float (&x)[per_lane]) {
    for_chunks([&](int i, int c) { store(to + c, reinterpret_cast<const float(&)[chunk]>(x[i])); });
  }
  /// The lane's channels of a group as they are stored, to be added later.
  template <class T>
  struct Kept {
    Chunk<T, chunk> part[rounds];

    __device__ void load(const T* from) {
      for_chunks([&](int i, int c) { part[i / chunk] = *reinterpret_cast<const Chunk<T, chunk>*>(from + c); });
    }
    __device__ void add_to(float (&x)[per_lane]) const {
      for_chunks([&](int i, int) {
#pragma unroll
        for (int j = 0; j < chunk; ++j) x[i + j] += to_float(part[i / chunk].value[j]);
      });
    }
  };
  /// The same of a parameter, `Aligned` of whose channels (a power of two) can be read at once.
  template <int Aligned>
  static __device__ void load_parameter(const float* from, float (&x)[per_lane]) {
    constexpr int part = Aligned < chunk ? Aligned : chunk;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] = 0;
    for_chunks([&](int i, int c) {
#pragma unroll
      for (int k = 0; k < chunk; k += part) load(from + c + k, reinterpret_cast<float(&)[part]>(x[i + k]));
    });
  }

  static __device__ float sum(const float (&x)[per_lane]) {
    float s = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) s += x[i];
    return lane_sum<lanes>(s);
  }

  /// x to (x - mean) / sqrt(var + eps), without the mean where not centred. Returns the divisor's inverse.
  template <bool Centred>
  static __device__ float standardise(float (&x)[per_lane], float eps) {
    if constexpr (Centred) {
      const float mean = sum(x) / Size;
#pragma unroll
      for (int i = 0; i < per_lane; ++i) x[i] -= mean;
      // Channels that are not there must stay 0.
      if constexpr (rounds * lanes != chunks) {
        if ((rounds - 1) * lanes + static_cast<int>(threadIdx.x) % lanes >= chunks) {
#pragma unroll
          for (int i = per_lane - chunk; i < per_lane; ++i) x[i] = 0;
        }
      }
    }
    float square = 0;
#pragma unroll
    for (int i = 0; i < per_lane; ++i) square += x[i] * x[i];
    const float inverse = rsqrtf(lane_sum<lanes>(square) / Size + eps);
#pragma unroll
    for (int i = 0; i < per_lane; ++i) x[i] *= inverse;
    return inverse;
  }
};

namespace norm_detail {

/// Groups that a team takes at once: in the forward pass only where all of them have the same weights.
template <class G, int Size, int Groups, int WeightWidth>
inline constexpr int forward_at_once = WeightWidth == Size || G::groups_per_block % Groups == 0 ? G::at_once : 1;
template <class G>
inline constexpr int backward_at_once = G::at_once > 1 ? G::at_once / 2 : 1;

/// `WeightWidth` is the row's width, or Size where all groups share one weight; `Aligned` of its channels can be read
/// at once.
template <class G, int Size, int Groups, int WeightWidth, int Aligned, bool Centred, class T, class U>
__global__ void __launch_bounds__(G::block)
    norm_forward(const T* x, std::size_t x_stride, const float* weight, const float* bias, U* y, std::size_t y_stride,
                 unsigned items, float eps) {
  // A team takes several groups that share their weights.
  constexpr int at_once = forward_at_once<G, Size, Groups, WeightWidth>;
  const unsigned first = blockIdx.x * G::groups_per_block * at_once + threadIdx.x / G::lanes;
  const unsigned channel = first % Groups * Size;
  const unsigned weight_channel = WeightWidth == Size ? 0 : channel;
  float value[at_once][G::per_lane];
#pragma unroll
  for (int k = 0; k < at_once; ++k) {
    const unsigned item = min(first + k * G::groups_per_block, items - 1);  // all lanes take part in the sums
    G::load_group(x + item / Groups * x_stride + item % Groups * Size, value[k]);
  }
  float factor[G::per_lane];
  float shift[G::per_lane]{};
  G::template load_parameter<Aligned>(weight + weight_channel, factor);
  if (bias != nullptr) G::template load_parameter<Aligned>(bias + weight_channel, shift);
#pragma unroll
  for (int k = 0; k < at_once; ++k) {
    const unsigned item = first + k * G::groups_per_block;
    G::template standardise<Centred>(value[k], eps);
#pragma unroll
    for (int i = 0; i < G::per_lane; ++i) value[k][i] = value[k][i] * factor[i] + shift[i];
    if (item < items) G::store_group(y + item / Groups * y_stride + item % Groups * Size, value[k]);
  }
}

/// Every team of lanes takes one group of channels of many rows, so that sums over rows stay in registers. `partial`
/// holds 2 WeightWidth sums per block.
template <class G, int Size, int Groups, int WeightWidth, int Aligned, bool Centred, bool Adds, class T, class U>
__global__ void __launch_bounds__(G::block)
    norm_backward(const T* dy, std::size_t dy_stride, const U* x, std::size_t x_stride, const float* weight,
                  const U* addend, std::size_t addend_stride, U* dx, std::size_t dx_stride, unsigned rows, float eps,
                  float* partial) {
  constexpr int at_once = backward_at_once<G>;
  const unsigned first_team = blockIdx.x * G::groups_per_block;
  const unsigned team = first_team + threadIdx.x / G::lanes;
  const unsigned teams = gridDim.x * G::groups_per_block / Groups * Groups;  // whole rows
  const unsigned channel = team % Groups * Size;
  float factor[G::per_lane];
  G::template load_parameter<Aligned>(weight + (WeightWidth == Size ? 0 : channel), factor);
  float d_factor[G::per_lane]{};
  float d_shift[G::per_lane]{};
  // All teams make the same number of rounds: the lanes of a warp sum together.
  const unsigned step = teams / Groups;
  for (unsigned first = 0; first < rows; first += at_once * step) {
    float value[at_once][G::per_lane];
    float gradient[at_once][G::per_lane];
    typename G::template Kept<U> more[at_once];
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      const unsigned row = min(first + k * step + team / Groups, rows - 1);
      G::load_group(x + row * x_stride + channel, value[k]);
      G::load_group(dy + row * dy_stride + channel, gradient[k]);
      if (Adds) more[k].load(addend + row * addend_stride + channel);
    }
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      const unsigned row = first + k * step + team / Groups;
      const bool here = team < teams && row < rows;
      const float inverse = G::template standardise<Centred>(value[k], eps);
      float projection = 0;
      float mean = 0;
#pragma unroll
      for (int i = 0; i < G::per_lane; ++i) {
        if (here) {
          d_factor[i] += gradient[k][i] * value[k][i];
          d_shift[i] += gradient[k][i];
        }
        gradient[k][i] *= factor[i];
        projection += gradient[k][i] * value[k][i];
        mean += gradient[k][i];
      }
      projection = lane_sum<G::lanes>(projection) / Size;
      mean = Centred ? lane_sum<G::lanes>(mean) / Size : 0.0f;
#pragma unroll
      for (int i = 0; i < G::per_lane; ++i) value[k][i] = (gradient[k][i] - mean - value[k][i] * projection) * inverse;
      if (Adds) more[k].add_to(value[k]);
      if (here) G::store_group(dx + row * dx_stride + channel, value[k]);
    }
  }
  extern __shared__ float sums[];  // (teams of the block, 2, Size)
  float* own = sums + threadIdx.x / G::lanes * 2 * Size;
  G::store_group(own, d_factor);
  G::store_group(own + Size, d_shift);
  __syncthreads();
  constexpr bool shared_weight = WeightWidth == Size;
  for (unsigned c = threadIdx.x; c < 2 * WeightWidth; c += G::block) {
    const unsigned half = c / WeightWidth;
    const unsigned column = c % WeightWidth;
    // The teams that hold the column: all, or one in every row.
    constexpr unsigned every = shared_weight ? 1 : Groups;
    const unsigned begin = shared_weight ? 0 : (column / Size + Groups - first_team % Groups) % Groups;
    float sum = 0;
#pragma unroll 8
    for (unsigned t = begin; t < G::groups_per_block; t += every) sum += sums[(t * 2 + half) * Size + column % Size];
    partial[blockIdx.x * 2 * WeightWidth + c] = sum;
  }
}

}  // namespace norm_detail

template <>
struct Kernel<&ops::norm_op> {
  template <class C>
  static void run(const C& call) {
    constexpr int size = C::node.attribute[ops::norm::group_width];
    constexpr int groups = C::node.width / size;
    constexpr int weight_width = C::operand(1).width;
    constexpr bool centred = C::node.attribute[ops::norm::centred] != 0;
    using T = typename C::template In<0>;
    using U = typename C::template Out<0>;
    const auto x = call.template in<0>();
    const auto y = call.out();
    constexpr int last = C::has(2) ? 2 : 1;
    constexpr int aligned = std::min(C::template in_chunk<1>(), C::template in_chunk<last>());
    const float* bias = nullptr;
    if constexpr (C::has(2)) bias = call.template in<2>().data;
    using G = NormGroup<size, std::min(C::template in_chunk<0>(), C::template out_chunk<0>())>;
    const auto start = [](Queue& queue, const NormOf<T, U>& n, Index rows) {
      const Index items = rows * groups;
      constexpr Index per_block = G::groups_per_block * norm_detail::forward_at_once<G, size, groups, weight_width>;
      queue.launch("a norm", norm_detail::norm_forward<G, size, groups, weight_width, aligned, centred, T, U>,
                   dim3(static_cast<unsigned>((items + per_block - 1) / per_block)), dim3(G::block), 0, n.x, n.x_stride,
                   n.weight, n.bias, n.y, n.y_stride, items, n.epsilon);
    };
    const NormOf<T, U> norm{.x = x.data,
                            .x_stride = static_cast<std::size_t>(x.stride),
                            .y = y.data,
                            .y_stride = static_cast<std::size_t>(y.stride),
                            .width = C::node.width,
                            .weight = call.template in<1>().data,
                            .bias = bias,
                            .epsilon = static_cast<float>(C::node.number[0]),
                            .centred = centred};
    if constexpr (groups == 1 && std::is_same_v<T, BFloat16> && std::is_same_v<U, BFloat16>)
      if (put_off(call.queue(), call.rows(), norm, start)) return;
    start(call.queue(), norm, call.rows());
  }
};

template <>
struct Kernel<&ops::norm_gradient_op> {
  /// Of whole rows of the width that those kernels have which compute what they are given as well: a product's
  /// (norm_gradient_product.cuh), or a channel mixer's.
  template <class C>
  static constexpr bool follows() {
    return C::node.attribute[ops::norm::group_width] == C::node.width &&
           C::node.width == norm_gradient_product::width && std::is_same_v<typename C::template In<0>, BFloat16> &&
           std::is_same_v<typename C::template In<1>, BFloat16>;
  }
  template <class C>
  static bool follow(const C& call) {
    namespace d = norm_gradient_product;
    if (!call.places[0].read_once) return false;
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    View<const BFloat16> addend;
    if constexpr (C::has(3)) addend = call.template in<3>();
    const NormGradient norm{.x = x.data,
                            .x_stride = static_cast<std::size_t>(x.stride),
                            .addend = addend.data,
                            .addend_stride = static_cast<std::size_t>(addend.stride),
                            .dx = dx.data,
                            .dx_stride = static_cast<std::size_t>(dx.stride),
                            .weight = call.template in<2>().data,
                            .epsilon = static_cast<float>(C::node.number[0]),
                            .centred = C::node.attribute[ops::norm::centred] != 0};
    Queue& queue = call.queue();
    if (const auto step = take_step(queue, call.rows(), dy.data, static_cast<std::size_t>(dy.stride), norm)) {
      queue.release();
      float* partial = queue.template take_for_aside<float>(Index{step->blocks} * d::sums);
      step->start(*step, &norm, partial);
      add_up(call, partial, step->blocks);
      return true;
    }
    const auto product = take_product(queue, call.rows(), dy.data, static_cast<std::size_t>(dy.stride), norm);
    if (!product) return false;
    queue.release();
    const Index blocks = d::blocks(queue, call.rows());
    float* partial = queue.template take_for_aside<float>(blocks * d::sums);
    d::run(queue, *product, norm, call.rows(), partial);
    add_up(call, partial, blocks);
    return true;
  }
  template <class C>
  static void run(const C& call) {
    constexpr int size = C::node.attribute[ops::norm::group_width];
    constexpr int groups = C::node.width / size;
    constexpr int weight_width = C::operand(2).width;
    constexpr bool centred = C::node.attribute[ops::norm::centred] != 0;
    using G = NormGroup<size, std::min({C::template in_chunk<0>(), C::template in_chunk<1>(),
                                        C::template in_chunk < C::has(3) ? 3 : 1 > (), C::template out_chunk<0>()})>;
    using T = typename C::template In<0>;
    using U = typename C::template In<1>;
    static_assert(std::is_same_v<U, typename C::template Out<0>>);
    const auto dy = call.template in<0>();
    const auto x = call.template in<1>();
    const auto dx = call.out();
    View<const U> addend;
    if constexpr (C::has(3)) addend = call.template in<3>();
    constexpr Index least = (groups + G::groups_per_block - 1) / G::groups_per_block;  // a whole row at least
    constexpr Index per_block = G::groups_per_block * norm_detail::backward_at_once<G>;
    const Index items = call.rows() * groups;
    const Index blocks = std::clamp((items + per_block - 1) / per_block, least,
                                    std::max<Index>(least, 2 * call.queue().multiprocessors()));
    constexpr Index sums = 2 * weight_width;
    float* partial = call.queue().template take_for_aside<float>(blocks * sums);
    constexpr std::size_t shared = sizeof(float) * 2 * G::groups_per_block * size;
    call.queue().launch(
        "the gradient of a norm",
        norm_detail::norm_backward<G, size, groups, weight_width, C::template in_chunk<2>(), centred, C::has(3), T, U>,
        dim3(static_cast<unsigned>(blocks)), dim3(G::block), shared, dy.data, dy.stride, x.data, x.stride,
        call.template in<2>().data, addend.data, addend.stride, dx.data, dx.stride, call.rows(), C::node.number[0],
        partial);
    add_up(call, partial, blocks);
  }

private:
  /// The sums of so many blocks, of the weight's columns and behind them of the bias's.
  template <class C>
  static void add_up(const C& call, float* partial, Index blocks) {
    constexpr Index width = C::operand(2).width;
    float* d_bias = nullptr;
    if constexpr (C::template is_result<2>()) d_bias = call.template out<2>().data;
    add_row_sums<float>(sums_aside(call, 1), {partial, 2 * width}, blocks, width, call.template out<1>().data, width,
                        d_bias);
  }
};

}  // namespace mad::cuda
