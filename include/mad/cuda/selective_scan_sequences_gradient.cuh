// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradients of the selective scan where sequences are many. A warp walks its sequence twice: forwards it leaves
/// the states before each segment of 8 tokens; then, segment by segment from the last one, it computes the segment's
/// states again and walks back. The sums over channels of dB and dC are added up among the block's warps after each
/// segment.
#pragma once

#include <mad/cuda/selective_scan_gradient.cuh>
#include <mad/cuda/selective_scan_sequences.cuh>

namespace mad::cuda::scan_detail {

template <class G, class T>
struct alignas(16) SequenceBackwardMemory {
  static constexpr int warps = SequenceBlocks<G>::warps;
  struct Warp {
    Rows<G, T> u[segments_at_once<T>];   ///< in the end du
    Rows<G, T> dt[segments_at_once<T>];  ///< in the end d_dt
    Rows<G, T> dy[segments_at_once<T>];
    SegmentProjections<G> bc;
  };
  /// `ProjectionSums` of a warp's lanes. With the gap those of two warps lie in different banks.
  struct Sums {
    static constexpr int kinds = 2 * (warp_tokens / 4);  ///< dB of 4 tokens and of the next 4, dC likewise
    float value[kinds][32][4];
    float gap[8];
  };
  Warp warp[warps];
  Sums sums[2][warps];  ///< a segment's while others still read those of the one behind it
};

/// Adds a segment's sums of all warps and quads of lanes up, and writes dB and dC. Every warp has its share: eight
/// sums, of two tokens, by four lanes each, which have every other warp and every other quad.
template <class G, class T, class Sums>
__device__ inline void add_up_projections(const Sequence<G>& at, const Sums* sums, const Gradients<T>& d,
                                          unsigned segment) {
  constexpr int warps = SequenceBlocks<G>::warps;
  constexpr int quads = 8 / G::parts;  // of a part
  const int number = at.lane % 4;
  const int first_quad = at.lane / 8 % 2;
  const int first_warp = at.lane / 16;
#pragma unroll
  for (int share = 0; share < 2 * Sums::kinds; share += warps) {
    const int kind = (share + at.warp) / 2;
    if ((2 * Sums::kinds) % warps != 0 && kind >= Sums::kinds) break;
    const int which = (share + at.warp) % 2 * 2 + at.lane / 4 % 2;
    const bool of_c = kind >= Sums::kinds / 2;
    const int t = static_cast<int>(segment) * warp_tokens + kind % (Sums::kinds / 2) * 4 + which;
#pragma unroll
    for (int part = 0; part < G::parts; ++part) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < warps; w += 2) {
        if (warps % 2 != 0 && w + first_warp >= warps) continue;
#pragma unroll
        for (int q = 0; q < quads; q += 2)
          if (quads % 2 == 0 || q + first_quad < quads)
            sum += sums[w + first_warp].value[kind][(part * quads + q + first_quad) * 4 + which][number];
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      const int n = part * lane_states + (number == 1 ? 2 : number == 2 ? 1 : number);
      if (at.lane >= 8 || t >= at.length || n >= G::states) continue;
      const std::size_t row = at.first_token + t;
      if (SequenceBlocks<G>::blocks > 1)
        d.bc[row * 2 * G::states + (of_c ? G::states : 0) + n] = sum;
      else if (of_c)
        d.c[row * d.c_stride + n] = from_float<T>(sum);
      else
        d.b[row * d.b_stride + n] = from_float<T>(sum);
    }
  }
}

