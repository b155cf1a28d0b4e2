// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A view of constant numbers does not turn into one that may write.
// expect: error: .*View<(const float|float const)>
#include <mad/core/view.hpp>

#ifdef MAD_MUST_COMPILE
using Target = const float;
#else
using Target = float;
#endif

mad::View<Target> convert(mad::View<const float> view) { return view; }
