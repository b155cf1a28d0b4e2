// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan and its gradients where sequences are many: a warp walks a whole sequence of a group of channels.
///
/// Nothing is handed from warp to warp, so that there is neither waiting nor a correction of states. Numbers arrive
/// some segments of 8 tokens ahead. Backwards a warp walks its sequence twice: forwards it leaves the states before
/// each segment; then, segment by segment from the last one, it computes the segment's states again and walks back. The
/// sums over channels of dB and dC are added up among the block's warps after each segment.
#pragma once

#include <mad/cuda/selective_scan_gradient.cuh>

#include <type_traits>

namespace mad::cuda::scan_detail {

/// How the groups of a sequence are spread over blocks, a warp for each.
template <class G>
struct SequenceBlocks {
  static constexpr int blocks = (G::count + most_groups - 1) / most_groups;  ///< along the channels
  static constexpr int warps = (G::count + blocks - 1) / blocks;

  static dim3 grid(const Shape& shape) { return dim3(blocks, static_cast<unsigned>(shape.batch)); }
  static dim3 block() { return dim3(32 * warps); }
  /// True if sequences are so many that they fill the device.
  static bool fill(const Shape& shape, int multiprocessors) {
    return shape.batch * blocks * warps >= Index{4} * multiprocessors;
  }
};

/// What a warp walks: a sequence of a group of channels. Behind the last channel there are none.
template <class G>
struct Sequence : Place<G> {
  int first_column = (static_cast<int>(blockIdx.x) * SequenceBlocks<G>::warps + this->warp) * G::channels;
  int channel = first_column + this->column;
  bool has_channel = channel < G::all_channels;
  int length;
  unsigned segments;
  unsigned first_token;

  __device__ explicit Sequence(int length)
      : length(length),
        segments((static_cast<unsigned>(length) + warp_tokens - 1) / warp_tokens),
        first_token(blockIdx.y * length) {}

  template <class T>
  __device__ void load_exponents(const Operands<T>& o, float (&exponent)[lane_states]) const {
    constexpr float log2_e = 1.44269504f;
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      const bool here = has_channel && this->state(i) < G::states;
      exponent[i] = here ? log2_e * o.a[channel * G::states + this->state(i)] : 0.0f;
    }
  }
};

/// A warp's rows of an operand in global memory, segment by segment from `segment` on, forwards or backwards. A lane
/// moves V neighbouring numbers at a time.
template <class G, int V, class T>
class SequenceRows {
public:
  __device__ SequenceRows(const Sequence<G>& at, T* rows, unsigned stride, int segment)
      : stride_(stride),
        first_(at.lane / per_row),
        column_(at.lane % per_row * V),
        token_(segment * warp_tokens + first_),
        length_(at.first_column + column_ < G::all_channels && first_ < warp_tokens ? at.length : 0),
        own_(rows + std::size_t{at.first_token + token_} * stride + (at.first_column + column_)) {}

  /// Zeros behind the last token.
  __device__ void fetch(Rows<G, std::remove_const_t<T>>& to) const {
    for_tokens([&](int t, T* from) {
      if (token_ + t < length_) {
        copy_async<V>(&to.value[first_ + t][column_], from);
      } else if (at_once <= warp_tokens || first_ < warp_tokens) {
        constexpr float zeros[V]{};
        mad::cuda::store(&to.value[first_ + t][column_], zeros);
      }
    });
  }
  __device__ void store(const Rows<G, T>& from) const {
    using Piece = Chunk<T, V>;
    for_tokens([&](int t, T* to) {
      if (token_ + t < length_)
        *reinterpret_cast<Piece*>(to) = *reinterpret_cast<const Piece*>(&from.value[first_ + t][column_]);
    });
  }
  __device__ void go_on() { move(warp_tokens); }
  __device__ void go_back() { move(-warp_tokens); }

private:
  static constexpr int per_row = G::channels / V;
  static constexpr int at_once = 32 / per_row;  ///< tokens

  template <class F>
  __device__ void for_tokens(const F& f) const {
#pragma unroll
    for (int t = 0; t < warp_tokens; t += at_once) f(t, own_ + static_cast<std::size_t>(t) * stride_);
  }
  __device__ void move(int tokens) {
    token_ += tokens;
    own_ += static_cast<std::ptrdiff_t>(tokens) * stride_;
  }

