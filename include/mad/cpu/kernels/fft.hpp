// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Complex Fourier transforms of many channels at once: each lane of a register is a transform of its own.
///
/// Data is `n` complex packets: element `p` holds `Lanes<T>::size` real parts at `data + 2 p Lanes<T>::size`, then as
/// many imaginary parts. The forward transform `X[k] = sum_j x[j] exp(-2 pi i j k / n)` takes natural order and leaves
/// `X[bit_reverse(p)]` at position `p`; the inverse (without its factor 1/n) takes that order back. Neither ever
/// permutes, and both work in place, depth first, so that long transforms finish in the cache.
///
/// Seen as polynomials (Bernstein, "The tangent FFT", 2007): block `b` of a level holds the
/// input modulo `z^m - r`, and is split by one factor that depends on `b` only, whatever the transform's length. One
/// table in bit-reversed order thus serves all lengths, and inner loops run with constant factors.
#pragma once

#include <mad/cpu/packets/lanes.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <mutex>
#include <numbers>

namespace mad::cpu {

/// A complex number per lane.
template <class T>
struct ComplexPacket {
  using L = Lanes<T>;
  typename L::Packet re, im;

  static MAD_ALWAYS_INLINE inline ComplexPacket load(const T* p) { return {L::load(p), L::load(p + L::size)}; }
  MAD_ALWAYS_INLINE inline void store(T* p) const {
    L::store(p, re);
    L::store(p + L::size, im);
  }
  friend MAD_ALWAYS_INLINE inline ComplexPacket operator+(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::add(a.re, b.re), L::add(a.im, b.im)};
  }
  friend MAD_ALWAYS_INLINE inline ComplexPacket operator-(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::sub(a.re, b.re), L::sub(a.im, b.im)};
  }
  friend MAD_ALWAYS_INLINE inline ComplexPacket operator*(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::sub_mul(L::mul(a.re, b.re), a.im, b.im), L::mul_add(a.re, b.im, L::mul(a.im, b.re))};
  }
  /// a conj(b)
  friend MAD_ALWAYS_INLINE inline ComplexPacket times_conjugate(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::mul_add(a.re, b.re, L::mul(a.im, b.im)), L::sub_mul(L::mul(a.im, b.re), a.re, b.im)};
  }
  /// a + i b and a - i b
  friend MAD_ALWAYS_INLINE inline ComplexPacket add_i(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::sub(a.re, b.im), L::add(a.im, b.re)};
  }
  friend MAD_ALWAYS_INLINE inline ComplexPacket sub_i(const ComplexPacket& a, const ComplexPacket& b) {
    return {L::add(a.re, b.im), L::sub(a.im, b.re)};
  }
};

/// Elements of type T between one complex packet and the next.
template <class T>
inline constexpr Index complex_packet_stride = 2 * Lanes<T>::size;

/// Factors of the transforms: entry `b` is `t, t^2, t^3` with `t = exp(-i pi r(b) / 2)`, `r` the binary digits of `b`
/// mirrored at the point. Computed in double; the tables live as long as the program and are shared by all threads.
template <class T>
class Twiddles {
public:
  static constexpr Index entry = 6;

  /// The table for transforms of length `n`, a power of two, at least 4: `n/4` entries.
  static const T* of(Index n) {
    static std::array<Table, 48> tables;
    Table& table = tables[static_cast<std::size_t>(std::bit_width(static_cast<std::size_t>(n)))];
    std::call_once(table.once, [&] { table.values = compute(n / 4); });
    return table.values.get();
  }

private:
  struct Table {
    std::once_flag once;
    std::unique_ptr<T[]> values;
  };

