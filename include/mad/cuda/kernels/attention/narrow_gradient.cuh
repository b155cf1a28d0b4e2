// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of softmax attention in bfloat16 for narrow heads, of 8 or 16 channels: one kernel for all three
/// gradients, so that each exponential is computed once.
///
/// A warp keeps a block of keys in registers, with the sums for dk and dv, while queries pass by; dq is summed in
/// shared memory. Warps meet at a barrier after every few queries, and at no time two of them are at the same queries
/// (`Course`): who adds to dq is alone and comes in a fixed order. The inner part is in narrow_keys.cuh.
///
/// Factors are halves (narrow_half.cuh). Of each load of rows the longest key, value and do are found, and
/// all are divided by the powers of two above these.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/kernels/attention/narrow_keys.cuh>
#include <mad/cuda/kernels/attention/narrow_sums.cuh>

#include <algorithm>
#include <cstddef>

namespace mad::cuda::attention_narrow {

/// Memory on the device, in the notation of ops/attention.hpp.
struct Gradients {
  const BFloat16 *o, *d_o;
  const float* lse;
  BFloat16 *dq, *dk, *dv;
  float* partial_dq;    ///< (tokens, heads, Width) where keys come in several chunks
  float4* partial_dkv;  ///< sums by lane, where a block of keys is met by several loads of queries
  std::size_t o_stride, do_stride, lse_stride, dq_stride, dk_stride, dv_stride;
};

/// Where sums of a block of keys go: `dk` and `dv` are the first rows of the sequence for the warp's head.
struct KeyGradients {
  BFloat16 *dk, *dv;
  std::size_t dk_stride, dv_stride;
  float key_factor, value_factor;
};

/// Sums of a block of keys to memory. `first` is its first position and `end` that behind the last.
template <int Width>
__device__ void put(const OwnKeys<Width>& own, const KeyGradients& to, int first, int end, const Rotation& rotation) {
  constexpr int tiles = Backward<Width>::tiles;
  const int lane = thread_number() % 32;
  first += lane / 4;
  BFloat16* dv = to.dv + static_cast<std::size_t>(first) * to.dv_stride + lane % 4 * 2;
  RowSums<Width> sums[tiles];
#pragma unroll
  for (int j = 0; j < tiles; ++j)
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) sums[j].channels[c] = own.d_value[j][c];
#pragma unroll
  for (int i = 0; i < 2 * tiles; ++i, dv += 8 * to.dv_stride)
    if (first + i * 8 < end) sums[i / 2].store(i % 2, to.value_factor, dv);
  BFloat16* dk = to.dk + static_cast<std::size_t>(first) * to.dk_stride + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < tiles; ++j)
#pragma unroll
    for (int c = 0; c < Width / 8; ++c) sums[j].channels[c] = own.d_key[j][c];
  turn_back(sums, rotation, first, end);
#pragma unroll
  for (int i = 0; i < 2 * tiles; ++i, dk += 8 * to.dk_stride)
    if (first + i * 8 < end) sums[i / 2].store(i % 2, to.key_factor, dk);
}

