// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One register of neighbouring channels: what the kernels that vectorise across channels are written in.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>

#include <cstddef>
#include <utility>

/// For lambdas whose captures must stay in registers.
#define MAD_ALWAYS_INLINE __attribute__((always_inline))

/// Before a loop of at most 64 rounds whose number is a constant: it is unrolled whole, and arrays of packets that only
/// its index reaches become registers.
#if defined(__clang__)
#define MAD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MAD_UNROLL _Pragma("GCC unroll 64")
#endif

// g++ takes the deliberately undefined registers inside its own AVX-512 functions for uninitialised variables.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

namespace mad::cpu {

/// Calls `body` with the compile-time constants 0 .. Count-1: for bodies that need a constant, as in `if constexpr` and
/// template arguments. A loop under MAD_UNROLL costs a fraction of the time to compile.
template <int Count, class Body>
MAD_ALWAYS_INLINE inline void unroll(Body&& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) MAD_ALWAYS_INLINE { (body(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, Count>{});
}

/// The widest register of the target for elements of type T: AVX-512, AVX, SSE, NEON, or one scalar.
/// Memory access with a `count` touches only the first `count` elements; the lanes beyond are zero.
template <class T>
struct Lanes {
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  static constexpr Index size = Eigen::internal::packet_traits<T>::size;
  static constexpr int registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;
  static constexpr std::size_t alignment = sizeof(Packet);

  static MAD_ALWAYS_INLINE inline Packet zero() { return Eigen::internal::pset1<Packet>(T(0)); }
  static MAD_ALWAYS_INLINE inline Packet all(T x) { return Eigen::internal::pset1<Packet>(x); }
  static MAD_ALWAYS_INLINE inline Packet load(const T* p) { return Eigen::internal::ploadu<Packet>(p); }
  static MAD_ALWAYS_INLINE inline void store(T* p, const Packet& x) { Eigen::internal::pstoreu(p, x); }

  static MAD_ALWAYS_INLINE inline Packet load(const T* p, Index count) {
    return count == size ? load(p) : load_part(p, count);
  }
  static MAD_ALWAYS_INLINE inline void store(T* p, const Packet& x, Index count) {
    if (count == size) {
      store(p, x);
    } else {
      store_part(p, x, count);
    }
  }

  /// Brings the cache line of `p` near; `p` may lie outside of any array.
  static MAD_ALWAYS_INLINE inline void prefetch(const T* p) { __builtin_prefetch(p, 0, 2); }
  static MAD_ALWAYS_INLINE inline void prefetch_for_write(T* p) { __builtin_prefetch(p, 1, 2); }

  static MAD_ALWAYS_INLINE inline Packet add(const Packet& a, const Packet& b) { return a + b; }
  static MAD_ALWAYS_INLINE inline Packet sub(const Packet& a, const Packet& b) { return a - b; }
  static MAD_ALWAYS_INLINE inline Packet mul(const Packet& a, const Packet& b) { return a * b; }
  static MAD_ALWAYS_INLINE inline Packet exp(const Packet& a) {
#if defined(EIGEN_VECTORIZE_AVX512)
    if constexpr (sizeof(T) == 4 && size == 16) return exp_by_scaling(a);
#endif
    return Eigen::internal::pexp(a);
  }
  static MAD_ALWAYS_INLINE inline Packet sqrt(const Packet& a) { return Eigen::internal::psqrt(a); }
  static MAD_ALWAYS_INLINE inline T sum(const Packet& a) { return Eigen::internal::predux(a); }

  /// a b + c
  static MAD_ALWAYS_INLINE inline Packet mul_add(const Packet& a, const Packet& b, const Packet& c) {
#if defined(EIGEN_VECTORIZE_FMA) && defined(EIGEN_VECTORIZE_AVX512)
    if constexpr (sizeof(T) == 4 && size == 16) return _mm512_fmadd_ps(a, b, c);
    if constexpr (sizeof(T) == 8 && size == 8) return _mm512_fmadd_pd(a, b, c);
#elif defined(EIGEN_VECTORIZE_FMA) && defined(EIGEN_VECTORIZE_AVX)
    if constexpr (sizeof(T) == 4 && size == 8) return _mm256_fmadd_ps(a, b, c);
    if constexpr (sizeof(T) == 8 && size == 4) return _mm256_fmadd_pd(a, b, c);
#endif
    return a * b + c;
  }

  /// c - a b, in one instruction where the target has it.
  static MAD_ALWAYS_INLINE inline Packet sub_mul(const Packet& c, const Packet& a, const Packet& b) {
#if defined(EIGEN_VECTORIZE_FMA) && defined(EIGEN_VECTORIZE_AVX512)
    if constexpr (sizeof(T) == 4 && size == 16) return _mm512_fnmadd_ps(a, b, c);
    if constexpr (sizeof(T) == 8 && size == 8) return _mm512_fnmadd_pd(a, b, c);
#elif defined(EIGEN_VECTORIZE_FMA) && defined(EIGEN_VECTORIZE_AVX)
    if constexpr (sizeof(T) == 4 && size == 8) return _mm256_fnmadd_ps(a, b, c);
    if constexpr (sizeof(T) == 8 && size == 4) return _mm256_fnmadd_pd(a, b, c);
#endif
    return c - a * b;
  }

  /// Turns a square of `size` rows into its columns.
  static MAD_ALWAYS_INLINE inline void transpose(const T* from, Index from_stride, T* to, Index to_stride) {
    Eigen::internal::PacketBlock<Packet, static_cast<int>(size)> square;
    MAD_UNROLL
    for (int i = 0; i < size; ++i) square.packet[i] = load(from + i * from_stride);
    Eigen::internal::ptranspose(square);
    MAD_UNROLL
    for (int i = 0; i < size; ++i) store(to + i * to_stride, square.packet[i]);
  }

private:
#if defined(EIGEN_VECTORIZE_AVX512)
  /// `2^n 2^f` with `n + f = a log2(e)`, `n` whole, `|f| <= 1/2`: about half the instructions of Eigen's, since AVX-512
  /// scales by powers of two. The polynomial for 2^f is that of Cephes; error at most 2 units in the last place.
  template <class Packet16>
  static MAD_ALWAYS_INLINE inline Packet16 exp_by_scaling(const Packet16& a) {
    constexpr float log2_e = 1.44269502F, log2_e_rest = 1.92596299e-8F;
    const Packet16 n = _mm512_roundscale_ps(mul(a, all(log2_e)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Packet16 f = mul_add(a, all(log2_e_rest), _mm512_fmsub_ps(a, all(log2_e), n));
    constexpr float coefficient[] = {
        1.0F, 6.931472029e-1F, 2.402264791e-1F, 5.550332471e-2F, 9.618437357e-3F, 1.339887440e-3F, 1.535336188e-4F};
    Packet16 power = all(coefficient[6]);
    MAD_UNROLL
    for (int i = 0; i < 6; ++i) power = mul_add(power, f, all(coefficient[5 - i]));
    return _mm512_scalef_ps(power, n);
  }
#endif

  static EIGEN_DONT_INLINE Packet load_part(const T* p, Index count) {
    alignas(alignment) T whole[size] = {};
    for (Index i = 0; i < count; ++i) whole[i] = p[i];
    return load(whole);
  }
  static EIGEN_DONT_INLINE void store_part(T* p, const Packet& x, Index count) {
    alignas(alignment) T whole[size];
    store(whole, x);
    for (Index i = 0; i < count; ++i) p[i] = whole[i];
  }
};

}  // namespace mad::cpu

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