  unsigned stride_;
  int first_;   ///< token of a segment
  int column_;  ///< of the group
  int token_;   ///< of the sequence
  int length_;
  T* own_;
};

/// B and C of a warp's segment.
template <class G>
struct SegmentProjections {
  float b[warp_tokens][G::padded_states], c[warp_tokens][G::padded_states];

  __device__ void read_b(int t, int part, float (&to)[lane_states]) const {
    mad::cuda::load(b[t] + part * lane_states, to);
  }
  __device__ void read_c(int t, int part, float (&to)[lane_states]) const {
    mad::cuda::load(c[t] + part * lane_states, to);
  }
};

/// The numbers that a lane puts into a warp's `SegmentProjections`, on their way, as with `SequenceRows`.
template <class G, class T>
class NextProjections {
public:
  __device__ NextProjections(const Sequence<G>& at, const Operands<T>& o, int segment)
      : lane_(at.lane),
        token_(segment * warp_tokens + at.lane / G::padded_states),
        length_(at.lane % G::padded_states < G::states ? at.length : 0),
        b_stride_(o.b_stride),
        c_stride_(o.c_stride),
        from_b_(o.b + std::size_t{at.first_token + token_} * o.b_stride + at.lane % G::padded_states),
        from_c_(o.c + std::size_t{at.first_token + token_} * o.c_stride + at.lane % G::padded_states) {}

  /// Nothing before the first token or behind the last.
  __device__ void fetch() {
#pragma unroll
    for (int k = 0; k < G::parts; ++k) {
      const int t = k * (32 / G::padded_states);
      b_[k] = c_[k] = from_float<T>(0.0f);
      if (static_cast<unsigned>(token_ + t) < static_cast<unsigned>(length_)) {
        b_[k] = from_b_[static_cast<std::size_t>(t) * b_stride_];
        c_[k] = from_c_[static_cast<std::size_t>(t) * c_stride_];
      }
    }
  }
  __device__ void put(SegmentProjections<G>& to) const {
#pragma unroll
    for (int k = 0; k < G::parts; ++k) {
      to.b[0][k * 32 + lane_] = to_float(b_[k]);
      to.c[0][k * 32 + lane_] = to_float(c_[k]);
    }
  }
  __device__ void go_on() { move(warp_tokens); }
  __device__ void go_back() { move(-warp_tokens); }

private:
  __device__ void move(int tokens) {
    token_ += tokens;
    from_b_ += static_cast<std::ptrdiff_t>(tokens) * b_stride_;
    from_c_ += static_cast<std::ptrdiff_t>(tokens) * c_stride_;
  }

  int lane_;
  int token_;
  int length_;
  unsigned b_stride_, c_stride_;
  const T* from_b_;
  const T* from_c_;
  T b_[G::parts], c_[G::parts];
};

/// A lane's column of a segment.
template <class G, class T>
__device__ inline void load_column(const Sequence<G>& at, const Rows<G, T>& rows, float (&x)[warp_tokens]) {
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t) x[t] = to_float(rows.value[t][at.column]);
}
/// The part 0 of each channel writes.
template <class G, class T>
__device__ inline void store_column(const Sequence<G>& at, const float (&x)[warp_tokens], Rows<G, T>& rows) {
  if (at.part != 0) return;
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t) rows.value[t][at.column] = from_float<T>(x[t]);
}

/// Walks a segment from the states before it to those behind it, and calls `each(token, decays, states)`.
template <class G, class Each>
__device__ inline void walk_segment(const Sequence<G>& at, const float (&u)[warp_tokens],
                                    const float (&dt)[warp_tokens], const SegmentProjections<G>& bc,
                                    const float (&exponent)[lane_states], float (&state)[lane_states],
                                    const Each& each) {
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t) {
    const float input = dt[t] * u[t];
    float b[lane_states], decay[lane_states];
    bc.read_b(t, at.part, b);
#pragma unroll
    for (int i = 0; i < lane_states; ++i) {
      decay[i] = tensor::power_of_two(dt[t] * exponent[i]);
      state[i] = decay[i] * state[i] + input * b[i];
    }
    each(t, decay, state);
  }
}

