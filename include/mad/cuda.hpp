// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The CUDA device. Include it from a .cu file; everything that describes a model comes with it.
#pragma once

#include <mad/cuda/architecture.cuh>
#include <mad/cuda/training.cuh>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
