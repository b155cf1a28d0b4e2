// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A register of numbers that behaves like one number: what elementwise formulas are evaluated with on the CPU.
#pragma once

#include <mad/core/device.hpp>
#include <mad/core/shape.hpp>
#include <mad/cpu/packets/lanes.hpp>

#include <type_traits>

namespace mad::cpu {

/// As many numbers as a register holds. Functions are Eigen's vectorised ones in single precision, and the standard
/// library's, number by number, in double precision, where exactness matters more than speed.
template <class T>
struct Pack {
  using Packet = typename Lanes<T>::Packet;
  static constexpr Index size = Lanes<T>::size;
  Packet v;

  Pack() = default;
  MAD_ALWAYS_INLINE inline explicit Pack(double c) : v(Lanes<T>::all(static_cast<T>(c))) {}
  MAD_ALWAYS_INLINE inline static Pack of(const Packet& p) {
    Pack r;
    r.v = p;
    return r;
  }
  MAD_ALWAYS_INLINE inline static Pack load(const T* p) { return of(Lanes<T>::load(p)); }
  MAD_ALWAYS_INLINE inline static Pack all(T x) { return of(Lanes<T>::all(x)); }
  MAD_ALWAYS_INLINE inline void store(T* p) const { Lanes<T>::store(p, v); }

  MAD_ALWAYS_INLINE friend inline Pack operator+(Pack a, Pack b) { return of(a.v + b.v); }
  MAD_ALWAYS_INLINE friend inline Pack operator-(Pack a, Pack b) { return of(a.v - b.v); }
  MAD_ALWAYS_INLINE friend inline Pack operator*(Pack a, Pack b) { return of(a.v * b.v); }
  MAD_ALWAYS_INLINE friend inline Pack operator/(Pack a, Pack b) { return of(a.v / b.v); }
  MAD_ALWAYS_INLINE friend inline Pack operator-(Pack a) { return of(-a.v); }
  MAD_ALWAYS_INLINE friend inline Pack max(Pack a, Pack b) { return of(Eigen::internal::pmax(a.v, b.v)); }
  MAD_ALWAYS_INLINE friend inline Pack abs(Pack a) { return of(Eigen::internal::pabs(a.v)); }
  MAD_ALWAYS_INLINE friend inline Pack sqrt(Pack a) { return of(Eigen::internal::psqrt(a.v)); }
  MAD_ALWAYS_INLINE friend inline Pack step(Pack a) {
    using namespace Eigen::internal;
    return of(pand(pcmp_lt(Lanes<T>::zero(), a.v), Lanes<T>::all(T(1))));
  }

  friend inline Pack exp(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::pexp(a.v));
    return each(a, [](T x) { return std::exp(x); });
  }
  friend inline Pack log(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::plog(a.v));
    return each(a, [](T x) { return std::log(x); });
  }
  friend inline Pack log1p(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::plog1p(a.v));
    return each(a, [](T x) { return std::log1p(x); });
  }
  friend inline Pack expm1(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::pexpm1(a.v));
    return each(a, [](T x) { return std::expm1(x); });
  }
  friend inline Pack tanh(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::ptanh(a.v));
    return each(a, [](T x) { return std::tanh(x); });
  }
  friend inline Pack sin(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::psin(a.v));
    return each(a, [](T x) { return std::sin(x); });
  }
  friend inline Pack cos(Pack a) {
    if constexpr (vectorised) return of(Eigen::internal::pcos(a.v));
    return each(a, [](T x) { return std::cos(x); });
  }
  friend inline Pack erf(Pack a) {
    return each(a, [](T x) { return std::erf(x); });
  }

private:
  static constexpr bool vectorised = sizeof(T) == 4 && Eigen::internal::packet_traits<T>::Vectorizable &&
                                     Eigen::internal::packet_traits<T>::HasExp &&
                                     Eigen::internal::packet_traits<T>::HasSin;

  template <class F>
  static Pack each(Pack a, F f) {
    alignas(Lanes<T>::alignment) T x[size];
    a.store(x);
    for (Index i = 0; i < size; ++i) x[i] = f(x[i]);
    return load(x);
  }
};

/// Calls body(x, column), with x of the type in which the numbers from this column on are computed, so that every one
/// of `columns` is in one of them.
template <class T, class Body>
MAD_ALWAYS_INLINE inline void for_packs(Index columns, const Body& body) {
  // The bound of the first loop is where the second begins, in so many words: with a number of columns known at compile
  // time, g++ 12 otherwise takes the second for endless and warns.
  const Index packed = columns - columns % Pack<T>::size;
  for (Index c = 0; c < packed; c += Pack<T>::size) body(Pack<T>{}, c);
  for (Index c = packed; c < columns; ++c) body(T{}, c);
}
template <class X, class T>
MAD_ALWAYS_INLINE inline X load_pack(const T* p) {
  if constexpr (std::is_same_v<X, T>)
    return *p;
  else
    return X::load(p);
}
template <class X, class T>
MAD_ALWAYS_INLINE inline void store_pack(T* p, const X& x) {
  if constexpr (std::is_same_v<X, T>)
    *p = x;
  else
    x.store(p);
}

}  // namespace mad::cpu
