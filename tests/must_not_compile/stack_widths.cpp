// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// A layer that gives back fewer columns than the residual stream has.
// expect: this layer of the stack does not fit
// expect: FitsTheStream<1, *Narrow, 16, 8>
// at most: 40 lines
#include <mad/layers/attention.hpp>
#include <mad/models/model.hpp>
#include <mad/ops/linear.hpp>

struct Narrow {
  static constexpr std::string_view name = "narrow";
  static constexpr mad::Value forward(mad::Value x) {
#ifdef MAD_MUST_COMPILE
    return linear(x, x.width(), "w");
#else
    return linear(x, x.width() / 2, "w");
#endif
  }
};

using Model = mad::LanguageModel<mad::Stack<mad::Attn, Narrow>, 16>;
static_assert(Model::depth == 2);
