// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Discrete Fourier transforms of any length, many channels at once.
#pragma once

#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/fft.hpp>

#include <algorithm>

namespace mad::cpu {

/// X_k = sum_j x_j exp(-2 pi i j k / m), 0 <= j < inputs <= m, 0 <= k < outputs <= m, for any m >= 1: each lane of a
/// register is a transform of its own. By j k = (j^2 + k^2 - (k - j)^2) / 2 it is a convolution with a chirp
/// (Bluestein 1970), and that is done with transforms whose length is a power of two.
template <class T>
class ChirpTransform {
public:
  using Complex = ComplexPacket<T>;

  ChirpTransform(Index m, Index inputs, Index outputs, Workspace::Frame& frame)
      : inputs_(inputs),
        n_(std::max<Index>(4, static_cast<Index>(std::bit_ceil(static_cast<std::size_t>(inputs + outputs - 1))))),
        chirp_(frame.take<T>(2 * std::max(inputs, outputs))),
        filter_(frame.take<T>(2 * n_)),
        data_(frame.take<T>(n_ * step)) {
    // The convolution's filter and its spectrum are the same for every lane; they are computed in double.
    using L = Lanes<double>;
    constexpr Index wide = complex_packet_stride<double>;
    double* spectrum = frame.take<double>(n_ * wide);
    std::fill_n(spectrum, n_ * wide, 0.0);
    for (Index j = 0; j < std::max(inputs, outputs); ++j) {
      const double angle = std::numbers::pi * static_cast<double>(j * j % (2 * m)) / static_cast<double>(m);
      const double re = std::cos(angle), im = std::sin(angle);
      chirp_[2 * j] = static_cast<T>(re);
      chirp_[2 * j + 1] = static_cast<T>(-im);
      const ComplexPacket<double> tap{L::all(re), L::all(im)};
      if (j < outputs) tap.store(spectrum + j * wide);
      if (j > 0 && j < inputs) tap.store(spectrum + (n_ - j) * wide);
    }
    fft_forward(spectrum, n_);
    for (Index p = 0; p < n_; ++p) {
      filter_[2 * p] = static_cast<T>(spectrum[p * wide] / static_cast<double>(n_));
      filter_[2 * p + 1] = static_cast<T>(spectrum[p * wide + L::size] / static_cast<double>(n_));
    }
  }

  /// Transforms x_j = read(j), a complex packet.
  template <class Read>
  void run(const Read& read) {
    for (Index j = 0; j < inputs_; ++j) (read(j) * detail::broadcast(chirp_ + 2 * j)).store(data_ + j * step);
    std::fill(data_ + inputs_ * step, data_ + n_ * step, T(0));
    fft_forward(data_, n_);
    for (Index p = 0; p < n_; ++p)
      (Complex::load(data_ + p * step) * detail::broadcast(filter_ + 2 * p)).store(data_ + p * step);
    fft_inverse(data_, n_);
  }

  /// X_k of the last run.
  Complex operator[](Index k) const { return Complex::load(data_ + k * step) * detail::broadcast(chirp_ + 2 * k); }

private:
  static constexpr Index step = complex_packet_stride<T>;
  Index inputs_, n_;
  T *chirp_, *filter_, *data_;
};

}  // namespace mad::cpu
