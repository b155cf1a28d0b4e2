// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The kernels that the library `mad::cuda_compiled` has: the largest ones, at the sizes that the layers have by
/// default at width 128. Models, training and backbones are listed in registration.cuh. See <mad/compiled.hpp>.
#pragma once

#if defined(MAD_CUDA_COMPILED)

#include <mad/core/compiled.hpp>
#include <mad/cuda/kernels/attention/exact.cuh>
#include <mad/cuda/kernels/attention/narrow.cuh>
#include <mad/cuda/kernels/attention/narrow_gradient.cuh>
#include <mad/cuda/kernels/long_conv.cuh>
#include <mad/cuda/kernels/normed_output_head.cuh>
#include <mad/cuda/products/norm_gradient_product.cuh>
#include <mad/cuda/products/normed_products.cuh>

namespace mad::cuda {

// Attention with heads of width 8.
MAD_SHARED_FUNCTION(attention_forward<8, float>);
MAD_SHARED_FUNCTION(attention_backward<8, float>);
MAD_SHARED_FUNCTION(attention_forward_narrow<8>);
MAD_SHARED_FUNCTION(attention_backward_narrow<8>);

// Hyena: an inside of four times the width.
namespace long_conv_detail {
MAD_SHARED_FUNCTION(convolve<512, 512, false, false, float, float>);
MAD_SHARED_FUNCTION(convolve<512, 512, true, false, float, float>);
MAD_SHARED_FUNCTION(correlate<512, 512, false, float, float>);
MAD_SHARED_FUNCTION(convolve<512, 512, false, true, BFloat16, BFloat16>);
MAD_SHARED_FUNCTION(convolve<512, 512, true, true, BFloat16, BFloat16>);
MAD_SHARED_FUNCTION(correlate<512, 512, true, BFloat16, BFloat16>);
}  // namespace long_conv_detail

// Norms of rows of 128 columns with products.
namespace normed_products {
MAD_SHARED_FUNCTION(is_there<void>);
MAD_SHARED_FUNCTION(run<void>);
}  // namespace normed_products
namespace norm_gradient_product {
MAD_SHARED_FUNCTION(run<void>);
}  // namespace norm_gradient_product
MAD_SHARED_FUNCTION(normed_output_head<void>);

}  // namespace mad::cuda

#endif
