// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The stack of a user's program, as the README has it.
#pragma once

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/stack.hpp>

using Net = mad::Stack<mad::Hyena, mad::Attn, mad::SwiGLU, mad::Mamba>;
