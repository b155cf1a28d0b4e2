// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Filters by their rational transfer functions, and the gradients of the coefficients.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/chirp_transform.hpp>
#include <mad/cpu/kernels/matrix_product.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mad::cpu {

/// Sizes of rational filters.
struct RationalFilterSizes {
  Index channels = 1;      ///< C
  Index denominators = 1;  ///< A, divides C; channel c has denominator floor(c A / C)
  Index states = 1;        ///< N, coefficients of a numerator and of a denominator
  Index points = 2;        ///< M, the even number of points modulo which the impulse responses are folded
};

/// The number of points for filters on a grid of `max_length` positions.
constexpr Index rational_filter_points(Index max_length) { return max_length + max_length % 2; }

namespace rational_detail {

/// What the filters and their gradients share: the transfer functions at the frequencies 0 .. M/2. (The filters are
/// real, the other frequencies are conjugates.)
template <class T>
class TransferFunctions {
public:
  TransferFunctions(const RationalFilterSizes& sizes, const T* ab, Workspace::Frame& frame, Workspace& workspace)
      : sizes_(sizes),
        cosines_(frame.take<T>(frequencies() * sizes.states)),
        sines_(frame.take<T>(frequencies() * sizes.states)),
        re_(frame.take<T>(frequencies() * width())),
        im_(frame.take<T>(frequencies() * width())),
        inverse_re_(frame.take<T>(frequencies() * sizes.channels)),
        inverse_im_(frame.take<T>(frequencies() * sizes.channels)) {
    fill_tables(frame.take<T>(2 * sizes.points));
    // sum_j x_j exp(-2 pi i j k / M), j = 1 .. N, of all rows of ab
    const Strided<T> coefficients{ab, 1, sizes.states};
    matrix_product<T>(frequencies(), width(), sizes.states, {cosines_, sizes.states, 1}, coefficients, {re_, width()},
                      Start::zero, nullptr, workspace);
    matrix_product<T>(frequencies(), width(), sizes.states, {sines_, sizes.states, 1}, coefficients, {im_, width()},
                      Start::zero, nullptr, workspace);
    for (Index k = 0; k < frequencies(); ++k) divide(k);
  }

  Index frequencies() const { return sizes_.points / 2 + 1; }
  /// B / A at frequency k, per channel.
  const T* re(Index k) const { return re_ + k * width() + sizes_.denominators; }
  const T* im(Index k) const { return im_ + k * width() + sizes_.denominators; }
  /// 1 / A at frequency k, per channel.
  const T* inverse_re(Index k) const { return inverse_re_ + k * sizes_.channels; }
  const T* inverse_im(Index k) const { return inverse_im_ + k * sizes_.channels; }

  /// d_ab[row, j] += sum_k Re(z[k, row] exp(2 pi i j k / M)) over the frequencies 0 .. M/2.
  void add_transposed(const T* re, const T* im, T* d_ab, Workspace& workspace) const {
    const View<T> out{d_ab, sizes_.states};
    matrix_product<T>(width(), sizes_.states, frequencies(), {re, 1, width()}, {cosines_, sizes_.states, 1}, out,
                      Start::present, nullptr, workspace);
    matrix_product<T>(width(), sizes_.states, frequencies(), {im, 1, width()}, {sines_, sizes_.states, 1}, out,
                      Start::present, nullptr, workspace);
  }

  Index width() const { return sizes_.denominators + sizes_.channels; }

private:
  /// Rows of frequencies, columns of coefficients: cos(2 pi j k / M), and minus the sine.
  void fill_tables(T* circle) {
    for (Index i = 0; i < sizes_.points; ++i) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(sizes_.points);
      circle[2 * i] = static_cast<T>(std::cos(angle));
      circle[2 * i + 1] = static_cast<T>(-std::sin(angle));
    }
    for (Index k = 0; k < frequencies(); ++k)
      for (Index j = 1; j <= sizes_.states; ++j) {
        const Index i = j * k % sizes_.points;
        cosines_[k * sizes_.states + j - 1] = circle[2 * i];
        sines_[k * sizes_.states + j - 1] = circle[2 * i + 1];
      }
  }

