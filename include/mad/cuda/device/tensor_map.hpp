// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Descriptions of matrices for the bulk tensor copy engine (tensor_copy.cuh).
#pragma once

#include <mad/cuda/device/error.hpp>
#include <mad/cuda/device/precision.hpp>

#include <cuda.h>
#include <cudaTypedefs.h>

#include <string>

namespace mad::cuda {

namespace tensor_map_detail {

/// The driver's function, found at run time: programs link the runtime only.
inline PFN_cuTensorMapEncodeTiled_v12000 encode() {
  static const auto function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "ask the driver for tensor maps");
    if (result != cudaDriverEntryPointSuccess)
      throw Error("CUDA: this driver knows no tensor maps; it is older than 12.0");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  }();
  return function;
}

}  // namespace tensor_map_detail

/// A map of a matrix in row-major order, \p stride numbers from row to row, for boxes of at most 256 rows and 16, 32 or
/// 64 columns. Address and stride are multiples of 16 bytes. Boxes are in shared memory row by row, swizzled so that
/// eight rows lie in different banks: of the pieces of 16 bytes in a row, piece p of row r is at p xor r mod 8, of
/// shorter rows p xor r / 2 mod 4 or p xor r / 4 mod 2. They begin at multiples of eight rows there.
inline CUtensorMap tensor_map(const BFloat16* matrix, Index rows, Index columns, Index stride, int box_rows,
                              int box_columns) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * sizeof(BFloat16)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const int row_bytes = box_columns * static_cast<int>(sizeof(BFloat16));
  const CUtensorMapSwizzle swizzle = row_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                                     : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                       : CU_TENSOR_MAP_SWIZZLE_32B;
  CUtensorMap map;
  const CUresult status = tensor_map_detail::encode()(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<BFloat16*>(matrix), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw Error("CUDA: failed to describe a matrix to the copy engine: error " +
                std::to_string(static_cast<int>(status)));
  return map;
}

}  // namespace mad::cuda