/// Brings rows to shared memory. What is in `powers` of keys and values stays where they do.
template <int Width, int Warps>
__device__ void load_rows(const Memory<Width>& memory, const Load& at, const AttentionSizes& n,
                          const Share<Warps>& share, const Operands& of, const Gradients& g, Powers& powers) {
  using B = Backward<Width>;
  const Part part(share);
  const int kv_head = (block_number_x() << share.shift) + part.slot;
  const int head = kv_head * (n.heads / n.kv_heads) + at.member;
  const std::size_t sequence = static_cast<std::size_t>(block_number_y()) * n.length;
  const Rotation rotation = n.rotation();
  if (at.is_first())
    copy_rows<Width, B::keys>(memory.keys, of.k + sequence * of.k_stride + kv_head * Width, of.k_stride, memory.values,
                              of.v + sequence * of.v_stride + kv_head * Width, of.v_stride, at.chunk, at.chunk_end,
                              share);
  copy_rows<Width, 32>(memory.queries.query, of.q + sequence * of.q_stride + head * Width, of.q_stride,
                       memory.gradients, g.d_o + sequence * g.do_stride + head * Width, g.do_stride, at.loaded,
                       at.loaded_end, share);
  const int rows = (at.loaded_end - at.loaded + 31) / 32 * 32;
  Row<Width> output[B::loaded];
  float lse[B::loaded];
  Turn<Width> turn[B::loaded];
#pragma unroll
  for (int u = 0; u < B::loaded; ++u) {
    const int t = at.loaded + part.first + u * part.apart;
    output[u] = Row<Width>::at(g.o + (sequence + t) * g.o_stride + head * Width, t < at.loaded_end);
    lse[u] = t < at.loaded_end ? g.lse[(sequence + t) * g.lse_stride + head] : INFINITY;  // sees nothing
    turn[u].ask(min(t, n.length - 1), rotation);
  }
  wait_for_copies<0>();
  float square[4]{};
#pragma unroll
  for (int u = 0; u < B::loaded; ++u) {
    const int r = part.first + u * part.apart;
    if (r >= rows) break;
    const int from = (share.row(part.slot) + r) * stride<Width>;
    square[0] = fmaxf(square[0], Row<Width>::at(memory.gradients + from).square());
    square[1] = fmaxf(square[1], output[u].square());
    if (at.is_first()) {
      square[2] = fmaxf(square[2], Row<Width>::at(memory.keys + from).square());
      square[3] = fmaxf(square[3], Row<Width>::at(memory.values + from).square());
    }
  }
  find_largest_of_block(square, memory.scratch);
  if (at.is_first()) {
    powers.key = power_over(tensor::square_root(square[2]));
    powers.value = power_over(tensor::square_root(square[3]));
  }
  // Outputs mix values of other chunks, too, which may be larger, and delta must not be.
  const float output_power = power_over(tensor::square_root(square[1]));
  powers.gradient = power_over(tensor::square_root(square[0])) * (1 / gradient_length) *
                    fmaxf(1.0f, output_power * reciprocal_of_power(powers.value));
  if (!rotation.turns_halves(Width))
#pragma unroll 1
    for (int r = part.first; r < rows; r += part.apart) {
      const int from = (share.row(part.slot) + r) * stride<Width>;
      const int t = min(at.loaded + r, n.length - 1);
      if (at.is_first()) turn_otherwise<Width>(memory.keys + from, t, rotation);
      turn_otherwise<Width>(memory.queries.query + from, t, rotation);
    }
#pragma unroll
  for (int u = 0; u < B::loaded; ++u) {
    const int r = part.first + u * part.apart;
    if (r >= rows) break;
    const int from = (share.row(part.slot) + r) * stride<Width>;
    if (at.is_first()) {
      turn[u].make_halves(memory.keys + from, reciprocal_of_power(powers.key), 1.0f);
      make_halves<Width>(memory.values + from, reciprocal_of_power(powers.value));
    }
    turn[u].make_halves(memory.queries.query + from, powers.key, n.scale * log2_e);
    // Exponents are halves. What they lose of the log-sum-exp, a factor of all of the query's probabilities, is made
    // good with its do, which the probabilities meet wherever they go.
    const float exact = log2_probability_unit - lse[u] * log2_e;
    const Half minus_lse = __float2half_rn(fminf(fmaxf(exact, -65504.0f), 65504.0f));
    const float factor = tensor::power_of_two(fminf(fmaxf(exact - __half2float(minus_lse), -1.0f), 1.0f));
    float gradient[Width];
    Row<Width>::at(memory.gradients + from).times(reciprocal_of_power(powers.gradient)).unpack(gradient);
    float delta = 0;
#pragma unroll
    for (int c = 0; c < Width; ++c) {
      gradient[c] *= factor;
      delta += gradient[c] * output[u][c];
    }
    put_halves(memory.gradients + from, gradient);
    const QueryRows<Width> to = memory.queries.of_head(part.slot, share.rows);
    const int four = r / 16 * 32 + r % 8 / 2 * 8 + r % 16 / 8 * 4 + r % 2;
    to.minus_lse[four] = to.minus_lse[four + 2] = minus_lse;
    to.minus_delta[four] = to.minus_delta[four + 2] = __float2half_rn(-delta * reciprocal_of_power(powers.value));
#pragma unroll
    for (int c = 0; c < Width; c += 4) *reinterpret_cast<float4*>(to.d_query + r * Width + c) = float4{0, 0, 0, 0};
  }
}

