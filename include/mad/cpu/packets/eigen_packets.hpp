// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Eigen's packets (Eigen::internal) without its matrices, which nothing here computes in and which cost a program as
/// much time to compile as a layer.
///
/// What is named below are the parts that Eigen/Core of 3.4 includes up to its packet functions, in its order; with
/// another release, processor or compiler Eigen/Core itself is included. Each part has its own guard: a program may
/// include any header of Eigen before or behind this one.
#pragma once

#include <Eigen/src/Core/util/Macros.h>

#if EIGEN_WORLD_VERSION == 3 && EIGEN_MAJOR_VERSION == 4 && EIGEN_MINOR_VERSION == 0 && EIGEN_ARCH_x86_64 &&       \
    EIGEN_COMP_GNUC && !defined(__CUDACC__) && !defined(__HIPCC__) && !defined(EIGEN_USE_BLAS) &&                  \
    !defined(EIGEN_USE_LAPACKE) && !defined(EIGEN_USE_MKL_ALL) && !defined(EIGEN_USE_SYCL) && !defined(_OPENMP) && \
    !defined(EIGEN_CORE_H)

// Stops warnings until ReenableStupidWarnings.h, as in Eigen/Core.
#include <Eigen/src/Core/util/DisableStupidWarnings.h>

#include <Eigen/src/Core/util/ConfigureVectorization.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <climits>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iosfwd>
#include <limits>
#include <new>
#include <string>
#include <type_traits>

#ifndef EIGEN_HAS_ERRNO
#define EIGEN_HAS_ERRNO
#endif

namespace Eigen {
using std::ptrdiff_t;
using std::size_t;
}  // namespace Eigen

// clang-format off
#include <Eigen/src/Core/util/MKL_support.h>
#include <Eigen/src/Core/util/Constants.h>
#include <Eigen/src/Core/util/Meta.h>
#include <Eigen/src/Core/util/ForwardDeclarations.h>
#include <Eigen/src/Core/util/StaticAssert.h>
#include <Eigen/src/Core/util/XprHelper.h>
#include <Eigen/src/Core/util/Memory.h>
#include <Eigen/src/Core/NumTraits.h>
#include <Eigen/src/Core/MathFunctions.h>
#include <Eigen/src/Core/GenericPacketMath.h>
#include <Eigen/src/Core/MathFunctionsImpl.h>
#include <Eigen/src/Core/arch/Default/ConjHelper.h>
#include <Eigen/src/Core/arch/Default/Half.h>
#include <Eigen/src/Core/arch/Default/BFloat16.h>
#include <Eigen/src/Core/arch/Default/TypeCasting.h>
#include <Eigen/src/Core/arch/Default/GenericPacketMathFunctionsFwd.h>
#if defined(EIGEN_VECTORIZE_SSE)
#include <Eigen/src/Core/arch/SSE/PacketMath.h>
#include <Eigen/src/Core/arch/SSE/TypeCasting.h>
#endif
#if defined(EIGEN_VECTORIZE_AVX)
#include <Eigen/src/Core/arch/AVX/PacketMath.h>
#include <Eigen/src/Core/arch/AVX/TypeCasting.h>
#endif
#if defined(EIGEN_VECTORIZE_AVX512)
#include <Eigen/src/Core/arch/AVX512/PacketMath.h>
#include <Eigen/src/Core/arch/AVX512/TypeCasting.h>
#endif
#if defined(EIGEN_VECTORIZE_SSE)
#include <Eigen/src/Core/arch/SSE/MathFunctions.h>
#endif
#if defined(EIGEN_VECTORIZE_AVX)
#include <Eigen/src/Core/arch/AVX/MathFunctions.h>
#endif
#if defined(EIGEN_VECTORIZE_AVX512)
#include <Eigen/src/Core/arch/AVX512/MathFunctions.h>
#endif
#include <Eigen/src/Core/arch/Default/Settings.h>
#include <Eigen/src/Core/arch/Default/GenericPacketMathFunctions.h>
#include <Eigen/src/Core/util/ReenableStupidWarnings.h>
// clang-format on

#else
#include <Eigen/Core>
#endif
