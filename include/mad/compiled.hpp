// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What no program needs to compile for itself: everything in float that does not depend on the program's own types.
///
/// The target `mad::compiled` is a library of exactly this, and of the command line (<mad/cli/main.hpp>). A program
/// linked to it is left with the code of its own layers and compiles in about half the time; it computes the same. The
/// target defines MAD_COMPILED. Without that this file is empty and mad is headers only. <mad/mad.hpp> reads this file,
/// and the command line reads <mad/cpu/compiled.hpp>; what reads neither compiles everything for itself.
///
/// A program and the library must be compiled for the same processor: the width of its registers is part of how numbers
/// lie in memory. Otherwise linking fails with an undefined reference to
/// `mad::compiled::same_processor_options<...>()`. Give both the same options, such as -march=native.
#pragma once

#if defined(MAD_COMPILED)

#include <mad/core/compiled.hpp>
#include <mad/cpu/compiled.hpp>
#include <mad/cpu/kernels/cross_entropy.hpp>
#include <mad/cpu/model.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/train/trainer.hpp>

namespace mad::cpu {

MAD_SHARED class Model<float>;
MAD_SHARED class Worker<float>;
MAD_SHARED class Prologue<float>;
MAD_SHARED_FUNCTION(cross_entropy<float>);
MAD_SHARED_FUNCTION(largest_element<float>);

}  // namespace mad::cpu

namespace mad::tasks {

MAD_SHARED_FUNCTION(task_of<Recall>);
MAD_SHARED_FUNCTION(task_of<NoisyRecall>);
MAD_SHARED_FUNCTION(task_of<FuzzyRecall>);
MAD_SHARED_FUNCTION(task_of<Memorization>);
MAD_SHARED_FUNCTION(task_of<Compression>);
MAD_SHARED_FUNCTION(task_of<SelectiveCopying>);
MAD_SHARED_FUNCTION(task_of<Copying>);

}  // namespace mad::tasks

namespace mad::train {

MAD_SHARED class HostLoop<cpu::Model<float>, float>;
MAD_SHARED class Optimizer<float>;
MAD_SHARED class Trainer<cpu::Model<float>, float>;

}  // namespace mad::train

#endif
