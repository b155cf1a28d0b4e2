// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// An auto-encoder needs the whole input before it decodes anything.
// expect: an auto-encoder cannot go token by token
// at most: 40 lines
#include <mad/cpu/generation.hpp>
#include <mad/layers/mlp.hpp>

#ifdef MAD_MUST_COMPILE
using Model = mad::LanguageModel<mad::Mlp, 16>;
#else
using Model = mad::AutoEncoder<mad::Mlp, 16>;
#endif

const mad::ParameterLayout layout = mad::cpu::Inference<Model>::layout({});
