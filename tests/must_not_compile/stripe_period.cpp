// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// One rare item in every 0 items is nothing.
// expect: mad: Striped<Frequent, Rare, Period> needs a Period of at least 1
// at most: 40 lines
#include <mad/layers/attention.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/models/topologies.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int period = 4;
#else
constexpr int period = 0;
#endif

constexpr int depth = mad::Striped<mad::Mamba, mad::Attn, period>::depth;
