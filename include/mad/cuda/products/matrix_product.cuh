// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products by cuBLASLt, and small ones in float by a kernel of our own.
#pragma once

#include <mad/cuda/device/precision.hpp>
#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/products/small_product.cuh>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

namespace mad::cuda {

/// A row-major matrix, or its transpose: rows of the stored matrix lie `stride` elements apart.
template <class T>
struct Factor {
  const T* data;
  Index stride;
  bool transposed = false;
};

/// What is added to a product: nothing, the matrix `addend` (as large as the result; may be its memory), or a row.
template <class Out>
struct Added {
  const Out* addend = nullptr;
  Index stride = 0;
  const Out* bias = nullptr;  ///< one number per column of the result
};

namespace product_detail {

template <class T>
constexpr cudaDataType_t data_type = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

/// The power of two, at most 256, on which an address lies.
inline std::uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const std::uintptr_t power = address & (~address + 1);
  return power == 0 || power > 256 ? 256u : static_cast<std::uint32_t>(power);
}

/// One of cuBLASLt's descriptors, destroyed at the end of its life.
template <class Handle, cublasStatus_t (*Destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  ~Owned() { Destroy(handle); }
};
using Operation = Owned<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy>;
using Matrix = Owned<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy>;

template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(operation.handle, attribute, &value, sizeof value), "describe a product");
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.handle, attribute, &value, sizeof value),
        "describe a product's needs");
}

inline void describe(Matrix& matrix, cudaDataType_t type, Index rows, Index columns, Index stride) {
  check(cublasLtMatrixLayoutCreate(&matrix.handle, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), stride),
        "describe a matrix");
}

/// A matrix of a product, without its type.
struct Untyped {
  const void* data;
  cudaDataType_t type;
  Index stride;
  bool transposed = false;
};

}  // namespace product_detail

/// Bytes of workspace that a product may use to split its sum.
inline constexpr Index product_workspace = Index{32} << 20;

namespace product_detail {

/// The product for any types: A and B have one, C and what is added have one.
[[gnu::noinline]] inline void multiply(Queue& queue, Index rows, Index columns, Index inner, const Untyped& a,
                                       const Untyped& b, const Untyped& c, const Untyped& addend, const void* bias) {
  void* workspace = queue.take<std::byte>(product_workspace);
  if (queue.rehearsing() || rows == 0 || columns == 0) return;
  // cuBLASLt counts by columns: it computes C^T = B^T A^T, and a row-major matrix is its transpose.
  Operation operation;
  check(cublasLtMatmulDescCreate(&operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe a product");
  const cublasOperation_t turn_b = b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t turn_a = a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, turn_b);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, turn_a);
  if (bias != nullptr) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, c.type);
  }
  const void* c_in = addend.data != nullptr ? addend.data : c.data;
  Matrix first, second, before, after;
  describe(first, b.type, b.transposed ? inner : columns, b.transposed ? columns : inner, b.stride);
  describe(second, a.type, a.transposed ? rows : inner, a.transposed ? inner : rows, a.stride);
  describe(before, c.type, columns, rows, addend.data != nullptr ? addend.stride : c.stride);
  describe(after, c.type, columns, rows, c.stride);
  Preference preference;
  check(cublasLtMatmulPreferenceCreate(&preference.handle), "describe a product's needs");
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(product_workspace));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(b.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(a.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(c_in));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(c.data));
  // Parts of a split sum are added up from the workspace, in float and in order.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  cublasLtMatmulHeuristicResult_t choice{};
  int found = 0;
  const std::string sizes = std::to_string(rows) + " x " + std::to_string(inner) + " by " + std::to_string(inner) +
                            " x " + std::to_string(columns);
  check(cublasLtMatmulAlgoGetHeuristic(queue.products(), operation.handle, first.handle, second.handle, before.handle,
                                       after.handle, preference.handle, 1, &choice, &found),
        "choose a way to multiply " + sizes);
  if (found == 0) throw Error("cuBLASLt: there is no way to multiply " + sizes);
  const float one = 1;
  const float keep = addend.data != nullptr ? 1.0f : 0.0f;
  check(cublasLtMatmul(queue.products(), operation.handle, &one, b.data, first.handle, a.data, second.handle, &keep,
                       c_in, before.handle, const_cast<void*>(c.data), after.handle, &choice.algo, workspace,
                       static_cast<std::size_t>(product_workspace), queue.stream()),
        "multiply " + sizes);
}

}  // namespace product_detail

/// C = A B + added with A (rows, inner), B (inner, columns), C (rows, columns), sums in float. The order of summation
/// depends on shapes and addresses' alignment alone.
template <class In, class Out>
void matrix_product(Queue& queue, Index rows, Index columns, Index inner, Factor<In> a, Factor<In> b, Out* c,
                    Index c_stride, Added<Out> added = {}) {
  using product_detail::Untyped;
  constexpr cudaDataType_t in = product_detail::data_type<In>;
  constexpr cudaDataType_t out = product_detail::data_type<Out>;
  const Untyped left{a.data, in, a.stride, a.transposed};
  const Untyped right{b.data, in, b.stride, b.transposed};
  const Untyped result{c, out, c_stride};
  const Untyped addend{added.addend, out, added.stride};
  if constexpr (std::is_same_v<In, float> && std::is_same_v<Out, float>) {
    if (is_small_product(rows, columns, inner, std::max(a.stride, b.stride))) {
      const auto small = [](const Factor<float>& f) {
        const auto stride = static_cast<unsigned>(f.stride);
        return f.transposed ? SmallFactor{f.data, 1, stride} : SmallFactor{f.data, stride, 1};
      };
      return small_product(queue, rows, columns, inner, small(a), small(b),
                           {c, c_stride, added.addend, added.stride, added.bias});
    }
  }
  product_detail::multiply(queue, rows, columns, inner, left, right, result, addend, added.bias);
}

}  // namespace mad::cuda
