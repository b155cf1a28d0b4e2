// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The norm in front of a channel mixer, of the 16 rows of a warp. `M` is the mixer (channel_mixer.cuh).
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/channel_mixer/rows.cuh>

#include <cstdint>

namespace mad::cuda::channel_mixer_detail {

/// The norm of rows in the registers in which products have them: of a left factor's part a lane has two neighbouring
/// columns of row l / 4 or of the eighth below it, and the four lanes of a row sum over it.
template <class M>
struct MixerNorm {
  static constexpr int width = M::form.input_width[0];
  static constexpr int steps = width / 16;
  /// Columns of a row that a lane has.
  static constexpr int per_lane = width / 4;
  using X = tensor::Left<16>[steps];

  /// Weight and bias in the lane's columns.
  struct Parameters {
    float weight[per_lane];
    float bias[per_lane];

    __device__ void load(const typename M::Memory& memory) {
#pragma unroll
      for (int i = 0; i < per_lane; i += 2) {
        const int column = i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2;
        cuda::load(memory.norm_weight + column, reinterpret_cast<float(&)[2]>(weight[i]));
        if constexpr (M::form.has_bias) cuda::load(memory.norm_bias + column, reinterpret_cast<float(&)[2]>(bias[i]));
      }
    }
    __device__ float shift(int i) const { return M::form.has_bias ? bias[i] : 0.0f; }
  };

  /// x to xhat w + b (ops/norm.hpp).
  static __device__ void apply(const Parameters& p, X& x) {
    constexpr float share = 1.0f / width;
    float mean[2]{};
    if constexpr (M::form.is_centred) {
      // A product with ones has the sums of a row in all of its lanes.
      constexpr std::uint32_t ones = 0x3f803f80;
      tensor::Sums sums;
#pragma unroll
      for (int s = 0; s < steps; ++s) tensor::multiply_add(sums, x[s], tensor::Right<16>{{ones, ones}});
      mean[0] = sums.value[0] * share;
      mean[1] = sums.value[2] * share;
    }
    float inverse[2]{};
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float d = number_of(x[s].part[part], i) - mean[part % 2];
          inverse[part % 2] += d * d;
        }
      }
    }
#pragma unroll
    for (float& i : inverse) i = rsqrtf(lane_sum<4>(i) * share + static_cast<float>(M::form.epsilon));
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        float y[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = 4 * s + part / 2 * 2 + i;
          y[i] =
              (number_of(x[s].part[part], i) - mean[part % 2]) * inverse[part % 2] * p.weight[column] + p.shift(column);
        }
        x[s].part[part] = tensor::pack(y[0], y[1]);
      }
    }
  }
};

}  // namespace mad::cuda::channel_mixer_detail
