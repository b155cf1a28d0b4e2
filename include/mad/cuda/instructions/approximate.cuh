// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A float whose elementary functions are the hardware's: for values that are stored in half of its bits.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>

#include <cmath>

namespace mad::cuda::approximate {

/// To about 1e-6 of the result, tanh to 5e-4 (half a unit in the last place of a bfloat16 is 2e-3). There are no slow
/// paths: denormal numbers are taken as 0. Formulas find the functions by argument.
struct Number {
  float value;

  Number() = default;
  __device__ explicit Number(float x) : value(x) {}
  __device__ explicit Number(double x) : value(static_cast<float>(x)) {}
  __device__ explicit Number(int x) : value(static_cast<float>(x)) {}
};

__device__ inline Number operator-(Number a) { return Number(-a.value); }
__device__ inline Number operator+(Number a, Number b) { return Number(a.value + b.value); }
__device__ inline Number operator-(Number a, Number b) { return Number(a.value - b.value); }
__device__ inline Number operator*(Number a, Number b) { return Number(a.value * b.value); }
__device__ inline Number operator/(Number a, Number b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b.value));
  return Number(a.value * inverse);
}

__device__ inline Number exp(Number a) { return Number(tensor::power_of_two(1.44269504f * a.value)); }
/// log(1 + a) for a >= 0.
__device__ inline Number log1p(Number a) {
  const float x = a.value;
  float power;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(1 + x));
  const float series = x * (1 + x * (-1.0f / 2 + x * (1.0f / 3 - 1.0f / 4 * x)));  // 1 + x has lost the last bits of x
  return Number(x < 1.0f / 16 ? series : 0.693147181f * power);
}
__device__ inline Number tanh(Number a) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(a.value));
  return Number(y);
}
__device__ inline Number log(Number a) { return Number(std::log(a.value)); }
__device__ inline Number sqrt(Number a) { return Number(std::sqrt(a.value)); }
__device__ inline Number sin(Number a) { return Number(std::sin(a.value)); }
__device__ inline Number cos(Number a) { return Number(std::cos(a.value)); }
__device__ inline Number erf(Number a) { return Number(std::erf(a.value)); }
__device__ inline Number abs(Number a) { return Number(fabsf(a.value)); }
__device__ inline Number max(Number a, Number b) { return a.value < b.value ? b : a; }
__device__ inline Number step(Number a) { return Number(a.value > 0 ? 1.0f : 0.0f); }

}  // namespace mad::cuda::approximate
