// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask as long convolutions of outer products, by Fourier transforms.
///
/// y_t = q_t (h conv k^T v)_t: every product k_i v_j of a head is a channel that is convolved with the head's filter. A
/// register holds the products of one k_i with neighbouring v_j; those of k_i and k_{i+1} are one complex sequence.
#pragma once

#include <mad/cpu/kernels/long_conv/fft.hpp>
#include <mad/cpu/kernels/toeplitz_attention/direct.hpp>

namespace mad::cpu {

namespace toeplitz_detail {

/// A head's filter and what belongs to it, in the form that the transforms want.
template <class T>
class FilterSpectrum {
public:
  using L = Lanes<T>;

  FilterSpectrum(Index length, Workspace::Frame& frame)
      : length_(length),
        n_(detail::conv_transform_length(length)),
        size_(detail::half_spectrum_size(n_) * complex_packet_stride<T>),
        taps_(frame.take<T>(length * L::size)),
        spectrum_(frame.take<T>(size_)),
        data_(frame.take<T>(2 * detail::conv_buffer_size<T>(n_))) {}

  /// Transforms column `head` of the filter, `skip` added at distance 0. All lanes hold the same filter.
  void prepare(View<const T> filter, Index head, T skip) {
    for (Index j = 0; j < length_; ++j) L::store(taps_ + j * L::size, L::all(filter.row(j)[head] + (j ? T(0) : skip)));
    detail::conv_filter_spectra<T>({{taps_, L::size}, {nullptr, 0}}, length_, spectrum_, nullptr, data_, n_);
  }

  /// y = filter conv x; y and x may be the same memory.
  void convolve(detail::SequencePair<const T> x, detail::SequencePair<T> y) const {
    detail::conv_forward<T>(x, y, length_, L::size, spectrum_, data_, n_);
  }

  Index gradient_size() const { return size_; }
  /// d_x = filter correlated with d_y (may be the same memory); gathers the filter's gradient in `d_spectrum`.
  void correlate(detail::SequencePair<const T> x, detail::SequencePair<const T> d_y, detail::SequencePair<T> d_x,
                 T* d_spectrum) const {
    detail::conv_backward<T>(x, d_y, d_x, length_, L::size, spectrum_, d_spectrum, data_, n_);
  }

