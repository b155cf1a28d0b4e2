// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution with a filter as long as the sequence, and its gradients.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/cpu/call/workspace.hpp>
#include <mad/cpu/kernels/long_conv/direct.hpp>
#include <mad/cpu/kernels/long_conv/fft.hpp>

#include <numeric>
#include <string>

namespace mad::cpu {

enum class LongConvMethod {
  direct,    ///< triangular Toeplitz product: L^2/2 multiply-adds per channel
  transform  ///< Fourier transforms of at least 2L - 1 points
};

/// The cheaper method: L^2 multiply-adds against n log2 n butterflies, which cost about four times as much (measured
/// with benchmarks/long_conv_benchmark.cpp, forward plus backward, AVX2 and AVX-512). Lengths from 60 go through
/// transforms, except 65 .. 90 and 129 .. 135, which would pay for transforms of twice the length.
constexpr LongConvMethod long_conv_method(Index length) {
  const Index n = detail::conv_transform_length(length);
  const auto levels = static_cast<Index>(std::bit_width(static_cast<std::size_t>(n))) - 1;
  return length * length > 4 * n * levels ? LongConvMethod::transform : LongConvMethod::direct;
}

/// A causal convolution `y[t,c] = sum_{s<=t} h[t-s, c % F] u[s,c] + skip[c % F] u[t,c]` of `channels` C with
/// `filter_width` F filters, for sequences of `length` tokens (positions of `Shape`).
///
/// The filter is prepared once and then shared, read only, by any number of calls and threads: its spectrum, or its
/// packed taps; `skip` is folded into tap 0, since `skip u = (skip delta) * u`.
template <class T>
class LongConv {
public:
  LongConv(Index length, Index channels, Index filter_width)
      : LongConv(length, channels, filter_width, long_conv_method(length)) {}

  LongConv(Index length, Index channels, Index filter_width, LongConvMethod method)
      : length_(length), channels_(channels), filter_width_(filter_width), method_(method) {
    if (length < 1 || channels < 1 || filter_width < 1) {
      throw UsageError(message({"long convolution: sizes must be positive: length ", length, ", channels ", channels,
                                ", filter_width ", filter_width}));
    }
    // Registers of channels after which the filters repeat.
    panels_ = (channels + lanes - 1) / lanes;
    filter_panels_ = std::min(panels_, std::lcm(filter_width, lanes) / lanes);
    transform_length_ = detail::conv_transform_length(length);
    panel_size_ =
        method == LongConvMethod::direct ? length * lanes : detail::half_spectrum_size(transform_length_) * packet;
  }

  LongConvMethod method() const { return method_; }

  /// Elements of T in the prepared filter. Align it to 64 bytes: every access is a whole cache line then.
  Index prepared_size() const { return filter_panels_ * panel_size_; }

  /// `filter` (length, filter_width); `skip` (filter_width) or null; `prepared` is overwritten.
  void prepare(View<const T> filter, const T* skip, T* prepared, Workspace& workspace) const {
    if (method_ == LongConvMethod::direct) {
      for (Index p = 0; p < filter_panels_; ++p) gather_filter(filter, skip, p, prepared + p * panel_size_);
      return;
    }
    Workspace::Frame frame(workspace);
    T* taps = frame.template take<T>(2 * length_ * lanes);
    T* data = frame.template take<T>(detail::conv_buffer_size<T>(transform_length_));
    for (Index p = 0; p < filter_panels_; p += 2) {
      const bool second = p + 1 < filter_panels_;
      gather_filter(filter, skip, p, taps);
      if (second) gather_filter(filter, skip, p + 1, taps + length_ * lanes);
      T* spectrum = prepared + p * panel_size_;
      detail::conv_filter_spectra<T>({{taps, lanes}, {second ? taps + length_ * lanes : nullptr, lanes}}, length_,
                                     spectrum, second ? spectrum + panel_size_ : nullptr, data, transform_length_);
    }
  }

