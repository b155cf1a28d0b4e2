// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// All kernels of the vocabulary.
#pragma once

#include <mad/cuda/attention.cuh>
#include <mad/cuda/linear.cuh>
#include <mad/cuda/long_conv.cuh>
#include <mad/cuda/norm.cuh>
#include <mad/cuda/selective_scan.cuh>
#include <mad/cuda/short_conv.cuh>
#include <mad/cuda/sum.cuh>