/// As `backward`. \p entries has room for the states before the segments: (batch, groups of all blocks, segments,
/// lanes, states of a lane). Grid: (blocks along the channels, batch).
template <class G, int V, int OutV, class T>
__global__ void __launch_bounds__(32 * SequenceBlocks<G>::warps)
    backward_sequences(Operands<T> o, const T* dy, unsigned dy_stride, float* entries, Gradients<T> d, int length) {
  extern __shared__ float4 dynamic_memory[];
  using Memory = SequenceBackwardMemory<G, T>;
  using States = Chunk<float, lane_states>;
  const Sequence<G> at(length);
  auto& block_memory = *reinterpret_cast<Memory*>(dynamic_memory);
  auto& memory = block_memory.warp[at.warp];
  if (SequenceBlocks<G>::blocks > 1) d.bc += std::size_t{blockIdx.x} * gridDim.y * length * 2 * G::states;
  const std::size_t place = (std::size_t{blockIdx.y} * gridDim.x + blockIdx.x) * Memory::warps + at.warp;
  States* entry = reinterpret_cast<States*>(entries) + place * at.segments * 32 + at.lane;
  const unsigned last = at.segments - 1;
  float exponent[lane_states];
  at.load_exponents(o, exponent);
  float in[warp_tokens], step[warp_tokens], next_in[warp_tokens], next_step[warp_tokens];
  float decay[warp_tokens][lane_states];
  float now[lane_states]{};
  {  // Forwards, to the states before the last segment.
    SequenceRows<G, V, const T> u(at, o.u, o.u_stride, 0), dt(at, o.dt, o.dt_stride, 0);
    NextProjections<G, T> next(at, o, 0);
    const auto fetch = [&](unsigned segment) {
      if (segment < last) {
        u.fetch(memory.u[segment % segments_at_once<T>]);
        dt.fetch(memory.dt[segment % segments_at_once<T>]);
        u.go_on();
        dt.go_on();
      }
      commit_copies();
    };
    for (unsigned segment = 0; segment < segments_at_once<T> - 1; ++segment) fetch(segment);
    next.fetch();
    wait_for_copies<segments_at_once<T> - 2>();
    __syncwarp();
    load_column(at, memory.u[0], next_in);
    load_column(at, memory.dt[0], next_step);
    for (unsigned segment = 0; segment < last; ++segment) {
#pragma unroll
      for (int t = 0; t < warp_tokens; ++t) {
        in[t] = next_in[t];
        step[t] = next_step[t];
      }
      load_decays(step, exponent, decay);
      __syncwarp();  // all lanes are done with the segment before
      fetch(segment + segments_at_once<T> - 1);
      next.put(memory.bc);
      next.go_on();
      next.fetch();
      if (segment > 0) mad::cuda::store((entry += 32)->value, now);
      wait_for_copies<segments_at_once<T> - 2>();
      __syncwarp();
      load_column(at, memory.u[(segment + 1) % segments_at_once<T>], next_in);
      load_column(at, memory.dt[(segment + 1) % segments_at_once<T>], next_step);
      walk_segment(at, in, step, memory.bc, decay, now, [](int, const float(&)[lane_states]) {});
    }
    __syncwarp();
  }

  // And back; k counts the segments from the last one.
  SequenceRows<G, V, const T> u(at, o.u, o.u_stride, last), dt(at, o.dt, o.dt_stride, last);
  SequenceRows<G, V, const T> d_out(at, dy, dy_stride, last);
  SequenceRows<G, OutV, T> d_u(at, d.u, d.u_stride, last), d_dt(at, d.dt, d.dt_stride, last);
  NextProjections<G, T> next(at, o, last);
  const auto fetch = [&](unsigned k) {
    if (k <= last) {
      u.fetch(memory.u[k % segments_at_once<T>]);
      dt.fetch(memory.dt[k % segments_at_once<T>]);
      d_out.fetch(memory.dy[k % segments_at_once<T>]);
      u.go_back();
      dt.go_back();
      d_out.go_back();
    }
    commit_copies();
  };
  for (unsigned k = 0; k < segments_at_once<T> - 1; ++k) fetch(k);
  next.fetch();
  const float skip = at.has_channel ? o.skip[at.channel] : 0.0f;
  States before;  // the segment
#pragma unroll
  for (int i = 0; i < lane_states; ++i) before.value[i] = now[i];
  WayBack back;
  wait_for_copies<segments_at_once<T> - 2>();
  __syncwarp();
  float gradient[warp_tokens], next_gradient[warp_tokens];
  load_column(at, memory.u[0], next_in);
  load_column(at, memory.dt[0], next_step);
  load_column(at, memory.dy[0], next_gradient);
  for (unsigned k = 0; k <= last; ++k) {
#pragma unroll
    for (int t = 0; t < warp_tokens; ++t) {
      in[t] = next_in[t];
      step[t] = next_step[t];
      gradient[t] = next_gradient[t];
    }
    load_decays(step, exponent, decay);
    __syncwarp();  // all lanes are done with the segment before
    fetch(k + segments_at_once<T> - 1);
    next.put(memory.bc);
    next.go_back();
    next.fetch();
    float first[lane_states], state[warp_tokens][lane_states];
#pragma unroll
    for (int i = 0; i < lane_states; ++i) first[i] = now[i] = before.value[i];
    before = States{};
    if (k + 1 < last) {
      before = *entry;
      entry -= 32;
    }
    wait_for_copies<segments_at_once<T> - 2>();
    __syncwarp();
    const unsigned next_stage = (k + 1) % segments_at_once<T>;
    load_column(at, memory.u[next_stage], next_in);
    load_column(at, memory.dt[next_stage], next_step);
    load_column(at, memory.dy[next_stage], next_gradient);
    walk_segment(at, in, step, memory.bc, decay, now, [&](int t, const float(&behind)[lane_states]) {
#pragma unroll
      for (int i = 0; i < lane_states; ++i) state[t][i] = behind[i];
    });
    ProjectionSums sums;
#pragma unroll
    for (int t = warp_tokens - 1; t >= 0; --t) {
      float b[lane_states], c[lane_states];
      memory.bc.read_b(t, at.part, b);
      memory.bc.read_c(t, at.part, c);
      back.step<sizeof(T) == sizeof(float)>(at, t, in[t], step[t], gradient[t], b, c, exponent, skip, decay[t],
                                            state[t], t > 0 ? state[t > 0 ? t - 1 : 0] : first, sums);
    }
    const unsigned stage = k % segments_at_once<T>;
    auto& of_block = block_memory.sums[k % 2];
#pragma unroll
    for (int h = 0; h < warp_tokens / 4; ++h) {
      mad::cuda::store(of_block[at.warp].value[h][at.lane], sums.of_b[h]);
      mad::cuda::store(of_block[at.warp].value[warp_tokens / 4 + h][at.lane], sums.of_c[h]);
    }
    store_column(at, in, memory.u[stage]);
    store_column(at, step, memory.dt[stage]);
    __syncthreads();
    d_u.store(memory.u[stage]);
    d_dt.store(memory.dt[stage]);
    d_u.go_back();
    d_dt.go_back();
    add_up_projections(at, of_block, d, last - k);
  }
  if (!at.has_channel) return;
  float* row = d.parameters + std::size_t{blockIdx.y} * G::all_channels * (G::states + 1);
#pragma unroll
  for (int i = 0; i < lane_states; ++i)
    if (at.state(i) < G::states) row[at.channel * G::states + at.state(i)] = back.d_a[i];
  if (at.part == 0) row[G::all_channels * G::states + at.channel] = back.d_skip;
}

}  // namespace mad::cuda::scan_detail
