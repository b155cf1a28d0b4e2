// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Causal convolution by Fourier transforms, one register of channels at a time.
///
/// Two real sequences `a`, `b` that share a filter travel as one complex sequence `a + i b`: the filter is real, so the
/// result is `conv(a) + i conv(b)`. For the filter's gradient the real part of the correlation of two such sequences is
/// the sum of both correlations. The spectrum of a real filter is Hermitian, `H[-k] = conj(H[k])`; in bit-reversed
/// order frequency `-k` lies at `3 2^j - 1 - p` for `2^j <= p < 2^(j+1)`, so whole blocks mirror each other and one of
/// each pair is stored.
#pragma once

#include <mad/core/view.hpp>
#include <mad/cpu/kernels/fft.hpp>

#include <algorithm>

namespace mad::cpu::detail {

/// Length of the transforms for sequences of `length` tokens: nothing wraps around.
constexpr Index conv_transform_length(Index length) {
  const auto needed = std::bit_ceil(static_cast<std::size_t>(2 * length - 1));
  return std::max<Index>(64, static_cast<Index>(needed));
}

/// Complex packets stored of a Hermitian spectrum of length `n` in blocks of `leaf` elements.
constexpr Index half_spectrum_size(Index n) { return n / 2 + fft_leaf_size(n); }

/// Where block `block` of a Hermitian spectrum is stored.
struct HermitianBlock {
  Index stored;   ///< stored block
  bool mirrored;  ///< the stored block is this one's conjugate, in reverse order
};

constexpr HermitianBlock hermitian_block(Index block) {
  if (block < 2) return {block, false};
  const Index octave = static_cast<Index>(std::bit_floor(static_cast<std::size_t>(block)));
  const bool mirrored = block >= octave + octave / 2;
  const Index canonical = mirrored ? 3 * octave - 1 - block : block;
  return {octave / 2 + canonical - octave + 1, mirrored};
}

/// Position of the conjugate frequency of position `p`.
constexpr Index mirrored_position(Index p) {
  return p == 0 ? 0 : 3 * static_cast<Index>(std::bit_floor(static_cast<std::size_t>(p))) - 1 - p;
}

/// Where element `p` of a transform of length `n` lies: the sixteenths that the outer passes run through side by side
/// are one element longer than needed, or else all of them would compete for the same few lines of the cache.
constexpr Index conv_offset(Index p, Index n) { return p + p / (n / 16); }

/// Elements of T that a transform of length `n` takes.
template <class T>
constexpr Index conv_buffer_size(Index n) {
  return (n + 16) * complex_packet_stride<T>;
}

/// Rows lie far apart in memory, where no hardware prefetcher follows: ask for them this many rows ahead.
inline constexpr Index conv_prefetch_rows = 4;

/// Two sequences of one register of channels, `count` of them real; `b` may be absent (null).
template <class T>
struct SequencePair {
  View<T> a, b;
};

/// Where one step of the first or last pass finds its eight rows, a sixteenth of the transform apart: in the sequences,
/// or, where some are not theirs or narrower than a register, in a copy.
template <class T>
struct ConvRows {
  static constexpr Index size = Lanes<T>::size;
  alignas(Lanes<T>::alignment) T copy[2][8 * size];

  /// True if rows `k`, `k + part`, ..., `k + 7 part` of both sequences are whole registers in memory.
  template <class U>
  static bool are_whole(const SequencePair<U>& x, Index length, Index count, Index k, Index part) {
    return count == size && x.b.data && k + 7 * part < length;
  }
  SequencePair<T> copied() { return {{copy[0], size}, {copy[1], size}}; }

  [[gnu::noinline]] SequencePair<const T> gather(const SequencePair<const T>& x, Index length, Index count, Index k,
                                                 Index part) {
    for (int half = 0; half < 2; ++half) {
      const View<const T>& from = half == 0 ? x.a : x.b;
      for (Index m = 0; m < 8; ++m) {
        const Index row = k + m * part;
        typename Lanes<T>::Packet value = Lanes<T>::zero();
        if (row < length && from.data) value = Lanes<T>::load(from.row(row), count);
        Lanes<T>::store(copy[half] + m * size, value);
      }
    }
    return {{copy[0], size}, {copy[1], size}};
  }

