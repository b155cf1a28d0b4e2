// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The operator of RWKV knows one width: dim_att must be the layer's.
// expect: two values that must have the same width have widths A and B
// expect: Diagnosis<.*, 32, .*widths_differ, 48, 32, [1-9]
// at most: 40 lines
#include <mad/layers/rwkv5.hpp>

#ifdef MAD_MUST_COMPILE
constexpr int dim_att = 32;
#else
constexpr int dim_att = 48;
#endif

static_assert(mad::Lowered<mad::RWKV5TimeMixerLayer<mad::RWKVTimeMixerOptions{.dim_att = dim_att}>, 32>::output_width ==
              32);
