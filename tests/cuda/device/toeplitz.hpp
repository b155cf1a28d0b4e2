// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Nets of attention under a Toeplitz mask.
#pragma once

#include <mad/layers/mh_hyena.hpp>
#include <mad/models/model.hpp>

namespace mad::testing {

/// Heads that are padded with zeros on the tensor cores.
struct NarrowHeadHyena : MultiHeadHyenaLayer<MultiHeadHyenaOptions{.head_width = 4, .projection_groups = 1}> {};
/// The same, of an odd width.
struct OddHeadHyena : MultiHeadHyenaLayer<MultiHeadHyenaOptions{.head_width = 15}> {};

using ToeplitzNet = Stack<MultiHeadHyena>;
using NarrowToeplitzNet = Stack<NarrowHeadHyena>;
using OddToeplitzNet = Stack<OddHeadHyena>;

}  // namespace mad::testing
