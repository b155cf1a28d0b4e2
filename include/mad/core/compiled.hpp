// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How templates are shared by the programs that link the library `mad::compiled`; see <mad/compiled.hpp>.
#pragma once

// One file of the library defines MAD_COMPILED_LIBRARY; everybody else is told that the code exists elsewhere.
#if defined(MAD_COMPILED_LIBRARY)
#define MAD_SHARED template
#else
#define MAD_SHARED extern template
#endif
#define MAD_SHARED_FUNCTION(...) MAD_SHARED decltype(__VA_ARGS__) __VA_ARGS__
