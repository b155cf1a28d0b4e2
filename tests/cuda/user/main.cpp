// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "net.hpp"

#include <mad/cli/run.hpp>

int main(int argc, char** argv) { return mad::run<Net>(argc, argv); }
