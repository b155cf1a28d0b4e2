// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Feature maps of linear attention that multiply channels of a head with each other, and their gradients.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <cmath>

namespace mad::cpu {

namespace feature_map_detail {

inline constexpr int dpfp_shifts = 4;

/// r = [relu(x), -relu(x)] of every head, \p ring + dpfp_shifts on, and before it once more the elements that r ends
/// with, so that r_{i-j} with any j up to dpfp_shifts is an element to the left. Rings lie `2 Width + dpfp_shifts`
/// apart.
///
/// All heads come first and are read later: reading at once across what was just written stalls.
template <Index Width, class T>
void fill_rings(Index heads, const T* x, T* ring) {
  using namespace Eigen::internal;
  constexpr Index twice = 2 * Width;
  for (Index h = 0; h < heads; ++h, x += Width, ring += twice + dpfp_shifts) {
    T* r = ring + dpfp_shifts;
    for_packets<T>(Width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
      const auto positive = pmax(at.load(x + i), at.all(T(0)));
      at.store(r + i, positive);
      at.store(r + Width + i, pnegate(positive));
    });
    for (Index k = 1; k <= dpfp_shifts; ++k) r[-k] = r[twice - 1 - (k - 1) % twice];
  }
}

/// Factors of the linear, square and mixed terms.
template <class T>
struct TaylorFactors {
  explicit TaylorFactors(Index width)
      : linear(static_cast<T>(1 / std::sqrt(std::sqrt(static_cast<double>(width))))),
        square(static_cast<T>(1 / std::sqrt(2 * static_cast<double>(width)))),
        mixed(static_cast<T>(1 / std::sqrt(static_cast<double>(width)))) {}
  T linear, square, mixed;
};

}  // namespace feature_map_detail

/// Per head of `Width` channels: y_{j,i} = r_i r_{(i-j) mod 2 Width} for j = 1..4, r = [relu(x), -relu(x)]; x (rows,
/// heads * Width), y (rows, heads * 8 Width).
template <Index Width, class T>
void dpfp_forward(Index rows, Index heads, View<const T> x, View<T> y, Workspace& workspace) {
  using namespace Eigen::internal;
  using namespace feature_map_detail;
  constexpr Index twice = 2 * Width, ring_size = twice + dpfp_shifts;
  Workspace::Frame frame(workspace);
  T* rings = frame.take<T>(heads * ring_size);
  for (Index row = 0; row < rows; ++row) {
    fill_rings<Width>(heads, x.row(row), rings);
    T* to = y.row(row);
    for (Index h = 0; h < heads; ++h) {
      const T* r = rings + h * ring_size + dpfp_shifts;
      for (Index j = 1; j <= dpfp_shifts; ++j, to += twice)
        for_packets<T>(twice, [&](auto at, Index i)
                                  MAD_ALWAYS_INLINE { at.store(to + i, pmul(at.load(r + i), at.load(r + i - j))); });
    }
  }
}

/// Gradient of `dpfp_forward`; d_y (rows, heads * 8 Width), x and d_x (rows, heads * Width), d_x overwritten.
template <Index Width, class T>
void dpfp_backward(Index rows, Index heads, View<const T> d_y, View<const T> x, View<T> d_x, Workspace& workspace) {
  using namespace Eigen::internal;
  using namespace feature_map_detail;
  constexpr Index twice = 2 * Width, ring_size = twice + dpfp_shifts;
  Workspace::Frame frame(workspace);
  T* rings = frame.take<T>(heads * ring_size);
  T* products = frame.take<T>(heads * dpfp_shifts * ring_size);  // d_y_{j,i} r_i, and the first of them once more
  T* d_r = frame.take<T>(twice);
  for (Index row = 0; row < rows; ++row) {
    fill_rings<Width>(heads, x.row(row), rings);
    const T* gradient = d_y.row(row);
    T* product = products;
    for (Index h = 0; h < heads; ++h) {
      const T* r = rings + h * ring_size + dpfp_shifts;
      for (Index j = 1; j <= dpfp_shifts; ++j, gradient += twice, product += ring_size) {
        for_packets<T>(twice, [&](auto at, Index i) MAD_ALWAYS_INLINE {
          at.store(product + i, pmul(at.load(gradient + i), at.load(r + i)));
        });
        for (Index k = 0; k < dpfp_shifts; ++k) product[twice + k] = product[k % twice];
      }
    }
    for (Index h = 0; h < heads; ++h) {
      const T* r = rings + h * ring_size + dpfp_shifts;
      const T* from = d_y.row(row) + h * dpfp_shifts * twice;
      const T* ahead = products + h * dpfp_shifts * ring_size;
      for_packets<T>(twice, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        auto sum = at.all(T(0));
        MAD_UNROLL
        for (int k = 0; k < dpfp_shifts; ++k) {
          const Index j = k + 1;
          sum = pmadd(at.load(from + k * twice + i), at.load(r + i - j), sum);
          sum = padd(sum, at.load(ahead + k * ring_size + i + j));
        }
        at.store(d_r + i, sum);
      });
      const T* input = x.row(row) + h * Width;
      T* to = d_x.row(row) + h * Width;
      for_packets<T>(Width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        const auto change = psub(at.load(d_r + i), at.load(d_r + Width + i));
        at.store(to + i, pand(pcmp_lt(at.all(T(0)), at.load(input + i)), change));
      });
    }
  }
}

