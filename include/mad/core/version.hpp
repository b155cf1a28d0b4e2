// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The version of the library, and the revision of the sources that a program was built from.
#pragma once

#include <string_view>

namespace mad {

/// Version of the library. The build system reads it from this line.
inline constexpr std::string_view version = "0.1.0";

namespace detail {
inline constinit std::string_view recorded_revision = "unknown";
}

/// Git revision of the sources that the program was built from, with "-dirty" appended where they differed from it;
/// "unknown" unless the build records one (CMake: `mad_record_revision(target)`).
inline std::string_view revision() { return detail::recorded_revision; }

/// Called once, before `main`, by the source file that `mad_record_revision` adds to a program.
/// `revision` must point to text that lives as long as the program.
inline bool record_revision(std::string_view revision) {
  detail::recorded_revision = revision;
  return true;
}

}  // namespace mad
