// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Proves a group of little layers with numbers.
#pragma once

#include "little_layers.hpp"

#include <mad/testing/check_layer.hpp>

#include <catch.hpp>

namespace mad::testing {

template <class... L>
void prove(Layers<L...>) {
  const CheckOptions options{.shapes = {{1, 1, 1}, {3, 2, 5}, {2, 5, 5}}};
  // Every single pass is switched off where the plan alone is checked (plan_test.cpp).
  const auto check = [](const Report& report) { CHECK(report); };
  (check(check_layer<L, 8>(options)), ...);
}

}  // namespace mad::testing
