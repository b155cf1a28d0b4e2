// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One layer on its way through sequences, a token of each at a time, with the state that it keeps.
#pragma once

#include <mad/cpu/arena.hpp>
#include <mad/cpu/step_block.hpp>

#include <limits>

namespace mad::cpu {

/// A layer's state, and whatever else does not change from token to token. Parameters and constants stay the caller's.
template <class T>
class LayerSteps {
public:
  /// For \p sequences sequences of up to \p longest tokens. \p max_length is what the parameters were made for; a layer
  /// with values per position takes no longer sequences.
  LayerSteps(const StepBlock<T>& block, Index sequences, Index longest, Index max_length)
      : block_(&block), shape_{sequences, 1, longest}, max_length_(max_length) {
    state_.resize(block.state_size(shape_));
    saved_.resize(arena_size(*block.arenas, Space::saved, shape_));
    scratch_.resize(arena_size(*block.arenas, Space::scratch, shape_));
    // Whatever is read before it was written shows.
    saved_.fill(std::numeric_limits<T>::quiet_NaN());
    scratch_.fill(std::numeric_limits<T>::quiet_NaN());
    state_.fill(T(0));
  }

  /// Computes what depends on parameters alone. Call it first, and when parameters have changed.
  void prepare(const T* parameters, const T* constants, Workspace& workspace) {
    parameters_ = parameters;
    constants_ = constants;
    prologue_.run(*block_->arenas, block_->prepared_sizes, block_->prologue, {1, shape_.max_length, max_length_},
                  parameters, constants, workspace);
  }

  /// Before the first token again.
  void reset() { state_.fill(T(0)); }

  /// x (sequences, width) to y (sequences, output width), the tokens at \p position. Positions must follow each other
  /// from 0 on.
  void step(Index position, const T* x, T* y, Workspace& workspace) {
    Context<T> c(shape_);
    c.past = position;
    c.position_rows = shape_.max_length;
    c.grid = max_length_;
    c.parameters = parameters_;
    c.constants = constants_;
    c.workspace = &workspace;
    c.at(Space::input) = const_cast<T*>(x);
    c.at(Space::output) = y;
    prologue_.attach(c, *block_->arenas);
    place_arena(c, *block_->arenas, Space::saved, saved_.data());
    place_arena(c, *block_->arenas, Space::scratch, scratch_.data());
    block_->run(c, state_.data());
  }

  /// Numbers kept for all sequences.
  Index state_size() const { return state_.size(); }

private:
  const StepBlock<T>* block_;
  Shape shape_;
  Index max_length_;
  const T* parameters_ = nullptr;
  const T* constants_ = nullptr;
  Buffer<T> state_, saved_, scratch_;
  Prologue<T> prologue_;
};

}  // namespace mad::cpu
