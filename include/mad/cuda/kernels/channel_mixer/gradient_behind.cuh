// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The gradient of the norm in front of a channel mixer, made of what the mixer's backward products give as long as
/// that is in registers (formulas in ops/norm.hpp). `M` is the mixer (kernel.cuh), where four warps multiply
/// together.
#pragma once

#include <mad/cuda/instructions/tensor_core.cuh>
#include <mad/cuda/kernels/channel_mixer/rows.cuh>
#include <mad/cuda/products/factor_norm.cuh>
#include <mad/cuda/products/norm_gradient_rows.cuh>

namespace mad::cuda::channel_mixer_detail {

/// Code for norms that take the mean off and for those that do not: the same layer with either has one kernel.
template <class M>
class GradientBehind {
public:
  /// Makes \p packed, what is stored of dx, of dn. \param x rows that the norm is of \param more is added to dx
  __device__ void compute(const typename M::Memory& memory, unsigned first_row, const typename M::WholeRows& x,
                          typename M::Result& dn, const tensor::Left<16>* more, typename M::WholeRows& packed) {
    static_assert(M::result_width == norm_gradient_product::width);
    const Rows rows(x, memory.norm_epsilon, memory.norm_is_centred);
    const unsigned row = first_row + threadIdx.x % 32 / 4;
    const bool here[2] = {row < memory.rows, row + 8 < memory.rows};
    columns_.add(rows, x, dn, here);
    const norm_gradient_product::RowGradient<true> gradient(rows, x, dn, memory.norm_weight, memory.norm_is_centred);
#pragma unroll
    for (int s = 0; s < M::result_width / 16; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        float dx[2];
#pragma unroll
        for (int i = 0; i < 2; ++i)
          dx[i] = gradient.dx(rows, dn[2 * s + part / 2].value[part % 2 * 2 + i], x[s].part[part], i, part % 2) +
                  tensor::number_of(more[s].part[part], i);
        packed[s].part[part] = tensor::pack(dx[0], dx[1]);
      }
    }
  }
  /// The warp's sums over its rows. \param to room in shared memory for 2 x 128 floats
  __device__ void store_sums(float* to) const { columns_.store(to); }

private:
  using Rows = FactorRows<norm_gradient_product::width, true>;
  norm_gradient_product::ColumnSums<Rows> columns_;
};

/// Where there is none.
struct NothingBehind {};

}  // namespace mad::cuda::channel_mixer_detail