/// Segments of which a warp has the rows in shared memory, or on their way there.
inline constexpr int segments_at_once = 4;

template <class G, class T>
struct alignas(16) SequenceForwardMemory {
  struct Warp {
    Rows<G, T> u[segments_at_once];  ///< in the end y
    Rows<G, T> dt[segments_at_once];
    SegmentProjections<G> bc;
  };
  Warp warp[SequenceBlocks<G>::warps];
};

/// As `forward`. Grid: (blocks along the channels, batch).
template <class G, int V, class T>
__global__ void __launch_bounds__(32 * SequenceBlocks<G>::warps)
    forward_sequences(Operands<T> o, T* y, unsigned y_stride, int length) {
  extern __shared__ float4 dynamic_memory[];
  const Sequence<G> at(length);
  auto& memory = reinterpret_cast<SequenceForwardMemory<G, T>*>(dynamic_memory)->warp[at.warp];
  SequenceRows<G, V, const T> u(at, o.u, o.u_stride, 0), dt(at, o.dt, o.dt_stride, 0);
  SequenceRows<G, V, T> out(at, y, y_stride, 0);
  NextProjections<G, T> next(at, o, 0);
  const auto fetch = [&](unsigned segment) {
    u.fetch(memory.u[segment % segments_at_once]);
    dt.fetch(memory.dt[segment % segments_at_once]);
    u.go_on();
    dt.go_on();
    commit_copies();
  };
  for (unsigned segment = 0; segment < segments_at_once - 1; ++segment) fetch(segment);
  next.fetch();
  float exponent[lane_states];
  at.load_exponents(o, exponent);
  const float skip = at.part == 0 && at.has_channel ? o.skip[at.channel] : 0.0f;
  float state[lane_states]{};
  for (unsigned segment = 0; segment < at.segments; ++segment) {
    __syncwarp();  // all lanes are done with the segment before
    fetch(segment + segments_at_once - 1);
    next.put(memory.bc);
    next.go_on();
    next.fetch();
    wait_for_copies<segments_at_once - 1>();
    __syncwarp();
    Rows<G, T>& rows = memory.u[segment % segments_at_once];
    float in[warp_tokens], step[warp_tokens], sum[warp_tokens];
    load_column(at, rows, in);
    load_column(at, memory.dt[segment % segments_at_once], step);
    walk_segment(at, in, step, memory.bc, exponent, state,
                 [&](int t, const float(&)[lane_states], const float(&now)[lane_states]) {
                   float c[lane_states];
                   memory.bc.read_c(t, at.part, c);
                   sum[t] = skip * in[t];
#pragma unroll
                   for (int i = 0; i < lane_states; ++i) sum[t] += now[i] * c[i];
                   sum[t] = sum_of_parts<G>(sum[t]);
                 });
    if constexpr (G::parts > 1) __syncwarp();  // all parts have read the rows
    store_column(at, sum, rows);
    __syncwarp();
    out.store(rows);
    out.go_on();
  }
}

template <class G, class T>
struct alignas(16) SequenceBackwardMemory {
  static constexpr int warps = SequenceBlocks<G>::warps;
  struct Warp {
    Rows<G, T> u[segments_at_once];   ///< in the end du
    Rows<G, T> dt[segments_at_once];  ///< in the end d_dt
    Rows<G, T> dy[segments_at_once];
    SegmentProjections<G> bc;
  };
  /// `ProjectionSums` of a warp's lanes. The gap lets those of two warps be read at once.
  struct Sums {
    static constexpr unsigned kinds = 2 * (warp_tokens / 4);  ///< dB of 4 tokens and of the next 4, dC likewise
    float value[kinds][32][4];
    float gap[16];
  };
  Warp warp[warps];
  Sums sums[2][warps];  ///< a segment's while others still read those of the one behind it
};