  /// Adds what was gathered to column `head` of the filter's gradient, and its first tap to the skip's.
  void scatter(const T* d_spectrum, Index head, View<T> d_filter, T* d_skip) const {
    detail::conv_filter_gradients<T>(d_spectrum, nullptr, {{taps_, L::size}, {nullptr, 0}}, length_, data_, n_);
    for (Index j = 0; j < length_; ++j) d_filter.row(j)[head] += L::sum(L::load(taps_ + j * L::size));
    d_skip[head] += L::sum(L::load(taps_));
  }

private:
  Index length_, n_, size_;
  T *taps_, *spectrum_, *data_;
};

/// Rows of a pair of sequences, a register wide each; the second may be absent.
template <class T>
struct PairRows {
  T* a;
  T* b;
  detail::SequencePair<T> pair() const { return {{a, Lanes<T>::size}, {b, b ? Lanes<T>::size : 0}}; }
  detail::SequencePair<const T> read() const { return {{a, Lanes<T>::size}, {b, b ? Lanes<T>::size : 0}}; }
};

/// Rows of products of `left`'s elements (column i for `to.a`, i + 1 for `to.b`) with a register of `right`'s columns.
template <class T>
void outer_products(Index length, View<const T> left, View<const T> right, Index count, PairRows<T> to) {
  using L = Lanes<T>;
  for (Index t = 0; t < length; ++t) {
    const typename L::Packet row = L::load(right.row(t), count);
    L::store(to.a + t * L::size, L::mul(L::all(left.row(t)[0]), row));
    if (to.b) L::store(to.b + t * L::size, L::mul(L::all(left.row(t)[1]), row));
  }
}

/// right[t] += sum over the pair of left[t] products[t], a register of columns.
template <class T>
void contract_left(Index length, PairRows<T> products, View<const T> left, Index count, View<T> right) {
  using L = Lanes<T>;
  for (Index t = 0; t < length; ++t) {
    typename L::Packet sum = L::load(right.row(t), count);
    sum = L::mul_add(L::load(products.a + t * L::size), L::all(left.row(t)[0]), sum);
    if (products.b) sum = L::mul_add(L::load(products.b + t * L::size), L::all(left.row(t)[1]), sum);
    L::store(right.row(t), sum, count);
  }
}

/// left[t] += inner product of products[t] with a register of right[t]'s columns, for both of the pair.
template <class T>
void contract_right(Index length, PairRows<T> products, View<const T> right, Index count, View<T> left) {
  using L = Lanes<T>;
  for (Index t = 0; t < length; ++t) {
    const typename L::Packet row = L::load(right.row(t), count);
    left.row(t)[0] += L::sum(L::mul(L::load(products.a + t * L::size), row));
    if (products.b) left.row(t)[1] += L::sum(L::mul(L::load(products.b + t * L::size), row));
  }
}

template <class T>
void clear_columns(Index length, Index width, View<T> x) {
  for (Index t = 0; t < length; ++t) std::fill_n(x.row(t), width, T(0));
}

}  // namespace toeplitz_detail

/// The same as `toeplitz_attention_direct`, in head_width^2 convolutions per head. Their transforms mix roundings over
/// the sequence: a later token changes an earlier output by roundings.
template <class T>
void toeplitz_attention_transform(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                                  const ToeplitzAttentionOperands<T>& in, View<T> y, Workspace& workspace) {
  using namespace toeplitz_detail;
  constexpr Index lanes = Lanes<T>::size;
  const Index length = shape.length, width = sizes.head_width;
  Workspace::Frame frame(workspace);
  FilterSpectrum<T> filter(length, frame);
  T* rows = frame.take<T>(2 * length * lanes);

  for (Index h = 0; h < sizes.heads; ++h) {
    filter.prepare(in.filter, h, in.skip[h]);
    for (Index b = 0; b < shape.batch; ++b) {
      const auto head_of = [&](auto x) { return x.rows_from(b * length).columns_from(h * width); };
      const View<const T> q = head_of(in.q), k = head_of(in.k), v = head_of(in.v);
      const View<T> out = head_of(y);
      clear_columns(length, width, out);
      for (Index j = 0; j < width; j += lanes) {
        const Index count = std::min(lanes, width - j);
        for (Index i = 0; i < width; i += 2) {
          const PairRows<T> state{rows, i + 1 < width ? rows + length * lanes : nullptr};
          outer_products<T>(length, k.columns_from(i), v.columns_from(j), count, state);
          filter.convolve(state.read(), state.pair());
          contract_left<T>(length, state, q.columns_from(i), count, out.columns_from(j));
        }
      }
    }
  }
}

/// Gradients of `toeplitz_attention_transform`.
template <class T>
void toeplitz_attention_transform_backward(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                                           const ToeplitzAttentionOperands<T>& in, View<const T> d_y,
                                           const ToeplitzAttentionGradients<T>& out, Workspace& workspace) {
  using namespace toeplitz_detail;
  constexpr Index lanes = Lanes<T>::size;
  const Index length = shape.length, width = sizes.head_width;
  Workspace::Frame frame(workspace);
  FilterSpectrum<T> filter(length, frame);
  T* d_spectrum = frame.take<T>(filter.gradient_size());
  T* rows = frame.take<T>(4 * length * lanes);

  for (Index h = 0; h < sizes.heads; ++h) {
    filter.prepare(in.filter, h, in.skip[h]);
    std::fill_n(d_spectrum, filter.gradient_size(), T(0));
    for (Index b = 0; b < shape.batch; ++b) {
      const auto head_of = [&](auto x) { return x.rows_from(b * length).columns_from(h * width); };
      const View<const T> q = head_of(in.q), k = head_of(in.k), v = head_of(in.v), d_out = head_of(d_y);
      const View<T> dq = head_of(out.q), dk = head_of(out.k), dv = head_of(out.v);
      clear_columns(length, width, dq);
      clear_columns(length, width, dk);
      clear_columns(length, width, dv);
      for (Index j = 0; j < width; j += lanes) {
        const Index count = std::min(lanes, width - j);
        for (Index i = 0; i < width; i += 2) {
          const bool two = i + 1 < width;
          const PairRows<T> state{rows, two ? rows + length * lanes : nullptr};
          const PairRows<T> d_state{rows + 2 * length * lanes, two ? rows + 3 * length * lanes : nullptr};
          // The state is z = k^T v before the convolution: dz = filter correlated with q^T dy.
          outer_products<T>(length, k.columns_from(i), v.columns_from(j), count, state);
          outer_products<T>(length, q.columns_from(i), d_out.columns_from(j), count, d_state);
          filter.correlate(state.read(), d_state.read(), d_state.pair(), d_spectrum);
          contract_left<T>(length, d_state, k.columns_from(i), count, dv.columns_from(j));
          contract_right<T>(length, d_state, v.columns_from(j), count, dk.columns_from(i));
          filter.convolve(state.read(), state.pair());
          contract_right<T>(length, state, d_out.columns_from(j), count, dq.columns_from(i));
        }
      }
    }
    filter.scatter(d_spectrum, h, out.filter, out.skip);
  }
}

}  // namespace mad::cpu
