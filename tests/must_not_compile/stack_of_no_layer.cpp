// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A type without a forward pass in a stack.
// expect: this item of the stack is not a layer
// expect: IsALayer<2, *Bare>
// at most: 30 lines
#include <mad/layers/attention.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/model.hpp>

struct Bare {
  static constexpr std::string_view name = "bare";
#ifdef MAD_MUST_COMPILE
  static constexpr mad::Value forward(mad::Value x) { return x * 0.5; }
#endif
};

using Model = mad::LanguageModel<mad::Stack<mad::Attn, mad::SwiGLU, Bare>, 16>;
static_assert(Model::depth == 3);