/// Adds a segment's sums of all warps and quads of lanes up, and writes dB and dC.
template <class G, class T, class Sums>
__device__ inline void add_up_projections(const Sequence<G>& at, const Sums* sums, const Gradients<T>& d,
                                          unsigned segment) {
  constexpr unsigned warps = SequenceBlocks<G>::warps;
  constexpr int quads = 8 / G::parts;  // of a part
  const int half = at.lane / 16;       // every other warp
  const int which = at.lane % 16 / 4;
  const int number = at.lane % 4;
  for (unsigned kind = (at.warp + segment) % warps; kind < Sums::kinds; kind += warps) {  // the warps take turns
    const bool of_c = kind >= Sums::kinds / 2;
    const unsigned t = segment * warp_tokens + kind % (Sums::kinds / 2) * 4 + which;
#pragma unroll
    for (int part = 0; part < G::parts; ++part) {
      float sum = 0;
#pragma unroll
      for (unsigned w = 0; w < warps; w += 2) {
        if (warps % 2 != 0 && w + half >= warps) continue;
#pragma unroll
        for (int q = 0; q < quads; ++q) sum += sums[w + half].value[kind][(part * quads + q) * 4 + which][number];
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      const int n = part * lane_states + (number == 1 ? 2 : number == 2 ? 1 : number);
      if (half > 0 || t >= static_cast<unsigned>(at.length) || n >= G::states) continue;
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
  float in[warp_tokens], step[warp_tokens];
  float now[lane_states]{};
  {  // Forwards, to the states before the last segment.
    SequenceRows<G, V, const T> u(at, o.u, o.u_stride, 0), dt(at, o.dt, o.dt_stride, 0);
    NextProjections<G, T> next(at, o, 0);
    const auto fetch = [&](unsigned segment) {
      if (segment < last) {
        u.fetch(memory.u[segment % segments_at_once]);
        dt.fetch(memory.dt[segment % segments_at_once]);
        u.go_on();
        dt.go_on();
      }
      commit_copies();
    };
    for (unsigned segment = 0; segment < segments_at_once - 1; ++segment) fetch(segment);
    next.fetch();
    for (unsigned segment = 0; segment < last; ++segment) {
      __syncwarp();  // all lanes are done with the segment before
      fetch(segment + segments_at_once - 1);
      next.put(memory.bc);
      next.go_on();
      next.fetch();
      if (segment > 0) mad::cuda::store((entry += 32)->value, now);
      wait_for_copies<segments_at_once - 1>();
      __syncwarp();
      load_column(at, memory.u[segment % segments_at_once], in);
      load_column(at, memory.dt[segment % segments_at_once], step);
      walk_segment(at, in, step, memory.bc, exponent, now,
                   [](int, const float(&)[lane_states], const float(&)[lane_states]) {});
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
      u.fetch(memory.u[k % segments_at_once]);
      dt.fetch(memory.dt[k % segments_at_once]);
      d_out.fetch(memory.dy[k % segments_at_once]);
      u.go_back();
      dt.go_back();
      d_out.go_back();
    }
    commit_copies();
  };
  for (unsigned k = 0; k < segments_at_once - 1; ++k) fetch(k);
  next.fetch();
  const float skip = at.has_channel ? o.skip[at.channel] : 0.0f;
  States before;  // the segment
#pragma unroll
  for (int i = 0; i < lane_states; ++i) before.value[i] = now[i];
  WayBack back;
  for (unsigned k = 0; k <= last; ++k) {
    const unsigned stage = k % segments_at_once;
    __syncwarp();  // all lanes are done with the segment before
    fetch(k + segments_at_once - 1);
    next.put(memory.bc);
    next.go_back();
    next.fetch();
    float first[lane_states];
#pragma unroll
    for (int i = 0; i < lane_states; ++i) first[i] = now[i] = before.value[i];
    before = States{};
    if (k + 1 < last) {
      before = *entry;
      entry -= 32;
    }
    wait_for_copies<segments_at_once - 1>();
    __syncwarp();
    float gradient[warp_tokens];
    load_column(at, memory.u[stage], in);
    load_column(at, memory.dt[stage], step);
    load_column(at, memory.dy[stage], gradient);
    float decay[warp_tokens][lane_states], state[warp_tokens][lane_states];
    walk_segment(at, in, step, memory.bc, exponent, now,
                 [&](int t, const float(&by)[lane_states], const float(&behind)[lane_states]) {
#pragma unroll
                   for (int i = 0; i < lane_states; ++i) {
                     decay[t][i] = by[i];
                     state[t][i] = behind[i];
                   }
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
