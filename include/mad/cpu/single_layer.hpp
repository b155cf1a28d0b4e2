// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One layer on its own, forward and backward: what proofs and small experiments run.
#pragma once

#include <mad/cpu/arena.hpp>

#include <limits>
#include <span>
#include <string_view>

namespace mad::cpu {

/// A layer with parameters and memory of its own. All memory that a correct layer writes before it reads is poisoned
/// with NaN before each pass.
template <class T>
class SingleLayer {
public:
  SingleLayer(const Block<T>& block, const Shape& shape)
      : block_(block),
        shape_(shape),
        parameters_(parameter_total(false)),
        gradients_(parameter_total(false)),
        constants_(parameter_total(true)) {
    parameters_.fill(T(0));
    constants_.fill(T(0));
    gradients_.fill(T(0));
    fill_constants(list(), shape.max_length, constants_.data());
  }

  /// The parameters and constants of the layer.
  std::span<const Parameter> list() const { return block_.parameters; }
  const Shape& shape() const { return shape_; }

  /// Values of a parameter or constant, `count(max_length)` numbers.
  T* parameter(int i) {
    const Parameter& p = list()[static_cast<std::size_t>(i)];
    return (p.is_constant ? constants_ : parameters_).data() + p.offset(shape_.max_length);
  }
  T* gradient(int i) { return gradients_.data() + list()[static_cast<std::size_t>(i)].offset(shape_.max_length); }
  /// Index of the parameter of that name, or -1.
  int find(std::string_view name) const {
    for (std::size_t i = 0; i < list().size(); ++i)
      if (list()[i].name.view() == name) return static_cast<int>(i);
    return -1;
  }
  Buffer<T>& gradients() { return gradients_; }

  /// x (tokens, width) to y (tokens, output width).
  void forward(const T* x, T* y) {
    prologue_.run(block_, shape_, parameters_.data(), constants_.data(), workspace_);
    prepare(saved_, Space::saved);
    prepare(scratch_, Space::scratch);
    Context<T> c = context();
    c.at(Space::input) = const_cast<T*>(x);
    c.at(Space::output) = y;
    std::fill_n(y, shape_.tokens() * block_.output_width, std::numeric_limits<T>::quiet_NaN());
    block_.run[static_cast<int>(Phase::forward)](c);
  }

  /// After `forward` of the same x: dy to dx; gradients of parameters are added to what is there.
  void backward(const T* x, const T* y, const T* dy, T* dx) {
    begin_backward();
    backward_batch(x, y, dy, dx);
    end_backward();
  }

  /// The same in the steps of a training step, which runs the middle one for every micro-batch.
  void begin_backward() {
    accumulators_.resize(arena_size(*block_.arenas, Space::accumulator, shape_));
    accumulators_.fill(T(0));
  }
  void backward_batch(const T* x, const T* y, const T* dy, T* dx) {
    prepare(scratch_, Space::scratch);
    Context<T> c = context();
    c.at(Space::input) = const_cast<T*>(x);
    c.at(Space::output) = const_cast<T*>(y);
    c.at(Space::output_gradient) = const_cast<T*>(dy);
    c.at(Space::input_gradient) = dx;
    std::fill_n(dx, shape_.tokens() * block_.width, std::numeric_limits<T>::quiet_NaN());
    block_.run[static_cast<int>(Phase::backward)](c);
  }
  void end_backward() {
    epilogue_.resize(arena_size(*block_.arenas, Space::epilogue, shape_));
    epilogue_.fill(T(0));
    const Context<T> c = context();
    block_.run[static_cast<int>(Phase::epilogue)](c);
  }

private:
  Index parameter_total(bool constants) const {
    Index total = 0;
    for (const Parameter& p : list()) {
      if (p.is_constant == constants) total += p.count(shape_.max_length);
    }
    return total;
  }
  void prepare(Buffer<T>& buffer, Space space) {
    buffer.resize(arena_size(*block_.arenas, space, shape_));
    buffer.fill(std::numeric_limits<T>::quiet_NaN());
  }
  Context<T> context() {
    Context<T> c(shape_);
    c.parameters = parameters_.data();
    c.constants = constants_.data();
    c.parameter_gradients = gradients_.data();
    c.workspace = &workspace_;
    prologue_.attach(c, *block_.arenas);
    place_arena(c, *block_.arenas, Space::saved, saved_.data());
    place_arena(c, *block_.arenas, Space::scratch, scratch_.data());
    place_arena(c, *block_.arenas, Space::accumulator, accumulators_.data());
    place_arena(c, *block_.arenas, Space::epilogue, epilogue_.data());
    return c;
  }

  const Block<T>& block_;
  Shape shape_;
  Buffer<T> parameters_, gradients_, constants_;
  Buffer<T> saved_, scratch_, accumulators_, epilogue_;
  Prologue<T> prologue_;
  Workspace workspace_;
};

}  // namespace mad::cpu