  static std::unique_ptr<T[]> compute(Index entries) {
    auto values = std::make_unique<T[]>(static_cast<std::size_t>(entry * entries));
    for (Index b = 0; b < entries; ++b) {
      double mirrored = 0, weight = 0.5;
      for (Index rest = b; rest > 0; rest /= 2, weight /= 2) mirrored += weight * static_cast<double>(rest % 2);
      for (int power = 1; power <= 3; ++power) {
        const double angle = -std::numbers::pi / 2 * mirrored * power;
        values[static_cast<std::size_t>(entry * b + 2 * power - 2)] = static_cast<T>(std::cos(angle));
        values[static_cast<std::size_t>(entry * b + 2 * power - 1)] = static_cast<T>(std::sin(angle));
      }
    }
    return values;
  }
};

namespace detail {

template <class T>
MAD_ALWAYS_INLINE inline ComplexPacket<T> broadcast(const T* z) {
  return {Lanes<T>::all(z[0]), Lanes<T>::all(z[1])};
}

/// Two levels at once, on four elements of a block a quarter apart; `t` is the block's entry of the table, broadcast.
/// `Trivial`: the block is 0, whose factors are 1.
template <bool Trivial = false, class T>
MAD_ALWAYS_INLINE inline void fft_split4(ComplexPacket<T>* x, const ComplexPacket<T>* t) {
  ComplexPacket<T> x1 = x[1], x2 = x[2], x3 = x[3];
  if constexpr (!Trivial) {
    x1 = x1 * t[0];
    x2 = x2 * t[1];
    x3 = x3 * t[2];
  }
  const ComplexPacket<T> even = x[0] + x2, odd = x1 + x3, even_turned = x[0] - x2, odd_turned = x1 - x3;
  x[0] = even + odd;
  x[1] = even - odd;
  x[2] = sub_i(even_turned, odd_turned);
  x[3] = add_i(even_turned, odd_turned);
}

/// Undoes `fft_split4` up to the factor 4.
template <bool Trivial = false, class T>
MAD_ALWAYS_INLINE inline void fft_join4(ComplexPacket<T>* x, const ComplexPacket<T>* t) {
  const ComplexPacket<T> even = x[0] + x[1], odd = x[0] - x[1], even_turned = x[2] + x[3], odd_turned = x[2] - x[3];
  x[0] = even + even_turned;
  x[1] = add_i(odd, odd_turned);
  x[2] = even - even_turned;
  x[3] = sub_i(odd, odd_turned);
  if constexpr (!Trivial) {
    MAD_UNROLL
    for (int j = 0; j < 3; ++j) x[j + 1] = times_conjugate(x[j + 1], t[j]);
  }
}

template <bool Split, bool Trivial = false, class T>
MAD_ALWAYS_INLINE inline void fft_radix4(ComplexPacket<T>* x, const T* table_entry) {
  const ComplexPacket<T> t[3] = {broadcast(table_entry), broadcast(table_entry + 2), broadcast(table_entry + 4)};
  if constexpr (Split) {
    fft_split4<Trivial>(x, t);
  } else {
    fft_join4<Trivial>(x, t);
  }
}

/// All levels below a block of `Size` = 4 or 8 elements, in registers.
template <bool Split, int Size, class T>
MAD_ALWAYS_INLINE inline void fft_leaf(ComplexPacket<T>* x, Index block, const T* table) {
  static_assert(Size == 4 || Size == 8);
  constexpr Index entry = Twiddles<T>::entry;
  if constexpr (Size == 4) {
    fft_radix4<Split>(x, table + entry * block);
  } else {
    const ComplexPacket<T> s = broadcast(table + entry * block + 2);
    if constexpr (Split) {
      MAD_UNROLL
      for (int j = 0; j < 4; ++j) {
        const ComplexPacket<T> low = x[j], high = x[j + 4] * s;
        x[j] = low + high;
        x[j + 4] = low - high;
      }
    }
    fft_radix4<Split>(x, table + entry * (2 * block));
    fft_radix4<Split>(x + 4, table + entry * (2 * block + 1));
    if constexpr (!Split) {
      MAD_UNROLL
      for (int j = 0; j < 4; ++j) {
        const ComplexPacket<T> sum = x[j] + x[j + 4], difference = x[j] - x[j + 4];
        x[j] = sum;
        x[j + 4] = times_conjugate(difference, s);
      }
    }
  }
}

/// Two levels of block `block`, `4 quarter` elements at `data`.
template <bool Split, class T>
void fft_pass(T* data, Index quarter, Index block, const T* table) {
  constexpr Index step = complex_packet_stride<T>;
  const T* entry = table + Twiddles<T>::entry * block;
  const ComplexPacket<T> t[3] = {broadcast(entry), broadcast(entry + 2), broadcast(entry + 4)};
  for (Index k = 0; k < quarter; ++k) {
    ComplexPacket<T> x[4];
    MAD_UNROLL
    for (int j = 0; j < 4; ++j) x[j] = ComplexPacket<T>::load(data + (k + j * quarter) * step);
    if constexpr (Split) {
      fft_split4(x, t);
    } else {
      fft_join4(x, t);
    }
    MAD_UNROLL
    for (int j = 0; j < 4; ++j) x[j].store(data + (k + j * quarter) * step);
  }
}

/// Everything below block `block` of `n` elements: forward passes down to leaves of `Leaf::size` elements on each of
/// `Buffers` arrays that lie `distance` apart, `leaf(data, block)`, inverse passes back up on the first array.
template <int Buffers, bool Forward, bool Inverse, class T, class Leaf>
void fft_tree(T* data, Index distance, Index n, Index block, const T* table, const Leaf& leaf) {
  if (n == Leaf::size) {
    leaf(data, block);
    return;
  }
  const Index quarter = n / 4;
  if constexpr (Forward) {
    for (int i = 0; i < Buffers; ++i) fft_pass<true>(data + i * distance, quarter, block, table);
  }
  if (quarter == Leaf::size) {
    for (int j = 0; j < 4; ++j) leaf(data + j * quarter * complex_packet_stride<T>, 4 * block + j);
  } else {
    for (int j = 0; j < 4; ++j) {
      T* child = data + j * quarter * complex_packet_stride<T>;
      fft_tree<Buffers, Forward, Inverse>(child, distance, quarter, 4 * block + j, table, leaf);
    }
  }
  if constexpr (Inverse) fft_pass<false>(data, quarter, block, table);
}

/// The leaf of a plain transform.
template <bool Split, int Size, class T>
struct FftLeaf {
  static constexpr int size = Size;
  const T* table;
  void operator()(T* data, Index block) const {
    ComplexPacket<T> x[Size];
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j] = ComplexPacket<T>::load(data + j * complex_packet_stride<T>);
    fft_leaf<Split, Size>(x, block, table);
    MAD_UNROLL
    for (int j = 0; j < Size; ++j) x[j].store(data + j * complex_packet_stride<T>);
  }
};

