// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan where sequences are many: a warp walks a whole sequence of a group of channels. Nothing is handed
/// from warp to warp, so that there is neither waiting nor a correction of states. Numbers arrive some segments of 8
/// tokens ahead.
#pragma once

#include <mad/cuda/selective_scan_layout.cuh>

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
      if (at_once > warp_tokens && first_ >= warp_tokens) return;
      auto* const place = &to.value[first_ + t][column_];
      const bool here = token_ + t < length_;
      if constexpr (V * sizeof(T) == 16) {
        copy_or_clear_async(place, from, here);
      } else if (here) {
        copy_async<V>(place, from);
      } else {
        constexpr float zeros[V]{};
        mad::cuda::store(place, zeros);
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

/// The decays of a segment's tokens.
__device__ inline void load_decays(const float (&dt)[warp_tokens], const float (&exponent)[lane_states],
                                   float (&decay)[warp_tokens][lane_states]) {
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t)
#pragma unroll
    for (int i = 0; i < lane_states; ++i) decay[t][i] = tensor::power_of_two(dt[t] * exponent[i]);
}

/// Walks a segment from the states before it to those behind it, and calls `each(token, states)`.
template <class G, class Each>
__device__ inline void walk_segment(const Sequence<G>& at, const float (&u)[warp_tokens],
                                    const float (&dt)[warp_tokens], const SegmentProjections<G>& bc,
                                    const float (&decay)[warp_tokens][lane_states], float (&state)[lane_states],
                                    const Each& each) {
#pragma unroll
  for (int t = 0; t < warp_tokens; ++t) {
    const float input = dt[t] * u[t];
    float b[lane_states];
    bc.read_b(t, at.part, b);
#pragma unroll
    for (int i = 0; i < lane_states; ++i) state[i] = decay[t][i] * state[i] + input * b[i];
    each(t, state);
  }
}

/// Segments of which a warp has the rows in shared memory, or on their way there, within some 90 KB of a block.
template <class T>
inline constexpr int segments_at_once = sizeof(T) == sizeof(BFloat16) ? 4 : 2;

template <class G, class T>
struct alignas(16) SequenceForwardMemory {
  struct Warp {
    Rows<G, T> u[segments_at_once<T>];
    Rows<G, T> dt[segments_at_once<T>];
    Rows<G, T> y;
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
    u.fetch(memory.u[segment % segments_at_once<T>]);
    dt.fetch(memory.dt[segment % segments_at_once<T>]);
    u.go_on();
    dt.go_on();
    commit_copies();
  };
  for (unsigned segment = 0; segment < segments_at_once<T> - 1; ++segment) fetch(segment);
  next.fetch();
  float exponent[lane_states];
  at.load_exponents(o, exponent);
  const float skip = at.part == 0 && at.has_channel ? o.skip[at.channel] : 0.0f;
  float state[lane_states]{};
  wait_for_copies<segments_at_once<T> - 2>();
  __syncwarp();
  float next_in[warp_tokens], next_step[warp_tokens];
  load_column(at, memory.u[0], next_in);
  load_column(at, memory.dt[0], next_step);
  for (unsigned segment = 0; segment < at.segments; ++segment) {
    float in[warp_tokens], step[warp_tokens], decay[warp_tokens][lane_states], sum[warp_tokens];
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
    if (segment > 0) {
      out.store(memory.y);
      out.go_on();
    }
    wait_for_copies<segments_at_once<T> - 2>();
    __syncwarp();
    load_column(at, memory.u[(segment + 1) % segments_at_once<T>], next_in);
    load_column(at, memory.dt[(segment + 1) % segments_at_once<T>], next_step);
    walk_segment(at, in, step, memory.bc, decay, state, [&](int t, const float(&now)[lane_states]) {
      float c[lane_states];
      memory.bc.read_c(t, at.part, c);
      sum[t] = skip * in[t];
#pragma unroll
      for (int i = 0; i < lane_states; ++i) sum[t] += now[i] * c[i];
      sum[t] = sum_of_parts<G>(sum[t]);
    });
    store_column(at, sum, memory.y);
  }
  __syncwarp();
  out.store(memory.y);
}

}  // namespace mad::cuda::scan_detail
