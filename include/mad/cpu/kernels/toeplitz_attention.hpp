// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Attention under a Toeplitz mask: the cheaper of two forms, and one token at a time.
#pragma once

#include <mad/cpu/kernels/toeplitz_attention/direct.hpp>
#include <mad/cpu/kernels/toeplitz_attention/transform.hpp>

#include <bit>

namespace mad::cpu {

enum class ToeplitzAttentionMethod {
  direct,    ///< L^2/2 pairs of positions
  transform  ///< head_width^2 convolutions by Fourier transforms
};

/// The cheaper method, forward and backward together. Direct: L^2 / lanes registers of pairs, each worth head_width + 3
/// (what does not depend on the width weighs three channels). Transforms: n log2 n per register of products, and there
/// are head_width / 2 of them for every `lanes` of head_width. The ratio 9 is measured (AVX-512, float, widths 2 to 32,
/// L = 512 to 4096). Heads of 16 floats use transforms for L = 1727 to 2048 and
/// from 2542 on.
template <class T>
constexpr ToeplitzAttentionMethod toeplitz_attention_method(Index length, Index head_width) {
  constexpr Index lanes = Lanes<T>::size;
  const Index n = detail::conv_transform_length(length);
  const auto levels = static_cast<Index>(std::bit_width(static_cast<std::size_t>(n))) - 1;
  const Index registers = (head_width + 1) / 2 * ((head_width + lanes - 1) / lanes);
  return length * length * (head_width + 3) > 9 * lanes * n * levels * registers ? ToeplitzAttentionMethod::transform
                                                                                 : ToeplitzAttentionMethod::direct;
}

/// y_t = sum_{s<=t} filter[t-s] (q_t.k_s) v_s + skip (q_t.k_t) v_t per sequence and head; y (tokens, heads *
/// head_width) is overwritten. `HeadWidth` is the width of a head, or 0 to take it from `sizes` at run time.
template <int HeadWidth, class T>
void toeplitz_attention_forward(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                                const ToeplitzAttentionOperands<T>& in, View<T> y, Workspace& workspace) {
  if (toeplitz_attention_method<T>(shape.length, sizes.head_width) == ToeplitzAttentionMethod::direct)
    toeplitz_attention_direct<HeadWidth, T>(shape, sizes, in, y, workspace);
  else
    toeplitz_attention_transform<T>(shape, sizes, in, y, workspace);
}

/// Gradients of `toeplitz_attention_forward`; those of q, k and v are overwritten, the others are added to.
template <int HeadWidth, class T>
void toeplitz_attention_backward(const Shape& shape, const ToeplitzAttentionSizes& sizes,
                                 const ToeplitzAttentionOperands<T>& in, View<const T> d_y,
                                 const ToeplitzAttentionGradients<T>& out, Workspace& workspace) {
  if (toeplitz_attention_method<T>(shape.length, sizes.head_width) == ToeplitzAttentionMethod::direct)
    toeplitz_attention_direct_backward<HeadWidth, T>(shape, sizes, in, d_y, out, workspace);
  else
    toeplitz_attention_transform_backward<T>(shape, sizes, in, d_y, out, workspace);
}

/// Numbers that `toeplitz_attention_step` keeps per sequence: all keys and values.
constexpr Index toeplitz_attention_step_state(Index max_length, const ToeplitzAttentionSizes& sizes) {
  return 2 * max_length * sizes.heads * sizes.head_width;
}

/// One token of each of `batch` sequences, at `position`; rows of q, k, v and y are sequences, the filter has at least
/// position + 1 rows. `state` holds per sequence max_length rows of keys, then as many of values.
template <class T>
void toeplitz_attention_step(Index batch, Index max_length, Index position, const ToeplitzAttentionSizes& sizes,
                             const ToeplitzAttentionOperands<T>& in, View<T> y, T* state) {
  using namespace Eigen::internal;
  const Index width = sizes.heads * sizes.head_width;
  for (Index b = 0; b < batch; ++b) {
    T* keys = state + 2 * b * max_length * width;
    T* values = keys + max_length * width;
    std::copy_n(in.k.row(b), width, keys + position * width);
    std::copy_n(in.v.row(b), width, values + position * width);
    std::fill_n(y.row(b), width, T(0));
    for (Index s = 0; s <= position; ++s) {
      for (Index h = 0; h < sizes.heads; ++h) {
        const Index column = h * sizes.head_width;
        const T* q = in.q.row(b) + column;
        const T* k = keys + s * width + column;
        const T* v = values + s * width + column;
        T* out = y.row(b) + column;
        const T factor = in.filter.row(position - s)[h] + (s == position ? in.skip[h] : T(0));
        const T weight = factor * sum_packets<T>(sizes.head_width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
                           return pmul(at.load(q + i), at.load(k + i));
                         });
        for_packets<T>(sizes.head_width, [&](auto at, Index i) MAD_ALWAYS_INLINE {
          at.store(out + i, pmadd(at.all(weight), at.load(v + i), at.load(out + i)));
        });
      }
    }
  }
}

}  // namespace mad::cpu