/// Leaves have 8 elements where the number of levels is odd, else 4: passes take two levels each.
constexpr int fft_leaf_size(Index n) { return std::bit_width(static_cast<std::size_t>(n)) % 2 == 0 ? 8 : 4; }

/// Calls `body` with the leaf size of transforms of length `n` as a constant.
template <class Body>
decltype(auto) with_fft_leaf_size(Index n, const Body& body) {
  return fft_leaf_size(n) == 8 ? body(std::integral_constant<int, 8>{}) : body(std::integral_constant<int, 4>{});
}

}  // namespace detail

/// Forward transform in place, natural order to bit-reversed. `n` is a power of two, at least 4.
template <class T>
void fft_forward(T* data, Index n) {
  const T* table = Twiddles<T>::of(n);
  detail::with_fft_leaf_size(n, [&](auto size) {
    detail::fft_tree<1, true, false>(data, 0, n, 0, table, detail::FftLeaf<true, size, T>{table});
  });
}

/// Inverse transform in place without the factor 1/n, bit-reversed order to natural.
template <class T>
void fft_inverse(T* data, Index n) {
  const T* table = Twiddles<T>::of(n);
  detail::with_fft_leaf_size(n, [&](auto size) {
    detail::fft_tree<1, false, true>(data, 0, n, 0, table, detail::FftLeaf<false, size, T>{table});
  });
}

}  // namespace mad::cpu