/// dq to memory, or what is known of it by now.
template <int Width>
__device__ void put_queries(const Memory<Width>& memory, const Load& at, const AttentionSizes& n,
                            const Share<Backward<Width>::warps>& share, const Gradients& g, const Powers& powers) {
  constexpr int at_once = 2;  // neighbouring blocks of 16 rows
  const int warp = thread_number() / 32;
  const int lane = thread_number() % 32;
  const int slot = share.head_of(warp);
  const int head = ((block_number_x() << share.shift) + slot) * (n.heads / n.kv_heads) + at.member;
  const std::size_t sequence = static_cast<std::size_t>(block_number_y()) * n.length;
  const float unit = powers.key * powers.value * powers.gradient * (1 / probability_unit);
  const float* sums = memory.queries.of_head(slot, share.rows).d_query + lane * 4;
  const auto column = static_cast<std::size_t>(head * Width + lane % 4 * 2);
#pragma unroll 1
  for (int first = share.place_of(warp) * 16 * at_once; at.loaded + first < at.loaded_end;
       first += share.head_warps() * 16 * at_once) {
    const int t0 = at.loaded + first + lane / 4;
    RowSums<Width> sum[at_once];
#pragma unroll
    for (int j = 0; j < at_once; ++j)
#pragma unroll
      for (int c = 0; c < Width / 8; ++c) load(sums + (first + 16 * j) * Width + c * 128, sum[j].channels[c].value);
    if (g.partial_dq != nullptr) {
#pragma unroll
      for (int i = 0; i < 2 * at_once; ++i) {
        const int t = t0 + 8 * i;
        if (t >= at.loaded_end) break;
        float* rest = g.partial_dq + (sequence + static_cast<unsigned>(t)) * n.heads * Width + column;
#pragma unroll
        for (int c = 0; c < Width / 8; ++c) {
          float& x = sum[i / 2].at(i % 2, 2 * c);
          float& y = sum[i / 2].at(i % 2, 2 * c + 1);
          float2 other{0, 0};
          if (at.chunk > max(0, t - n.window) / share.rows * share.rows)
            other = *reinterpret_cast<const float2*>(rest + c * 8);
          x = x * unit + other.x;
          y = y * unit + other.y;
          if (at.loaded != at.chunk) *reinterpret_cast<float2*>(rest + c * 8) = float2{x, y};
        }
      }
      if (at.loaded != at.chunk) continue;
    }
    turn_back(sum, n.rotation(), t0, at.loaded_end);
    BFloat16* dq = g.dq + (sequence + static_cast<unsigned>(t0)) * g.dq_stride + column;
#pragma unroll
    for (int i = 0; i < 2 * at_once; ++i, dq += 8 * g.dq_stride)
      if (t0 + 8 * i < at.loaded_end) sum[i / 2].store(i % 2, g.partial_dq == nullptr ? n.scale * unit : n.scale, dq);
  }
}

/// dq, dk and dv. A block owns neighbouring heads of keys of a sequence, and goes through their keys chunk by chunk,
/// and for each through the queries that see it. Grid: (groups of heads, batch).
template <int Width>
__global__ void __launch_bounds__(Backward<Width>::threads, Backward<Width>::blocks_at_once)
    backward(AttentionSizes n, Share<Backward<Width>::warps> share, Operands of, Gradients g) {
  using B = Backward<Width>;
  extern __shared__ float4 dynamic_memory[];
  const Memory<Width> memory(dynamic_memory, share);
  // What is needed behind the passing queries stays in shared memory: there are not the registers to keep it.
  Known& known = *memory.known;
  const auto head_of_warp = [&] { return (block_number_x() << share.shift) + share.head_of(thread_number() / 32); };
  const auto kept = [&](int block) {
    constexpr int each = B::tiles * (Width / 8) * 2 * 32;
    const int blocks = (n.length + B::keys - 1) / B::keys;
    return g.partial_dkv + ((static_cast<std::size_t>(block_number_y()) * n.kv_heads + head_of_warp()) * blocks +
                            known.at.chunk / B::keys + block) *
                               each;
  };
  const auto put_block = [&](const OwnKeys<Width>& own, int block, float unit) {
    const std::size_t sequence = static_cast<std::size_t>(block_number_y()) * n.length;
    const int kv_head = head_of_warp();
    const KeyGradients to{.dk = g.dk + sequence * g.dk_stride + kv_head * Width,
                          .dv = g.dv + sequence * g.dv_stride + kv_head * Width,
                          .dk_stride = g.dk_stride,
                          .dv_stride = g.dv_stride,
                          .key_factor = unit * known.powers.value * reciprocal_of_power(known.powers.key) *
                                        (1 / (probability_unit * log2_e)),  // queries have been multiplied by log2(e)
                          .value_factor = unit * (1 / probability_unit)};
    put(own, to, known.at.chunk + block * B::keys, known.at.chunk_end, n.rotation());
  };

  Load at{};
  Powers powers{1, 1, 1};
#pragma unroll 1
  for (at.chunk = 0; at.chunk < n.length; at.chunk += share.rows) {
    at.chunk_end = min(at.chunk + share.rows, n.length);
#pragma unroll 1
    for (at.member = 0; at.member < n.heads / n.kv_heads; ++at.member) {
#pragma unroll 1
      for (at.loaded = at.chunk; at.loaded < at.end(n); at.loaded += share.rows) {
        at.loaded_end = min(at.loaded + share.rows, at.end(n));
        __syncthreads();
        load_rows<Width>(memory, at, n, share, of, g, powers);
        if (threadIdx.x == 0) known = {at, powers};
        __syncthreads();
#pragma unroll 1
        for (int which = 0; which < 2; ++which) {
          const int warp = thread_number() / 32;
          const int rows = known.at.loaded_end - known.at.loaded;
          const Course<Width> course(share.place_of(warp), share.head_warps(), rows, known.at.loaded == known.at.chunk,
                                     n.window);
          const Way way = course.way(which);
#pragma unroll 1
          for (int step = 0; step < way.waits; ++step) meet();
          if (way.steps == 0) continue;
          OwnKeys<Width> own;
          {
            const int block = course.block(which);
            own.take(memory, share.row(share.head_of(warp)) + block * B::keys);
            if (!known.at.is_first()) {
              own.recall(kept(block));
              own.multiply(reciprocal_of_power(known.powers.gradient));
            }
            const QueryRows<Width> queries =
                memory.queries.of_head(share.head_of(warp), share.rows).of_lane(memory.apart);
            own.run(queries, memory.apart, way, rows, known.at.loaded - known.at.chunk - block * B::keys, n.window);
          }
          const int place = share.place_of(thread_number() / 32);
          const int block = which == 0 ? place : 2 * share.head_warps() - 1 - place;
          if (g.partial_dkv != nullptr) {
            own.multiply(known.powers.gradient);
            own.keep(kept(block));
          } else {
            put_block(own, block, known.powers.gradient);
          }
        }
        __syncthreads();
        at = known.at;
        powers = known.powers;
        put_queries<Width>(memory, at, n, share, g, powers);
      }
    }
    if (g.partial_dkv == nullptr) continue;
#pragma unroll 1
    for (int which = 0; which < 2; ++which) {
      const int place = share.place_of(thread_number() / 32);
      const int block = which == 0 ? place : 2 * share.head_warps() - 1 - place;
      if (at.chunk + block * B::keys >= at.chunk_end) continue;
      OwnKeys<Width> own;
      own.recall(kept(block));
      put_block(own, block, 1);
    }
  }
}

}  // namespace mad::cuda::attention_narrow