  /// `u` and `y` (batch x length, channels); `y` is overwritten.
  void forward(Index batch, View<const T> u, const T* prepared, View<T> y, Workspace& workspace) const {
    Workspace::Frame frame(workspace);
    if (method_ == LongConvMethod::direct) {
      T* input = frame.template take<T>(length_ * lanes);
      T* output = frame.template take<T>(length_ * lanes);
      for (Index p = 0; p < panels_; ++p) {
        const View<const T> taps{filter_panel(prepared, p), lanes};
        for (Index b = 0; b < batch; ++b) {
          gather(columns(u, b, p), count(p), input);
          detail::toeplitz_multiply<T>(length_, taps, {input, lanes}, {output, lanes});
          scatter(output, count(p), columns(y, b, p));
        }
      }
      return;
    }
    T* data = frame.template take<T>(detail::conv_buffer_size<T>(transform_length_));
    for (Index p = 0; p < panels_; ++p) {
      for (Index b = 0; b < batch; b += 2) {
        detail::conv_forward<T>(pair(u, b, batch, p), pair(y, b, batch, p), length_, count(p),
                                filter_panel(prepared, p), data, transform_length_);
      }
    }
  }

  /// Gradients: `d_u` (batch x length, channels) is overwritten; `d_filter` (length, filter_width) and `d_skip`
  /// (filter_width, or null) are added to.
  void backward(Index batch, View<const T> u, const T* prepared, View<const T> d_y, View<T> d_u, View<T> d_filter,
                T* d_skip, Workspace& workspace) const {
    Workspace::Frame frame(workspace);
    if (method_ == LongConvMethod::direct) {
      T* input = frame.template take<T>(3 * length_ * lanes);
      T* gradient = input + length_ * lanes;
      T* output = gradient + length_ * lanes;
      T* d_taps = frame.template take<T>(length_ * lanes);
      for (Index f = 0; f < filter_panels_; ++f) {
        std::fill_n(d_taps, length_ * lanes, T(0));
        for (Index p = f; p < panels_; p += filter_panels_) {
          const View<const T> taps{filter_panel(prepared, p), lanes};
          for (Index b = 0; b < batch; ++b) {
            gather(columns(u, b, p), count(p), input);
            gather(columns(d_y, b, p), count(p), gradient);
            // In reversed time both gradients are causal convolutions with the output gradient.
            const View<const T> reversed_gradient = detail::reversed(View<const T>{gradient, lanes}, length_);
            detail::toeplitz_multiply<T>(length_, taps, reversed_gradient, {output, lanes});
            scatter(output, count(p), detail::reversed(columns(d_u, b, p), length_));
            detail::toeplitz_multiply<T>(length_, {input, lanes}, reversed_gradient, {output, lanes});
            for (Index k = 0; k < length_; ++k) {
              T* sum = d_taps + (length_ - 1 - k) * lanes;
              Lanes<T>::store(sum, Lanes<T>::add(Lanes<T>::load(sum), Lanes<T>::load(output + k * lanes)));
            }
          }
        }
        scatter_filter_gradient(d_taps, f, d_filter, d_skip);
      }
      return;
    }
    T* data = frame.template take<T>(2 * detail::conv_buffer_size<T>(transform_length_));
    T* d_spectrum = frame.template take<T>(2 * panel_size_);
    T* d_taps = frame.template take<T>(2 * length_ * lanes);
    for (Index first = 0; first < filter_panels_; first += 2) {
      const Index last = std::min(first + 2, filter_panels_);
      std::fill_n(d_spectrum, (last - first) * panel_size_, T(0));
      for (Index f = first; f < last; ++f) {
        for (Index p = f; p < panels_; p += filter_panels_) {
          for (Index b = 0; b < batch; b += 2) {
            detail::conv_backward<T>(pair(u, b, batch, p), pair(d_y, b, batch, p), pair(d_u, b, batch, p), length_,
                                     count(p), filter_panel(prepared, p), d_spectrum + (f - first) * panel_size_, data,
                                     transform_length_);
          }
        }
      }
      const bool second = last - first == 2;
      detail::conv_filter_gradients<T>(d_spectrum, second ? d_spectrum + panel_size_ : nullptr,
                                       {{d_taps, lanes}, {second ? d_taps + length_ * lanes : nullptr, lanes}}, length_,
                                       data, transform_length_);
      for (Index f = first; f < last; ++f) {
        scatter_filter_gradient(d_taps + (f - first) * length_ * lanes, f, d_filter, d_skip);
      }
    }
  }

private:
  static constexpr Index lanes = Lanes<T>::size;
  static constexpr Index packet = complex_packet_stride<T>;