  /// Replaces the numerators at frequency k by the quotients; keeps the reciprocals of the denominators.
  void divide(Index k) {
    using namespace Eigen::internal;
    T *a_re = re_ + k * width(), *a_im = im_ + k * width();
    for_packets<T>(sizes_.denominators, [&](auto at, Index g) MAD_ALWAYS_INLINE {
      const auto x = padd(at.all(T(1)), at.load(a_re + g)), y = at.load(a_im + g);
      const auto scale = pdiv(at.all(T(1)), pmadd(x, x, pmul(y, y)));
      at.store(a_re + g, pmul(x, scale));
      at.store(a_im + g, pmul(pnegate(y), scale));
    });
    T *to_re = inverse_re_ + k * sizes_.channels, *to_im = inverse_im_ + k * sizes_.channels;
    const Index share = sizes_.channels / sizes_.denominators;
    if (share == 1) {
      std::copy_n(a_re, sizes_.channels, to_re);
      std::copy_n(a_im, sizes_.channels, to_im);
    } else {
      for (Index g = 0; g < sizes_.denominators; ++g) {
        std::fill_n(to_re + g * share, share, a_re[g]);
        std::fill_n(to_im + g * share, share, a_im[g]);
      }
    }
    T *b_re = a_re + sizes_.denominators, *b_im = a_im + sizes_.denominators;
    for_packets<T>(sizes_.channels, [&](auto at, Index c) MAD_ALWAYS_INLINE {
      const auto x = at.load(b_re + c), y = at.load(b_im + c), u = at.load(to_re + c), v = at.load(to_im + c);
      at.store(b_re + c, psub(pmul(x, u), pmul(y, v)));
      at.store(b_im + c, pmadd(x, v, pmul(y, u)));
    });
  }

  RationalFilterSizes sizes_;
  T *cosines_, *sines_, *re_, *im_, *inverse_re_, *inverse_im_;
};

/// Channels of two registers that share one complex transform: those of `a` are the real part, those of `b`, if there
/// are any, the imaginary part.
struct RegisterPair {
  Index a, a_count, b, b_count;
};

template <class T, class Body>
void for_register_pairs(Index channels, const Body& body) {
  constexpr Index lanes = Lanes<T>::size;
  for (Index c = 0; c < channels; c += 2 * lanes)
    body(RegisterPair{c, std::min(lanes, channels - c), c + lanes, std::clamp<Index>(channels - c - lanes, 0, lanes)});
}

template <class T>
MAD_ALWAYS_INLINE inline typename Lanes<T>::Packet load_or_zero(const T* row, Index first, Index count) {
  return count > 0 ? Lanes<T>::load(row + first, count) : Lanes<T>::zero();
}

}  // namespace rational_detail

/// h (length, C): the first `length` <= M samples of the inverse transform of B / A + h_0, overwritten. `ab`
/// (A + C, N): denominators, then numerators; `h_0` (C). Coefficients at and beyond M wrap around as well.
template <class T>
void rational_filter_forward(Index length, const RationalFilterSizes& sizes, const T* ab, const T* h_0, View<T> h,
                             Workspace& workspace) {
  using namespace rational_detail;
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  const Index M = sizes.points;
  Workspace::Frame frame(workspace);
  const TransferFunctions<T> K(sizes, ab, frame, workspace);
  ChirpTransform<T> transform(M, M, length, frame);
  const typename L::Packet scale = L::all(static_cast<T>(1 / static_cast<double>(M)));
  const typename L::Packet minus_scale = L::sub(L::zero(), scale);

  for_register_pairs<T>(sizes.channels, [&](const RegisterPair& at) {
    // The inverse transform of Z = K_a + i K_b is the conjugate of the transform of conj(Z), over M.
    transform.run([&](Index j) MAD_ALWAYS_INLINE {
      const bool mirrored = j > M / 2;
      const Index k = mirrored ? M - j : j;
      const Complex a{load_or_zero(K.re(k), at.a, at.a_count), load_or_zero(K.im(k), at.a, at.a_count)};
      const Complex b{load_or_zero(K.re(k), at.b, at.b_count), load_or_zero(K.im(k), at.b, at.b_count)};
      if (mirrored) return Complex{L::add(a.re, b.im), L::sub(a.im, b.re)};
      return Complex{L::sub(a.re, b.im), L::sub(L::zero(), L::add(a.im, b.re))};
    });
    for (Index t = 0; t < length; ++t) {
      const Complex z = transform[t];
      L::store(h.row(t) + at.a, L::mul(z.re, scale), at.a_count);
      if (at.b_count > 0) L::store(h.row(t) + at.b, L::mul(z.im, minus_scale), at.b_count);
    }
  });
  for (Index c = 0; c < sizes.channels; ++c) h.row(0)[c] += h_0[c];
}

