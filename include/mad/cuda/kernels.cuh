// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// All kernels of the vocabulary.
#pragma once

#include <mad/cuda/kernels/attention.cuh>
#include <mad/cuda/kernels/delta_rule.cuh>
#include <mad/cuda/kernels/diagonal_plus_rank_one.cuh>
#include <mad/cuda/kernels/expert_linear.cuh>
#include <mad/cuda/kernels/expert_weights.cuh>
#include <mad/cuda/kernels/feature_maps.cuh>
#include <mad/cuda/kernels/gated_short_conv.cuh>
#include <mad/cuda/kernels/head_product.cuh>
#include <mad/cuda/kernels/linear.cuh>
#include <mad/cuda/kernels/linear_heads.cuh>
#include <mad/cuda/kernels/linear_recurrence.cuh>
#include <mad/cuda/kernels/long_conv.cuh>
#include <mad/cuda/kernels/norm.cuh>
#include <mad/cuda/kernels/rational_filter.cuh>
#include <mad/cuda/kernels/rotary.cuh>
#include <mad/cuda/kernels/selective_scan.cuh>
#include <mad/cuda/kernels/short_conv.cuh>
#include <mad/cuda/kernels/softmax.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/cuda/kernels/time_step.cuh>
#include <mad/cuda/kernels/toeplitz_attention.cuh>
#include <mad/cuda/kernels/token_shift.cuh>
