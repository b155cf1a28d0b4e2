// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The norm of 16 whole rows of a warp, in the registers in which products have them as their left factor.
#pragma once

#include <mad/cuda/instructions/numbers.cuh>
#include <mad/cuda/instructions/tensor_core.cuh>

#include <cstdint>

namespace mad::cuda {

/// Of rows of Width columns, with or without the mean taken off (ops/norm.hpp). A lane has two neighbouring columns of
/// row l / 4 or of the eighth below it in every part, and the four lanes of a row sum over it.
template <int Width, bool Centred>
struct FactorRows {
  static constexpr int steps = Width / 16;
  /// Columns of a row that a lane has.
  static constexpr int per_lane = Width / 4;
  using X = tensor::Left<16>[steps];

  float mean[2];
  float inverse[2];  ///< 1 / sqrt(var + eps)

  /// \param centred says so at run time; without it a template that is centred computes as one that is not
  __device__ FactorRows(const X& x, float epsilon, bool centred = Centred) {
    constexpr float share = 1.0f / Width;
    mean[0] = mean[1] = inverse[0] = inverse[1] = 0;
    if constexpr (Centred) {
      // A product with ones has the sums of a row in all of its lanes.
      constexpr std::uint32_t ones = 0x3f803f80;
      tensor::Sums sums;
      if (centred) {
#pragma unroll
        for (int s = 0; s < steps; ++s) tensor::multiply_add(sums, x[s], tensor::Right<16>{{ones, ones}});
      }
      mean[0] = sums.value[0] * share;
      mean[1] = sums.value[2] * share;
    }
#pragma unroll
    for (int s = 0; s < steps; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float d = tensor::number_of(x[s].part[part], i) - mean[part % 2];
          inverse[part % 2] += d * d;
        }
      }
    }
#pragma unroll
    for (float& i : inverse) i = rsqrtf(lane_sum<4>(i) * share + epsilon);
  }
  /// xhat of number \p i of a word of row `half`.
  __device__ float standardised(std::uint32_t word, int i, int half) const {
    return (tensor::number_of(word, i) - mean[half]) * inverse[half];
  }

  /// The lane's columns of a parameter, in the order in which its words of a row have them.
  static __device__ void load(const float* all, float (&own)[per_lane]) {
#pragma unroll
    for (int i = 0; i < per_lane; i += 2) cuda::load(all + column(i), reinterpret_cast<float(&)[2]>(own[i]));
  }
  /// The i-th of the lane's columns.
  static __device__ int column(int i) { return i / 2 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2; }
};

/// The norm's parameters in a lane's columns.
template <int Width, bool Centred, bool HasBias>
struct FactorNorm {
  using Rows = FactorRows<Width, Centred>;

  float weight[Rows::per_lane];
  float bias[HasBias ? Rows::per_lane : 4];

  __device__ void load(const float* all_weights, const float* all_biases) {
    Rows::load(all_weights, weight);
    if constexpr (HasBias) Rows::load(all_biases, bias);
  }
  /// x to xhat w + b.
  __device__ void apply(typename Rows::X& x, float epsilon) const {
    const Rows rows(x, epsilon);
#pragma unroll
    for (int s = 0; s < Rows::steps; ++s)
      x[s] = of(x[s], rows, reinterpret_cast<const float(&)[4]>(weight[4 * s]),
                reinterpret_cast<const float(&)[4]>(bias[HasBias ? 4 * s : 0]));
  }
  /// The same of the s-th 16 columns alone, with parameters from memory: whoever has not the registers for all of them.
  static __device__ tensor::Left<16> of_step(const tensor::Left<16>& x, const Rows& rows, int s,
                                             const float* all_weights, const float* all_biases) {
    float weight[4];
    float bias[4]{};
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      cuda::load(all_weights + Rows::column(4 * s + i), reinterpret_cast<float(&)[2]>(weight[i]));
      if (HasBias) cuda::load(all_biases + Rows::column(4 * s + i), reinterpret_cast<float(&)[2]>(bias[i]));
    }
    return of(x, rows, weight, bias);
  }

private:
  static __device__ tensor::Left<16> of(const tensor::Left<16>& x, const Rows& rows, const float (&weight)[4],
                                        const float (&bias)[4]) {
    tensor::Left<16> words;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      float y[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = part / 2 * 2 + i;
        y[i] = rows.standardised(x.part[part], i, part % 2) * weight[column] + (HasBias ? bias[column] : 0.0f);
      }
      words.part[part] = tensor::pack(y[0], y[1]);
    }
    return words;
  }
};

}  // namespace mad::cuda