  Index count(Index panel) const { return std::min(lanes, channels_ - panel * lanes); }
  const T* filter_panel(const T* prepared, Index panel) const {
    return prepared + panel % filter_panels_ * panel_size_;
  }

  template <class U>
  View<U> columns(View<U> x, Index sequence, Index panel) const {
    return x.rows_from(sequence * length_).columns_from(panel * lanes);
  }
  template <class U>
  detail::SequencePair<U> pair(View<U> x, Index sequence, Index batch, Index panel) const {
    const View<U> absent{nullptr, 0};
    return {columns(x, sequence, panel), sequence + 1 < batch ? columns(x, sequence + 1, panel) : absent};
  }

  /// Column of the filter under a lane of a filter panel. Lanes beyond the last channel meet inputs that are zero.
  Index filter_column(Index panel, Index lane) const { return (panel * lanes + lane) % filter_width_; }

  void gather(View<const T> x, Index count, T* packed) const {
    for (Index t = 0; t < length_; ++t) Lanes<T>::store(packed + t * lanes, Lanes<T>::load(x.row(t), count));
  }
  void scatter(const T* packed, Index count, View<T> y) const {
    for (Index t = 0; t < length_; ++t) Lanes<T>::store(y.row(t), Lanes<T>::load(packed + t * lanes), count);
  }

  /// The columns of a filter panel lie side by side, unless the filters repeat within a register.
  bool contiguous(Index panel) const { return filter_column(panel, 0) + lanes <= filter_width_; }

  void gather_filter(View<const T> filter, const T* skip, Index panel, T* taps) const {
    if (contiguous(panel)) {
      gather(filter.columns_from(filter_column(panel, 0)), lanes, taps);
    } else {
      for (Index i = 0; i < lanes; ++i) {
        const T* column = filter.data + filter_column(panel, i);
        for (Index k = 0; k < length_; ++k) taps[k * lanes + i] = column[k * filter.stride];
      }
    }
    if (!skip) return;
    for (Index i = 0; i < lanes; ++i) taps[i] += skip[filter_column(panel, i)];
  }
  void scatter_filter_gradient(const T* d_taps, Index panel, View<T> d_filter, T* d_skip) const {
    if (contiguous(panel)) {
      const View<T> columns = d_filter.columns_from(filter_column(panel, 0));
      for (Index k = 0; k < length_; ++k) {
        Lanes<T>::store(columns.row(k),
                        Lanes<T>::add(Lanes<T>::load(columns.row(k)), Lanes<T>::load(d_taps + k * lanes)));
      }
    } else {
      for (Index i = 0; i < lanes; ++i) {
        T* column = d_filter.data + filter_column(panel, i);
        for (Index k = 0; k < length_; ++k) column[k * d_filter.stride] += d_taps[k * lanes + i];
      }
    }
    if (!d_skip) return;
    for (Index i = 0; i < lanes; ++i) d_skip[filter_column(panel, i)] += d_taps[i];
  }

  Index length_, channels_, filter_width_;
  LongConvMethod method_;
  Index panels_, filter_panels_, transform_length_, panel_size_;
};

}  // namespace mad::cpu
