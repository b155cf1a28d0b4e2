// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The main of every test program; compiled once.
#define CATCH_CONFIG_RUNNER  // for version 2, which would otherwise be declarations only
#include "catch.hpp"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
