// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// What does an architecture cost? All counts are constant expressions, so a budget can be a line of the program.
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/model.hpp>

#include <cstdio>

using Hybrid = mad::Stack<mad::Hyena, mad::SwiGLU, mad::SlidingAttn, mad::SwiGLU>;
using Recurrent = mad::Repeat<4, mad::Mamba>;  // a stack of one layer, repeated
using Deep = mad::Stack<mad::Repeat<3, Hybrid>, Recurrent>;

// A model is a stack with an embedding and a head. Hyena's filters have parameters per position of max_length.
constexpr mad::ModelOptions options{.vocab_size = 16, .max_length = 128};
static_assert(mad::LanguageModel<Hybrid>::parameters(options) < 500'000, "budget: half a million parameters");

// The state that step-by-step inference must keep. A recurrence needs the same for any length, attention does not.
static_assert(mad::LanguageModel<Recurrent>::state(1024) == mad::LanguageModel<Recurrent>::state(64));
static_assert(mad::LanguageModel<Recurrent>::state(1024) < 8'000, "budget: 8,000 numbers per sequence");

template <class Net>
void show(const char* name) {
  using Model = mad::LanguageModel<Net>;
  std::printf("%-10s %2d layers %9td parameters", name, Model::depth, Model::parameters(options));
  for (const mad::Index length : {64, 256, 1024})
    std::printf("   length %4td: %5.2f MFLOP/token, state %7td", length, Model::flops_per_token(options, length) / 1e6,
                Model::state(length));
  std::printf("\n");
}

int main() {
  show<Hybrid>("hybrid");
  show<Recurrent>("recurrent");
  show<Deep>("deep");
}