/// Gradients of `rational_filter_forward` from that of h: added to d_ab (A + C, N) and d_h_0 (C).
template <class T>
void rational_filter_backward(Index length, const RationalFilterSizes& sizes, const T* ab, View<const T> d_h, T* d_ab,
                              T* d_h_0, Workspace& workspace) {
  using namespace rational_detail;
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  const Index M = sizes.points, A = sizes.denominators, share = sizes.channels / A;
  Workspace::Frame frame(workspace);
  const TransferFunctions<T> K(sizes, ab, frame, workspace);
  ChirpTransform<T> transform(M, length, M, frame);
  // The conjugates of P = conj(G) / A, per channel, behind those of -P B / A, per denominator; all times 1/M, or 2/M
  // where the conjugate frequency counts too.
  T* re = frame.take<T>(K.frequencies() * K.width());
  T* im = frame.take<T>(K.frequencies() * K.width());

  for_register_pairs<T>(sizes.channels, [&](const RegisterPair& at) {
    transform.run([&](Index t) MAD_ALWAYS_INLINE {
      return Complex{load_or_zero(d_h.row(t), at.a, at.a_count), load_or_zero(d_h.row(t), at.b, at.b_count)};
    });
    for (Index k = 0; k < K.frequencies(); ++k) {
      const bool single = k == 0 || k == M / 2;
      const typename L::Packet weight = L::all(static_cast<T>((single ? 0.5 : 1) / static_cast<double>(M)));
      const Complex x = transform[k], y = transform[k == 0 ? 0 : M - k];
      // x = G_a + i G_b and conj(y) = G_a - i G_b: twice the conjugates.
      const Complex a{L::add(x.re, y.re), L::sub(y.im, x.im)};
      const Complex b{L::add(x.im, y.im), L::sub(x.re, y.re)};
      const auto put = [&](const Complex& conjugate, Index first, Index count) {
        if (count == 0) return;
        const Complex inverse{L::load(K.inverse_re(k) + first, count), L::load(K.inverse_im(k) + first, count)};
        const Complex p = conjugate * inverse;
        L::store(re + k * K.width() + A + first, L::mul(p.re, weight), count);
        L::store(im + k * K.width() + A + first, L::mul(p.im, L::sub(L::zero(), weight)), count);
      };
      put(a, at.a, at.a_count);
      put(b, at.b, at.b_count);
    }
  });

  using namespace Eigen::internal;
  T* product_re = frame.take<T>(sizes.channels);
  T* product_im = frame.take<T>(sizes.channels);
  for (Index k = 0; k < K.frequencies(); ++k) {
    T *row_re = re + k * K.width(), *row_im = im + k * K.width();
    for_packets<T>(sizes.channels, [&](auto at, Index c) MAD_ALWAYS_INLINE {
      const auto x = at.load(row_re + A + c), y = at.load(row_im + A + c);
      const auto u = at.load(K.re(k) + c), v = at.load(K.im(k) + c);
      at.store(product_re + c, psub(pmul(pnegate(x), u), pmul(y, v)));
      at.store(product_im + c, psub(pmul(x, v), pmul(y, u)));
    });
    for (Index g = 0; g < A; ++g) {
      row_re[g] = sum_packets<T>(share, [&](auto at, Index c) { return at.load(product_re + g * share + c); });
      row_im[g] = sum_packets<T>(share, [&](auto at, Index c) { return at.load(product_im + g * share + c); });
    }
  }
  K.add_transposed(re, im, d_ab, workspace);
  for (Index c = 0; c < sizes.channels; ++c) d_h_0[c] += d_h.row(0)[c];
}

}  // namespace mad::cpu