namespace mad::cuda {

/// As `attention_backward`, for heads of 8 or 16 channels; all rows must begin at multiples of 16 bytes.
template <int Width>
void attention_backward_narrow(Queue& queue, const AttentionSizes& n, View<const BFloat16> q, View<const BFloat16> k,
                               View<const BFloat16> v, View<const BFloat16> o, View<const float> lse,
                               View<const BFloat16> d_o, View<BFloat16> dq, View<BFloat16> dk, View<BFloat16> dv) {
  namespace a = attention_narrow;
  using B = a::Backward<Width>;
  using M = a::Memory<Width>;
  const int memory = queue.shared_memory_per_block() - M::scratch_bytes - B::warps * M::head_bytes;
  const int capacity = std::min(B::capacity, memory / M::row_bytes / B::keys * B::keys);
  const a::Share<B::warps> share(n.kv_heads, n.length, capacity, B::warps, B::keys);
  const bool in_chunks = share.rows < n.length;
  const a::Gradients gradients{
      .o = o.data,
      .d_o = d_o.data,
      .lse = lse.data,
      .dq = dq.data,
      .dk = dk.data,
      .dv = dv.data,
      .partial_dq = in_chunks ? queue.take<float>(Index{n.batch} * n.length * n.heads * Width) : nullptr,
      .partial_dkv = in_chunks || n.kv_heads < n.heads
                         ? queue.take<float4>(Index{n.batch} * n.kv_heads * ((n.length + B::keys - 1) / B::keys) *
                                              B::keys * Width / 2)
                         : nullptr,
      .o_stride = static_cast<std::size_t>(o.stride),
      .do_stride = static_cast<std::size_t>(d_o.stride),
      .lse_stride = static_cast<std::size_t>(lse.stride),
      .dq_stride = static_cast<std::size_t>(dq.stride),
      .dk_stride = static_cast<std::size_t>(dk.stride),
      .dv_stride = static_cast<std::size_t>(dv.stride)};
  const dim3 grid(static_cast<unsigned>(n.kv_heads >> share.shift), static_cast<unsigned>(n.batch));
  const int bytes = M::scratch_bytes + (share.rows << share.shift) * M::row_bytes + (1 << share.shift) * M::head_bytes;
  queue.launch("the gradient of attention", a::backward<Width>, grid, dim3(B::threads), static_cast<std::size_t>(bytes),
               n, share, a::Operands(q, k, v), gradients);
}

}  // namespace mad::cuda
