// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Normalisation of rows: LayerNorm, RMSNorm, GroupNorm and RMSNorm per head, forward and backward.
///
/// x^ = (x - mean) / sqrt(variance + eps) with the biased variance (Ba et al. 2016, arXiv 1607.06450), or
/// x^ = x / sqrt(mean(x^2) + eps) for RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467); y = x^ * weight + bias.
/// GroupNorm (Wu and He 2018, arXiv 1803.08494) does the former in each of `groups` contiguous parts of a row.
///
/// Weight and bias may be null: then y = x^. Statistics are computed again in the backward pass. d_x is overwritten,
/// d_weight and d_bias are added to; either may be null where nobody wants it. y may be the memory of x, and d_x that
/// of x or d_y. `Size`, the number of elements that are normalised together, may be given at compile time.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <cmath>

namespace mad::cpu {

/// For the sizes that are not known at compile time.
inline constexpr int any_size = 0;

namespace norm_detail {

using namespace Eigen::internal;

// What the four norms have in common: rows are cut into `parts` of `size` elements that are normalised together, and
// the parameters of a part start `parameter_step` elements after those of the part before it.
struct Sizes {
  Index rows;
  Index parts;
  Index size;
  Index parameter_step;
  double eps;
};

template <class T>
struct Statistics {
  T mean;
  T inverse;  // 1 / sqrt(variance + eps)
};

template <bool Centered, class T>
MAD_ALWAYS_INLINE inline Statistics<T> statistics(const T* x, Index size, double eps) {
  const T n = static_cast<T>(size);
  T mean = 0;
  if constexpr (Centered) mean = sum_packets<T>(size, [&](auto at, Index i) { return at.load(x + i); }) / n;
  const T square = sum_packets<T>(size, [&](auto at, Index i) {
    const auto difference = psub(at.load(x + i), at.all(mean));
    return pmul(difference, difference);
  });
  return {mean, T(1) / std::sqrt(square / n + static_cast<T>(eps))};
}

template <bool Centered, class T>
MAD_ALWAYS_INLINE inline void forward_part(const T* x, const T* weight, const T* bias, T* y, Index size, double eps) {
  const Statistics<T> s = statistics<Centered>(x, size, eps);
  for_packets<T>(size, [&](auto at, Index i) {
    auto result = pmul(psub(at.load(x + i), at.all(s.mean)), at.all(s.inverse));
    if (weight) result = pmul(result, at.load(weight + i));
    if (bias) result = padd(result, at.load(bias + i));
    at.store(y + i, result);
  });
}

// With g = d_y * weight: d_x = (g - mean(g) - x^ mean(g x^)) / sqrt(variance + eps), the middle term only if centered.
template <bool Centered, class T>
MAD_ALWAYS_INLINE inline void backward_part(const T* x, const T* weight, const T* d_y, T* d_x, T* d_weight, T* d_bias,
                                            Index size, double eps) {
  const Statistics<T> s = statistics<Centered>(x, size, eps);
  auto normal = [&](auto at, Index i) { return pmul(psub(at.load(x + i), at.all(s.mean)), at.all(s.inverse)); };
  auto gradient = [&](auto at, Index i) {
    return weight ? pmul(at.load(d_y + i), at.load(weight + i)) : at.load(d_y + i);
  };
  const T n = static_cast<T>(size);
  const T slope = sum_packets<T>(size, [&](auto at, Index i) { return pmul(gradient(at, i), normal(at, i)); }) / n;
  const T offset = Centered ? sum_packets<T>(size, gradient) / n : T(0);
  for_packets<T>(size, [&](auto at, Index i) {
    const auto x_normal = normal(at, i), d = at.load(d_y + i), g = gradient(at, i);
    if (d_weight) at.store(d_weight + i, pmadd(d, x_normal, at.load(d_weight + i)));
    if (d_bias) at.store(d_bias + i, padd(d, at.load(d_bias + i)));
    at.store(d_x + i, pmul(psub(psub(g, at.all(offset)), pmul(x_normal, at.all(slope))), at.all(s.inverse)));
  });
}

template <class T>
T* shifted(T* p, Index by) {
  return p ? p + by : nullptr;
}

template <bool Centered, int Size, class T>
void forward(const Sizes& sizes, View<const T> x, const T* weight, const T* bias, View<T> y) {
  const Index size = Size == any_size ? sizes.size : Size;
  for (Index r = 0; r < sizes.rows; ++r) {
    for (Index p = 0; p < sizes.parts; ++p) {
      const Index parameter = p * sizes.parameter_step;
      forward_part<Centered>(x.row(r) + p * size, shifted(weight, parameter), shifted(bias, parameter),
                             y.row(r) + p * size, size, sizes.eps);
    }
  }
}

template <bool Centered, int Size, class T>
void backward(const Sizes& sizes, View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight,
              T* d_bias) {
  const Index size = Size == any_size ? sizes.size : Size;
  for (Index r = 0; r < sizes.rows; ++r) {
    for (Index p = 0; p < sizes.parts; ++p) {
      const Index parameter = p * sizes.parameter_step;
      backward_part<Centered>(x.row(r) + p * size, shifted(weight, parameter), d_y.row(r) + p * size,
                              d_x.row(r) + p * size, shifted(d_weight, parameter), shifted(d_bias, parameter), size,
                              sizes.eps);
    }
  }
}

}  // namespace norm_detail

/// x, y: (rows, width); weight, bias: (width).
template <int Size = any_size, class T>
void layer_norm_forward(View<const T> x, const T* weight, const T* bias, View<T> y, Index rows, Index width,
                        double eps) {
  norm_detail::forward<true, Size>({rows, 1, width, 0, eps}, x, weight, bias, y);
}

template <int Size = any_size, class T>
void layer_norm_backward(View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight, T* d_bias,
                         Index rows, Index width, double eps) {
  norm_detail::backward<true, Size>({rows, 1, width, 0, eps}, x, weight, d_y, d_x, d_weight, d_bias);
}

/// x, y: (rows, width); weight: (width).
template <int Size = any_size, class T>
void rms_norm_forward(View<const T> x, const T* weight, View<T> y, Index rows, Index width, double eps) {
  norm_detail::forward<false, Size, T>({rows, 1, width, 0, eps}, x, weight, nullptr, y);
}

template <int Size = any_size, class T>
void rms_norm_backward(View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight, Index rows,
                       Index width, double eps) {
  norm_detail::backward<false, Size, T>({rows, 1, width, 0, eps}, x, weight, d_y, d_x, d_weight, nullptr);
}

/// x, y: (rows, width); weight, bias: (width); `groups` divides width, and a group is width / groups neighbours.
template <int Size = any_size, class T>
void group_norm_forward(View<const T> x, const T* weight, const T* bias, View<T> y, Index rows, Index width,
                        Index groups, double eps) {
  norm_detail::forward<true, Size>({rows, groups, width / groups, width / groups, eps}, x, weight, bias, y);
}

template <int Size = any_size, class T>
void group_norm_backward(View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight, T* d_bias,
                         Index rows, Index width, Index groups, double eps) {
  norm_detail::backward<true, Size>({rows, groups, width / groups, width / groups, eps}, x, weight, d_y, d_x, d_weight,
                                    d_bias);
}

/// RMSNorm of each of `groups` groups of width / groups neighbours; weight: (width).
template <int Size = any_size, class T>
void group_rms_norm_forward(View<const T> x, const T* weight, View<T> y, Index rows, Index width, Index groups,
                            double eps) {
  norm_detail::forward<false, Size, T>({rows, groups, width / groups, width / groups, eps}, x, weight, nullptr, y);
}

template <int Size = any_size, class T>
void group_rms_norm_backward(View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight, Index rows,
                             Index width, Index groups, double eps) {
  norm_detail::backward<false, Size, T>({rows, groups, width / groups, width / groups, eps}, x, weight, d_y, d_x,
                                        d_weight, nullptr);
}

/// RMSNorm of every head by itself. x, y: (rows, heads * head_dim); weight: (head_dim), shared by the heads.
template <int Size = any_size, class T>
void head_rms_norm_forward(View<const T> x, const T* weight, View<T> y, Index rows, Index heads, Index head_dim,
                           double eps) {
  norm_detail::forward<false, Size, T>({rows, heads, head_dim, 0, eps}, x, weight, nullptr, y);
}

template <int Size = any_size, class T>
void head_rms_norm_backward(View<const T> x, const T* weight, View<const T> d_y, View<T> d_x, T* d_weight, Index rows,
                            Index heads, Index head_dim, double eps) {
  norm_detail::backward<false, Size, T>({rows, heads, head_dim, 0, eps}, x, weight, d_y, d_x, d_weight, nullptr);
}

}  // namespace mad::cpu
