// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The kernels that the library `mad::compiled` has, in float; see <mad/compiled.hpp>.
#pragma once

#if defined(MAD_COMPILED)

#include <mad/core/compiled.hpp>
#include <mad/cpu/kernels/attention.hpp>
#include <mad/cpu/kernels/elementwise.hpp>
#include <mad/cpu/kernels/gated_scan.hpp>
#include <mad/cpu/kernels/gated_short_conv.hpp>
#include <mad/cpu/kernels/linear_binding.hpp>
#include <mad/cpu/kernels/long_conv.hpp>
#include <mad/cpu/kernels/matrix_product.hpp>
#include <mad/cpu/kernels/norm_binding.hpp>
#include <mad/cpu/kernels/rotary.hpp>
#include <mad/cpu/kernels/rows_binding.hpp>
#include <mad/cpu/kernels/short_conv.hpp>
#include <mad/cpu/kernels/short_conv_silu.hpp>
#include <mad/cpu/kernels/sum.hpp>
#include <mad/cpu/kernels/time_step_binding.hpp>
#include <mad/cpu/packets/lanes.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <cstddef>

namespace mad::compiled {

/// Exists in the library for the register that it was compiled for, and for no other.
template <Index lanes, std::size_t alignment>
void same_processor_options() {}
MAD_SHARED_FUNCTION(same_processor_options<cpu::Lanes<float>::size, cpu::Lanes<float>::alignment>);

#if !defined(MAD_COMPILED_LIBRARY)
/// Makes every program that reads this file ask the library for it.
[[gnu::used]] inline const auto processor =
    &same_processor_options<cpu::Lanes<float>::size, cpu::Lanes<float>::alignment>;
#endif

}  // namespace mad::compiled

namespace mad::cpu {

// What every layer may need.
MAD_SHARED_FUNCTION(add_elements<float>);
MAD_SHARED_FUNCTION(elementwise::begin_rows<float>);
MAD_SHARED_FUNCTION(sum<float>);
MAD_SHARED_FUNCTION(binding::add_operand<float>);
MAD_SHARED_FUNCTION(binding::copy_operand<float>);

// Linear maps.
MAD_SHARED_FUNCTION(matrix_product<float>);
MAD_SHARED_FUNCTION(binding::run_linear<float>);
MAD_SHARED_FUNCTION(binding::run_linear_input_gradient<float>);
MAD_SHARED_FUNCTION(binding::run_linear_weight_gradient<float>);

// Norms of the widths that people train at.
#define MAD_SHARED_NORM(kind, width)                          \
  MAD_SHARED_FUNCTION(binding::run_norm<kind, width, float>); \
  MAD_SHARED_FUNCTION(binding::run_norm_gradient<kind, width, float>)
MAD_SHARED_NORM(binding::NormKind::group, 64);
MAD_SHARED_NORM(binding::NormKind::group, 128);
MAD_SHARED_NORM(binding::NormKind::head_rms, 64);
MAD_SHARED_NORM(binding::NormKind::head_rms, 128);
#undef MAD_SHARED_NORM

// Attention with heads of the default width.
MAD_SHARED class RotaryTable<float>;
MAD_SHARED_FUNCTION(rotary_table<float>);
MAD_SHARED_FUNCTION(attention_forward<8, float>);
MAD_SHARED_FUNCTION(attention_backward<8, float>);

// Hyena, experts of it, and multi-head Hyena.
MAD_SHARED class LongConv<float>;
MAD_SHARED_FUNCTION(detail::conv_first_pass<float>);
MAD_SHARED_FUNCTION(detail::conv_last_pass<float>);
MAD_SHARED_FUNCTION(detail::conv_filter_spectra<float>);
MAD_SHARED_FUNCTION(detail::conv_filter_gradients<float>);
MAD_SHARED_FUNCTION(detail::toeplitz_multiply<float>);
MAD_SHARED_FUNCTION(gated_short_conv_forward<3, float>);
MAD_SHARED_FUNCTION(gated_short_conv_backward<3, float>);
MAD_SHARED_FUNCTION(short_conv_forward<3, float>);
MAD_SHARED_FUNCTION(short_conv_backward<3, float>);

// Mamba; the short convolution is that of other recurrences too.
MAD_SHARED_FUNCTION(short_conv_silu_forward<4, float>);
MAD_SHARED_FUNCTION(short_conv_silu_backward<4, float>);
MAD_SHARED_FUNCTION(binding::run_time_step<float>);
MAD_SHARED_FUNCTION(gated_scan_forward<4, float>);
MAD_SHARED_FUNCTION(gated_scan_backward<4, float>);

}  // namespace mad::cpu

#endif