  [[gnu::noinline]] void scatter(const SequencePair<T>& y, Index length, Index count, Index k, Index part) const {
    for (int half = 0; half < 2; ++half) {
      const View<T>& to = half == 0 ? y.a : y.b;
      for (Index m = 0; m < 8; ++m) {
        const Index row = k + m * part;
        if (row < length && to.data) Lanes<T>::store(to.row(row), Lanes<T>::load(copy[half] + m * size), count);
      }
    }
  }
};

/// Every `part`-th row from row `k` on.
template <class T>
SequencePair<T> every(Index part, Index k, const SequencePair<T>& x) {
  return {{x.a.row(k), x.a.stride * part}, {x.b.row(k), x.b.stride * part}};
}

/// First four levels of the transform of `a + i b`: `length <= n/2` rows and then zeros.
template <class T>
void conv_first_pass(SequencePair<const T> x, Index length, Index count, T* data, Index n, const T* table) {
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  const Index part = n / 16, pitch = (part + 1) * complex_packet_stride<T>;
  ConvRows<T> edge;
  for (Index k = 0; k < part; ++k) {
    const bool whole = ConvRows<T>::are_whole(x, length, count, k, part);
    const SequencePair<const T> rows = whole ? every(part, k, x) : edge.gather(x, length, count, k, part);
    Complex in[8];
    MAD_UNROLL
    for (int m = 0; m < 8; ++m) {
      const T *a = rows.a.row(m), *b = rows.b.row(m);
      L::prefetch(a + conv_prefetch_rows * x.a.stride);
      L::prefetch(b + conv_prefetch_rows * x.b.stride);
      in[m] = {L::load(a), L::load(b)};
    }
    T* out = data + k * complex_packet_stride<T>;
    unroll<4>([&](auto q) MAD_ALWAYS_INLINE {
      Complex z[4];
      MAD_UNROLL
      for (int m = 0; m < 4; ++m) {
        if (q == 0) z[m] = in[m] + in[m + 4];
        if (q == 1) z[m] = in[m] - in[m + 4];
        if (q == 2) z[m] = sub_i(in[m], in[m + 4]);
        if (q == 3) z[m] = add_i(in[m], in[m + 4]);
      }
      fft_radix4<true, q == 0>(z, table + Twiddles<T>::entry * q);
      MAD_UNROLL
      for (int m = 0; m < 4; ++m) z[m].store(out + (4 * q + m) * pitch);
    });
  }
}

/// Last four levels of the inverse transform; writes the first `length` rows.
template <class T>
void conv_last_pass(const T* data, Index n, const T* table, SequencePair<T> y, Index length, Index count) {
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  const Index part = n / 16, pitch = (part + 1) * complex_packet_stride<T>;
  ConvRows<T> edge;
  for (Index k = 0; k < part; ++k) {
    Complex sum[8];
    const T* in = data + k * complex_packet_stride<T>;
    unroll<4>([&](auto q) MAD_ALWAYS_INLINE {
      Complex z[4];
      MAD_UNROLL
      for (int m = 0; m < 4; ++m) z[m] = Complex::load(in + (4 * q + m) * pitch);
      fft_radix4<false, q == 0>(z, table + Twiddles<T>::entry * q);
      MAD_UNROLL
      for (int m = 0; m < 4; ++m) {
        if (q == 0) sum[m] = sum[m + 4] = z[m];
        if (q > 0) sum[m] = sum[m] + z[m];
        if (q == 1) sum[m + 4] = sum[m + 4] - z[m];
        if (q == 2) sum[m + 4] = add_i(sum[m + 4], z[m]);
        if (q == 3) sum[m + 4] = sub_i(sum[m + 4], z[m]);
      }
    });
    const bool whole = ConvRows<T>::are_whole(y, length, count, k, part);
    const SequencePair<T> rows = whole ? every(part, k, y) : edge.copied();
    MAD_UNROLL
    for (int m = 0; m < 8; ++m) {
      T *a = rows.a.row(m), *b = rows.b.row(m);
      L::prefetch_for_write(a + conv_prefetch_rows * y.a.stride);
      L::prefetch_for_write(b + conv_prefetch_rows * y.b.stride);
      L::store(a, sum[m].re);
      L::store(b, sum[m].im);
    }
    if (!whole) edge.scatter(y, length, count, k, part);
  }
}

/// The levels between the first and the last pass. `Buffers`, `Forward`, `Inverse` and `leaf` as in `fft_tree`.
template <int Buffers, bool Forward, bool Inverse, class T, class Leaf>
void conv_inner_levels(T* data, Index distance, Index n, const T* table, const Leaf& leaf) {
  const Index part = n / 16;
  for (Index j = 0; j < 16; ++j) {
    T* child = data + j * (part + 1) * complex_packet_stride<T>;
    fft_tree<Buffers, Forward, Inverse>(child, distance, part, j, table, leaf);
  }
}

/// Lowest levels forward, product with the filter's spectrum, lowest levels back: the data pass through registers once.
template <int Size, class T>
struct ConvLeaf {
  static constexpr int size = Size;
  const T* table;
  const T* spectrum;

