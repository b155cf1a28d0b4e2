// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a long convolution multiplies by on its way from and to memory.
#pragma once

#include <mad/core/view.hpp>

#include <cstddef>

namespace mad::cuda {

/// Products in the kernel of a long convolution y of u.
enum class Gating {
  none,      ///< y of u
  forward,   ///< y of u factor[0], and y factor[1] too
  backward,  ///< y factor[0] and y factor[1], but not y
};

/// The operands of the products: (tokens, channels) each. Null where there is none.
template <class T>
struct Gates {
  const T* factor[2]{};
  std::size_t factor_stride[2]{};
  T* product[2]{};
  std::size_t product_stride[2]{};

  Gates() = default;
  /// Forward: one product, by `factor[1]`.
  Gates(View<const T> in, View<const T> gate, View<T> gated) : Gates(in, gate, View<T>{}, gated) {}
  /// Backward.
  Gates(View<const T> first, View<const T> second, View<T> first_product, View<T> second_product)
      : factor{first.data, second.data},
        factor_stride{static_cast<std::size_t>(first.stride), static_cast<std::size_t>(second.stride)},
        product{first_product.data, second_product.data},
        product_stride{static_cast<std::size_t>(first_product.stride),
                       static_cast<std::size_t>(second_product.stride)} {}
};

/// The first factor of results; 2 where there is none.
template <Gating G>
inline constexpr int first_gate = G == Gating::backward  ? 0
                                  : G == Gating::forward ? 1
                                                         : 2;

}  // namespace mad::cuda