/// Per head of `Width` channels: [1, x_i / d^(1/4), x_i^2 / sqrt(2 d), x_i x_j / sqrt(d) for i < j row by row], d =
/// `Width`; x (rows, heads * d), y (rows, heads * (1 + 2 d + d (d-1)/2)).
template <Index Width, class T>
void taylor_forward(Index rows, Index heads, View<const T> x, View<T> y) {
  using namespace Eigen::internal;
  constexpr Index features = 1 + 2 * Width + Width * (Width - 1) / 2;
  const feature_map_detail::TaylorFactors<T> factor(Width);
  for (Index row = 0; row < rows; ++row) {
    for (Index h = 0; h < heads; ++h) {
      const T* from = x.row(row) + h * Width;
      T* to = y.row(row) + h * features;
      *to++ = T(1);
      for_packets<T>(Width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        const auto value = at.load(from + i);
        at.store(to + i, pmul(value, at.all(factor.linear)));
        at.store(to + Width + i, pmul(pmul(value, value), at.all(factor.square)));
      });
      to += 2 * Width;
      for (Index i = 0; i + 1 < Width; ++i) {
        const T left = from[i] * factor.mixed;
        const Index rest = Width - 1 - i;
        for_packets<T>(rest, [&](auto at, Index j) MAD_ALWAYS_INLINE {
          at.store(to + j, pmul(at.all(left), at.load(from + i + 1 + j)));
        });
        to += rest;
      }
    }
  }
}

/// Gradient of `taylor_forward`; d_y (rows, heads * (1 + 2 d + d (d-1)/2)), x and d_x (rows, heads * d), d_x
/// overwritten.
template <Index Width, class T>
void taylor_backward(Index rows, Index heads, View<const T> d_y, View<const T> x, View<T> d_x) {
  using namespace Eigen::internal;
  constexpr Index features = 1 + 2 * Width + Width * (Width - 1) / 2;
  const feature_map_detail::TaylorFactors<T> factor(Width);
  for (Index row = 0; row < rows; ++row) {
    for (Index h = 0; h < heads; ++h) {
      const T* input = x.row(row) + h * Width;
      const T* gradient = d_y.row(row) + h * features + 1;
      T* to = d_x.row(row) + h * Width;
      for_packets<T>(Width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
        const auto square = pmul(pmul(at.load(gradient + Width + i), at.load(input + i)), at.all(2 * factor.square));
        at.store(to + i, pmadd(at.load(gradient + i), at.all(factor.linear), square));
      });
      gradient += 2 * Width;
      for (Index i = 0; i + 1 < Width; ++i) {
        const T left = input[i] * factor.mixed;
        const Index rest = Width - 1 - i;
        to[i] += factor.mixed * sum_packets<T>(rest, [&](auto at, Index j) MAD_ALWAYS_INLINE {
                   const auto change = at.load(gradient + j);
                   T* right = to + i + 1 + j;
                   at.store(right, pmadd(at.all(left), change, at.load(right)));
                   return pmul(change, at.load(input + i + 1 + j));
                 });
        gradient += rest;
      }
    }
  }
}

}  // namespace mad::cpu