  void operator()(T* data, Index block) const {
    constexpr Index step = complex_packet_stride<T>;
    const HermitianBlock where = hermitian_block(block);
    const T* h = spectrum + where.stored * Size * step;
    ComplexPacket<T> x[Size];
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j] = ComplexPacket<T>::load(data + j * step);
    fft_leaf<true, Size>(x, block, table);
    if (where.mirrored) {
      MAD_UNROLL
      for (int j = 0; j < Size; ++j) x[j] = times_conjugate(x[j], ComplexPacket<T>::load(h + (Size - 1 - j) * step));
    } else {
      MAD_UNROLL
      for (int j = 0; j < Size; ++j) x[j] = x[j] * ComplexPacket<T>::load(h + j * step);
    }
    fft_leaf<false, Size>(x, block, table);
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j].store(data + j * step);
  }
};

/// The same for the gradients: `data` holds the output gradient, the input lies `distance` further. The spectrum of the
/// correlation of both is added to `d_spectrum`: the sum over a pair of conjugate frequencies where one of them is
/// stored, each frequency on its own in the first two blocks.
template <int Size, class T>
struct ConvBackwardLeaf {
  static constexpr int size = Size;
  const T* table;
  const T* spectrum;
  T* d_spectrum;
  Index distance;

  void operator()(T* data, Index block) const {
    constexpr Index step = complex_packet_stride<T>;
    using Complex = ComplexPacket<T>;
    const HermitianBlock where = hermitian_block(block);
    const T* h = spectrum + where.stored * Size * step;
    T* d_h = d_spectrum + where.stored * Size * step;
    Complex x[Size];
    alignas(Lanes<T>::alignment) T input[Size * step];
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j] = Complex::load(data + distance + j * step);
    fft_leaf<true, Size>(x, block, table);
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j].store(input + j * step);
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j] = Complex::load(data + j * step);
    fft_leaf<true, Size>(x, block, table);
    // The gradient is conj(u) x, or its conjugate u conj(x) where the conjugate frequency is stored.
    if (where.mirrored) {
      MAD_UNROLL
      for (int j = 0; j < Size; ++j) {
        const Index at = (Size - 1 - j) * step;
        const Complex u = Complex::load(input + j * step), sum = Complex::load(d_h + at);
        (sum + times_conjugate(u, x[j])).store(d_h + at);
        x[j] = x[j] * Complex::load(h + at);
      }
    } else {
      MAD_UNROLL
      for (int j = 0; j < Size; ++j) {
        const Index at = j * step;
        const Complex u = Complex::load(input + at), sum = Complex::load(d_h + at);
        (sum + times_conjugate(x[j], u)).store(d_h + at);
        x[j] = times_conjugate(x[j], Complex::load(h + at));
      }
    }
    fft_leaf<false, Size>(x, block, table);
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j].store(data + j * step);
  }
};

/// Convolves a pair of sequences; `data` is room for one transform.
template <class T>
void conv_forward(SequencePair<const T> x, SequencePair<T> y, Index length, Index count, const T* spectrum, T* data,
                  Index n) {
  const T* table = Twiddles<T>::of(n);
  conv_first_pass(x, length, count, data, n, table);
  with_fft_leaf_size(n, [&](auto size) {
    conv_inner_levels<1, true, true>(data, 0, n, table, ConvLeaf<size, T>{table, spectrum});
  });
  conv_last_pass(data, n, table, y, length, count);
}

