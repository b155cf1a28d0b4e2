// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cli/run.hpp>
#include <mad/layers/swiglu.hpp>

int main(int argc, char** argv) { return mad::run<mad::Stack<mad::SwiGLU>, 64>(argc, argv); }
