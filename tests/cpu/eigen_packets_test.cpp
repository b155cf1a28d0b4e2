// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A program may use all of Eigen behind the part that we read, and the two must be one: the same packets, the same
// results. That Eigen comes first is left to the compiler's guards, which make ours nothing then.

// g++ 12 warns of its own AVX-512 functions wherever they end up, and of packets as template arguments.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif

#include <mad/cpu/packets/eigen_packets.hpp>

#ifdef EIGEN_CORE_H
constexpr bool without_matrices = false;
#else
constexpr bool without_matrices = true;
#endif

#include <mad/cpu/packets/lanes.hpp>

#include <Eigen/Dense>

#include <catch.hpp>
#include <cmath>
#include <type_traits>

namespace {

template <class T>
void check_packets() {
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  STATIC_REQUIRE(std::is_same_v<Packet, typename mad::cpu::Lanes<T>::Packet>);
  constexpr int size = Eigen::internal::unpacket_traits<Packet>::size;
  Eigen::Array<T, size, 1> x;
  for (int i = 0; i < size; ++i) x[i] = T(0.25) * T(i + 1);
  Eigen::Array<T, size, 1> y;
  Eigen::internal::pstoreu(y.data(), Eigen::internal::psqrt(Eigen::internal::ploadu<Packet>(x.data())));
  for (int i = 0; i < size; ++i) CHECK(y[i] == Approx(std::sqrt(x[i])));
  const Eigen::Array<T, size, 1> by_array = x.sqrt();
  CHECK((by_array == y).all());
}

}  // namespace

TEST_CASE("Eigen's packets read alone are those of the whole of Eigen behind them") {
  check_packets<float>();
  check_packets<double>();
}

TEST_CASE("Eigen 3.4.0 on x86-64 is read without its matrices") {
#if EIGEN_WORLD_VERSION == 3 && EIGEN_MAJOR_VERSION == 4 && EIGEN_MINOR_VERSION == 0 && defined(__x86_64__)
  CHECK(without_matrices);
#else
  CHECK_FALSE(without_matrices);
#endif
}

TEST_CASE("Matrices of Eigen work behind its packets") {
  Eigen::Matrix3d a;
  a << 2, 1, 0, 1, 3, 1, 0, 1, 4;
  const Eigen::Vector3d b(1, 2, 3);
  CHECK((a * a.ldlt().solve(b) - b).norm() < 1e-12);
  CHECK((Eigen::MatrixXf::Ones(40, 30) * Eigen::MatrixXf::Ones(30, 20)).sum() == Approx(24000));
}
