// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Everything for the CPU: layers, stacks, models, tasks, training. (The command line is apart: <mad/cli/run.hpp>.)
#pragma once

#include <mad/core/version.hpp>

#include <mad/layers/attention.hpp>
#include <mad/layers/delta_net.hpp>
#include <mad/layers/gated_delta_net.hpp>
#include <mad/layers/gated_linear_attention.hpp>
#include <mad/layers/hgrn2.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/linear_attention.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mamba2.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/layers/retnet.hpp>
#include <mad/layers/rwkv5.hpp>
#include <mad/layers/rwkv6.hpp>
#include <mad/layers/rwkv7.hpp>
#include <mad/layers/swiglu.hpp>

#include <mad/models/model.hpp>
#include <mad/models/stack.hpp>

#include <mad/compiled.hpp>
#include <mad/cpu/model.hpp>
#include <mad/train_on.hpp>

#include <mad/tasks/registry.hpp>
#include <mad/train/trainer.hpp>
