// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cuda.hpp>

#include "net.hpp"

const bool compiled = mad::cuda::add_stack<Net>();
