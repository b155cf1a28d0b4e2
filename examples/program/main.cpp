// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The program mad: the library's layers, composed by name.
#include "registrations.hpp"

#include <mad/cli/main.hpp>

int main(int argc, char** argv) {
  mad::cli::LayerRegistry registry;
  add_all_layers(registry);
  registry.set_default_model({"mh-attention", "swiglu", "mh-attention", "swiglu"}, 128);
  return mad::cli::main(argc, argv, registry);
}
