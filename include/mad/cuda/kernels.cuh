// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// All kernels of the vocabulary.
#pragma once

#include <mad/cuda/attention.cuh>
#include <mad/cuda/delta_rule.cuh>
#include <mad/cuda/diagonal_plus_rank_one.cuh>
#include <mad/cuda/expert_linear.cuh>
#include <mad/cuda/expert_weights.cuh>
#include <mad/cuda/feature_maps.cuh>
#include <mad/cuda/gated_short_conv.cuh>
#include <mad/cuda/head_product.cuh>
#include <mad/cuda/linear.cuh>
#include <mad/cuda/linear_heads.cuh>
#include <mad/cuda/linear_recurrence.cuh>
#include <mad/cuda/long_conv.cuh>
#include <mad/cuda/norm.cuh>
#include <mad/cuda/rational_filter.cuh>
#include <mad/cuda/rotary.cuh>
#include <mad/cuda/selective_scan.cuh>
#include <mad/cuda/short_conv.cuh>
#include <mad/cuda/softmax.cuh>
#include <mad/cuda/sum.cuh>
#include <mad/cuda/toeplitz_attention.cuh>
#include <mad/cuda/token_shift.cuh>
