// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Catch2, version 2.13 or 3, whichever is installed. Tests are written with the names of version 3.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)

#include <catch2/catch_all.hpp>

using Catch::Approx;

#else

#include <catch2/catch.hpp>

#include <string>

namespace Catch::Matchers {
/// Version 3's name for what version 2 calls `Contains(text)`.
inline auto ContainsSubstring(const std::string& text, CaseSensitive::Choice choice = CaseSensitive::Yes) {
  return Contains(text, choice);
}
}  // namespace Catch::Matchers

#endif