/// Gradients for a pair of sequences; `data` is room for two transforms.
template <class T>
void conv_backward(SequencePair<const T> x, SequencePair<const T> d_y, SequencePair<T> d_x, Index length, Index count,
                   const T* spectrum, T* d_spectrum, T* data, Index n) {
  const T* table = Twiddles<T>::of(n);
  const Index distance = conv_buffer_size<T>(n);
  conv_first_pass(d_y, length, count, data, n, table);
  conv_first_pass(x, length, count, data + distance, n, table);
  with_fft_leaf_size(n, [&](auto size) {
    const ConvBackwardLeaf<size, T> leaf{table, spectrum, d_spectrum, distance};
    conv_inner_levels<2, true, true>(data, distance, n, table, leaf);
  });
  conv_last_pass(data, n, table, d_x, length, count);
}

/// Half spectra of two real filters (`length` packed rows each), scaled by 1/n; `data` is room for one transform.
template <class T>
void conv_filter_spectra(SequencePair<const T> filters, Index length, T* spectrum_a, T* spectrum_b, T* data, Index n) {
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  constexpr Index step = complex_packet_stride<T>;
  const T* table = Twiddles<T>::of(n);
  conv_first_pass(filters, length, L::size, data, n, table);
  with_fft_leaf_size(
      n, [&](auto size) { conv_inner_levels<1, true, false>(data, 0, n, table, FftLeaf<true, size, T>{table}); });
  const Index leaf = fft_leaf_size(n);
  const typename L::Packet scale = L::all(static_cast<T>(0.5 / static_cast<double>(n)));
  for (Index block = 0; block < n / leaf; ++block) {
    const HermitianBlock where = hermitian_block(block);
    if (where.mirrored) continue;
    for (Index j = 0; j < leaf; ++j) {
      const Complex z = Complex::load(data + conv_offset(block * leaf + j, n) * step);
      const Complex m = Complex::load(data + conv_offset(mirrored_position(block * leaf + j), n) * step);
      const Index at = (where.stored * leaf + j) * step;
      // z = A + i B and m = conj(A) + i conj(B).
      Complex{L::mul(L::add(z.re, m.re), scale), L::mul(L::sub(z.im, m.im), scale)}.store(spectrum_a + at);
      if (spectrum_b) {
        Complex{L::mul(L::add(z.im, m.im), scale), L::mul(L::sub(m.re, z.re), scale)}.store(spectrum_b + at);
      }
    }
  }
}

/// Gradients of two filters (`length` packed rows each, overwritten) from what `conv_backward` gathered.
template <class T>
void conv_filter_gradients(const T* d_spectrum_a, const T* d_spectrum_b, SequencePair<T> d_filters, Index length,
                           T* data, Index n) {
  using L = Lanes<T>;
  using Complex = ComplexPacket<T>;
  constexpr Index step = complex_packet_stride<T>;
  const T* table = Twiddles<T>::of(n);
  const Index leaf = fft_leaf_size(n);
  const typename L::Packet scale = L::all(static_cast<T>(0.5 / static_cast<double>(n)));
  const auto gathered = [&](const T* d_spectrum, Index block, Index j) MAD_ALWAYS_INLINE {
    if (!d_spectrum) return Complex{L::zero(), L::zero()};
    Complex g = Complex::load(d_spectrum + (hermitian_block(block).stored * leaf + j) * step);
    if (block < 2) {  // the conjugate frequency was not added yet; it lies in the same block
      const Complex m = Complex::load(d_spectrum + mirrored_position(block * leaf + j) * step);
      g = {L::add(g.re, m.re), L::sub(g.im, m.im)};
    }
    return Complex{L::mul(g.re, scale), L::mul(g.im, scale)};
  };
  for (Index block = 0; block < n / leaf; ++block) {
    if (hermitian_block(block).mirrored) continue;
    for (Index j = 0; j < leaf; ++j) {
      const Index p = block * leaf + j;
      const Complex a = gathered(d_spectrum_a, block, j), b = gathered(d_spectrum_b, block, j);
      add_i(a, b).store(data + conv_offset(p, n) * step);
      if (block >= 2) {
        Complex{L::add(a.re, b.im), L::sub(b.re, a.im)}.store(data + conv_offset(mirrored_position(p), n) * step);
      }
    }
  }
  with_fft_leaf_size(
      n, [&](auto size) { conv_inner_levels<1, false, true>(data, 0, n, table, FftLeaf<false, size, T>{table}); });
  conv_last_pass(data, n, table, d_filters, length, L::size);
}

}  // namespace mad::cpu::detail
