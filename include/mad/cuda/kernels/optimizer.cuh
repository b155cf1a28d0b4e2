// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// AdamW and SGD over the whole arena in one kernel; the step's number and rates live on the device.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>
#include <mad/models/parameter_info.hpp>

#include <span>

namespace mad::cuda {

/// The settings of train/optimizer.hpp, in the form the device takes them.
struct OptimizerSettings {
  bool adamw = true;  ///< false: SGD
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  bool honour_marks = false;  ///< own learning rates and exemption from decay apply (Fidelity::intended)
};

/// A run of neighbouring parameters that are treated alike, and the gaps between them (which stay 0).
struct Segment {
  Index begin;
  Index end;
  double own_rate;  ///< not positive: the run's
  bool decay;
};

inline std::vector<Segment> make_segments(const OptimizerSettings& settings, std::span<const ParameterInfo> infos) {
  std::vector<Segment> segments;
  bool interrupted = false;
  for (const ParameterInfo& p : infos) {
    if (p.size == 0) continue;
    if (!p.trained) {
      interrupted = true;
      continue;
    }
    const double own = settings.honour_marks && p.learning_rate > 0 ? p.learning_rate : 0;
    const bool decay = !settings.honour_marks || p.decay;
    if (!segments.empty() && !interrupted && segments.back().own_rate == own && segments.back().decay == decay)
      segments.back().end = p.offset + p.size;
    else
      segments.push_back({p.offset, p.offset + p.size, own, decay});
    interrupted = false;
  }
  return segments;
}

/// Where a training run is; on the device, read and advanced by its kernels.
struct Progress {
  long long steps = 0;  ///< steps of the optimiser that are done
  int position = 0;     ///< next batch of the epoch
  int diverged = 0;     ///< 1: a training loss was no finite number, and the optimiser does nothing any more
};

/// What a segment's numbers are multiplied with in the current step.
struct StepFactors {
  float keep;   ///< 1 - rate * decay
  float rate;   ///< rate / (1 - beta1^n), or the rate of SGD
  float scale;  ///< 1 / sqrt(1 - beta2^n)
};

/// A piece of a segment, one per block.
struct Piece {
  int segment;
  Index begin;
  Index end;
};

namespace optimizer_detail {

inline constexpr int threads = 256;
inline constexpr int at_once = 4;
inline constexpr int per_block = threads * at_once;

/// The factors of all segments for step number `steps + 1`; in double, by one thread per segment.
__device__ inline void make_factors(const OptimizerSettings& s, const Segment* segments, const double* rates, int count,
                                    const Progress& progress, StepFactors* factors, unsigned thread, unsigned threads) {
  const double n = static_cast<double>(progress.steps + 1);
  for (unsigned i = thread; i < static_cast<unsigned>(count); i += threads) {
    const double rate = rates[i];
    StepFactors f;
    f.keep = static_cast<float>(1 - (segments[i].decay ? rate * s.weight_decay : 0));
    f.rate = static_cast<float>(s.adamw ? rate / (1 - ::pow(s.beta1, n)) : rate);
    f.scale = static_cast<float>(1 / ::sqrt(1 - ::pow(s.beta2, n)));
    factors[i] = f;
  }
}

/// AdamW: m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
///        p <- p (1 - lr wd) - lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)    (Loshchilov and Hutter 2019)
/// SGD:   p <- p (1 - lr wd) - lr g
/// `rounded` follows the parameters in the type of matrix products. A thread takes four neighbours; a block, a piece.
/// Parameters begin at multiples of 16 bytes (arena_layout.hpp): what four neighbours reach behind a piece is padding.
template <bool AdamW, class T>
__global__ void __launch_bounds__(threads)
    update(OptimizerSettings s, const Piece* pieces, const StepFactors* factors, float* parameters, T* rounded,
           const float* gradients, float* first_moment, float* second_moment, Progress* progress) {
  const Piece piece = pieces[blockIdx.x];
  const bool diverged = progress->diverged != 0;
  const Index at = piece.begin + static_cast<Index>(threadIdx.x) * at_once;
  // Nothing of this kernel reads the number of steps.
  if (blockIdx.x == 0 && threadIdx.x == 0 && !diverged) ++progress->steps;
  if (at >= piece.end || diverged) return;
  float g[at_once];
  float p[at_once];
  float m[at_once];
  float v[at_once];
  load(gradients + at, g);
  load(parameters + at, p);
  if constexpr (AdamW) {
    load(first_moment + at, m);
    load(second_moment + at, v);
  }
  const StepFactors f = factors[piece.segment];
  const auto beta1 = static_cast<float>(s.beta1);
  const auto beta2 = static_cast<float>(s.beta2);
  const auto gain1 = static_cast<float>(1 - s.beta1);
  const auto gain2 = static_cast<float>(1 - s.beta2);
  const auto epsilon = static_cast<float>(s.epsilon);
#pragma unroll
  for (int i = 0; i < at_once; ++i) {
    p[i] *= f.keep;
    if constexpr (AdamW) {
      m[i] = beta1 * m[i] + gain1 * g[i];
      v[i] = beta2 * v[i] + gain2 * g[i] * g[i];
      p[i] -= f.rate * m[i] / (f.scale * sqrtf(v[i]) + epsilon);
    } else {
      p[i] -= f.rate * g[i];
    }
  }
  store(parameters + at, p);
  if constexpr (AdamW) {
    store(first_moment + at, m);
    store(second_moment + at, v);
  }
  if constexpr (!std::is_same_v<T, float>) store(rounded + at, p);
}

template <class T>
__global__ void __launch_bounds__(threads) round_all(const float* from, T* to, Index count) {
  const Index i = Index{blockIdx.x} * threads + threadIdx.x;
  if (i < count) to[i] = from_float<T>(from[i]);
}

}  // namespace optimizer_detail

/// The segments of an arena, cut into pieces for the kernel.
inline std::vector<Piece> make_pieces(std::span<const Segment> segments) {
  std::vector<Piece> pieces;
  for (std::size_t s = 0; s < segments.size(); ++s)
    for (Index at = segments[s].begin; at < segments[s].end; at += optimizer_detail::per_block)
      pieces.push_back({static_cast<int>(s), at, std::min<Index>(at + optimizer_detail::per_block, segments[s].end)});
  return pieces;
}

}  // namespace mad::cuda
