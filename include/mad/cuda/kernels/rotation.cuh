// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rotary positions: the table of cosines and sines, and the rotation of one channel.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <cmath>

namespace mad::cuda {

/// Cosine and sine of position * base^(-2j/rotary) for pair j, (max_length, rotary / 2); evaluated in double (Su et al.
/// 2021, arXiv 2104.09864, equation 34).
inline const float2* rotation_table(Queue& queue, int rotary, double base, Index max_length) {
  const Index pairs = rotary / 2;
  return queue.table<float2>(
      {static_cast<double>(rotary), base, static_cast<double>(max_length), 0}, max_length * pairs, [&](float2* to) {
        for (Index j = 0; j < pairs; ++j) {
          const double frequency = std::pow(base, -2.0 * static_cast<double>(j) / rotary);
          for (Index t = 0; t < max_length; ++t) {
            const double angle = static_cast<double>(t) * frequency;
            to[t * pairs + j] = {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
          }
        }
      });
}

/// How the channels of a head turn: pairs (j, j + rotary/2), or (2j, 2j+1) where interleaved; channels from `rotary` on
/// stay.
struct Rotation {
  const float2* table;
  int rotary;
  bool interleaved;

  /// True if all channels of a head turn, in halves.
  __device__ bool turns_halves(int width) const { return rotary == width && !interleaved; }
  /// The channels that turn together as pair p < rotary / 2.
  __device__ int2 pair(int p) const { return interleaved ? int2{2 * p, 2 * p + 1} : int2{p, p + rotary / 2}; }

  /// Turns a row in place.
  template <class T>
  __device__ void turn(T* row, int position) const {
#pragma unroll 1
    for (int p = 0; p < rotary / 2; ++p) {
      const int2 i = pair(p);
      const float2 by = table[position * (rotary / 2) + p];
      const float x = to_float(row[i.x]);
      const float y = to_float(row[i.y]);
      row[i.x] = from_float<T>(x * by.x - y * by.y);
      row[i.y] = from_float<T>(y * by.x + x * by.y);
    }
  }

  /// Where all Width channels turn in halves: cosine and sine of each pair at a position.
  template <int Width>
  __device__ void angles(int position, float (&turn)[Width]) const {
#pragma unroll
    for (int c = 0; c < Width; c += 4)
      load(reinterpret_cast<const float*>(table + position * (Width / 2)) + c, reinterpret_cast<float(&)[4]>(turn[c]));
  }
  /// Turns a row by them and multiplies it by a factor.
  template <int Width>
  static __device__ void turn_halves(float (&x)[Width], const float (&turn)[Width], float factor) {
#pragma unroll
    for (int p = 0; p < Width / 2; ++p) {
      const float a = x[p];
      const float b = x[p + Width / 2];
      x[p] = (a * turn[2 * p] - b * turn[2 * p + 1]) * factor;
      x[p + Width / 2] = (b * turn[2 * p] + a * turn[2 * p + 1]) * factor;
    }
  }

  /// Channel i of the head x (any indexable numbers) at a position, turned with the angle, or against it if `sign` is
  /// -1.
  template <class X>
  __device__ float turned(const X& x, int i, int position, float sign) const {
    const float own = to_float(x[i]);
    if (i >= rotary) return own;
    const int pairs = rotary / 2;
    const int pair = interleaved ? i / 2 : i % pairs;
    const bool second = interleaved ? i % 2 != 0 : i >= pairs;
    const float other = to_float(x[interleaved ? i ^ 1 : second ? i - pairs : i + pairs]);
    const float2 turn = table[position * pairs + pair];
    return own * turn.x + (second ? sign : -sign) * other * turn.y;
  }
};

}  // namespace mad::cuda
