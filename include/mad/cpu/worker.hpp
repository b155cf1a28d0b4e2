// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One thread's memory and its work: a micro-batch through the whole model, forward and backward.
#pragma once

#include <mad/cpu/architecture.hpp>
#include <mad/cpu/arena.hpp>
#include <mad/cpu/kernels/cross_entropy.hpp>
#include <mad/cpu/kernels/embedding.hpp>

#include <limits>

namespace mad::cpu {

/// What all threads read during a step.
template <class T>
struct Shared {
  Architecture<T> architecture;
  ModelOptions options;
  ParameterLayout layout;
  Buffer<T> parameters;
  Buffer<T> constants;
  std::vector<T> sinusoids;            ///< (max_length, width), where the model adds them
  std::vector<Prologue<T>> prologues;  ///< blocks, then head norm, then decoder
  std::vector<Index> accumulator_offsets;
  Index accumulator_size = 0;
};

/// Sequences that a thread works on at a time, as rows of token ids.
struct MicroBatch {
  Index first_row = 0;  ///< of the batch, for messages
  Index sequences = 0;
  Index length = 0;  ///< of the inputs
  Index target_length = 0;
  const int* inputs = nullptr;   ///< (sequences, length)
  const int* targets = nullptr;  ///< (sequences, target_length)
};

/// Gradients that a lane collects; summed over lanes in a fixed order.
template <class T>
struct Lane {
  Buffer<T> gradients;
  Buffer<T> accumulators;
};

template <class T>
class Worker {
public:
  explicit Worker(const Shared<T>& shared) : s_(shared) {}

  /// Logits of every target position, then losses and predictions. With `factor` > 0 the logits turn into the gradient
  /// of factor * loss, for `backward`.
  CrossEntropySum forward(const MicroBatch& m, double factor, T* negative_log_likelihood, int* prediction) {
    const ModelOptions& o = s_.options;
    const Index width = s_.architecture.width;
    const bool encoder = s_.architecture.backbone == Backbone::auto_encoder;
    const Index extra = s_.layout.cls_token >= 0 ? 1 : 0;
    shape_ = {m.sequences, m.length + extra, block_max_length(s_.architecture.backbone, o)};
    head_shape_ = encoder ? Shape{m.sequences, o.max_length, o.max_length} : shape_;
    reserve();
    embed(m);
    const std::size_t depth = s_.architecture.blocks.size();
    for (std::size_t i = 0; i < depth; ++i)
      run(i, Phase::forward, shape_, stream(i), stream(i + 1), nullptr, nullptr, nullptr);
    const T* encoded = stream(depth);
    if (encoder) {
      pool(encoded);
      run(decoder(), Phase::forward, head_shape_, pooled_.data(), decoded_.data(), nullptr, nullptr, nullptr);
      encoded = decoded_.data();
    }
    run(head(), Phase::forward, head_shape_, encoded, normed_.data(), nullptr, nullptr, nullptr);
    const Index rows = head_shape_.tokens();
    linear_forward<T>(rows, width, o.vocab_size, {normed_.data(), width}, s_.parameters.data() + s_.layout.head_weight,
                      s_.parameters.data() + s_.layout.head_bias, logits(), workspace_);
    return cross_entropy<T>(logits(), m.targets, rows, o.vocab_size,
                            {.d_logits = factor > 0 ? logits() : View<T>{},
                             .factor = factor,
                             .negative_log_likelihood = negative_log_likelihood,
                             .prediction = prediction});
  }

  /// Adds the gradients of the last `forward` to a lane.
  void backward(const MicroBatch& m, Lane<T>& lane) {
    const ModelOptions& o = s_.options;
    const Index width = s_.architecture.width;
    const Index rows = head_shape_.tokens();
    const View<const T> d_logits = logits();
    linear_weight_gradient<T>(rows, width, o.vocab_size, d_logits, {normed_.data(), width},
                              lane.gradients.data() + s_.layout.head_weight, workspace_);
    T* d_bias = lane.gradients.data() + s_.layout.head_bias;
    for (Index r = 0; r < rows; ++r)
      for (Index v = 0; v < o.vocab_size; ++v) d_bias[v] += d_logits.row(r)[v];
    T* dy = d_stream_[0].data();
    T* dx = d_stream_[1].data();
    linear_input_gradient<T>(rows, width, o.vocab_size, d_logits, s_.parameters.data() + s_.layout.head_weight, false,
                             {dy, width}, workspace_);
    const std::size_t depth = s_.architecture.blocks.size();
    const bool encoder = s_.architecture.backbone == Backbone::auto_encoder;
    run(head(), Phase::backward, head_shape_, encoder ? decoded_.data() : stream(depth), normed_.data(), dy, dx, &lane);
    std::swap(dy, dx);
    if (encoder) {
      run(decoder(), Phase::backward, head_shape_, pooled_.data(), decoded_.data(), dy, dx, &lane);
      pool_backward(dx, dy);
    }
    for (std::size_t i = depth; i-- > 0;) {
      run(i, Phase::backward, shape_, stream(i), stream(i + 1), dy, dx, &lane);
      std::swap(dy, dx);
    }
    embed_backward(m, dy, lane);
  }

  View<T> logits() const { return {logits_.data(), s_.options.vocab_size}; }
  Index bytes() const {
    return streams_.bytes() + saved_.bytes() + scratch_.bytes() + normed_.bytes() + logits_.bytes() + pooled_.bytes() +
           decoded_.bytes() + d_stream_[0].bytes() + d_stream_[1].bytes() + static_cast<Index>(workspace_.capacity());
  }
  Workspace& workspace() { return workspace_; }

private:
  std::size_t head() const { return s_.architecture.blocks.size(); }
  std::size_t decoder() const { return s_.architecture.blocks.size() + 1; }
  const Block<T>& block_at(std::size_t i) const {
    return i < head()    ? *s_.architecture.blocks[i]
           : i == head() ? *s_.architecture.head_norm
                         : *s_.architecture.decoder;
  }
  ParameterLayout::Part part_at(std::size_t i) const {
    return i < head() ? s_.layout.blocks[i] : i == head() ? s_.layout.head_norm : s_.layout.decoder;
  }
  T* stream(std::size_t i) const {
    return streams_.data() + static_cast<Index>(i) * shape_.tokens() * s_.architecture.width;
  }

  void reserve() {
    const Index width = s_.architecture.width;
    const Index tokens = shape_.tokens();
    const Index rows = head_shape_.tokens();
    streams_.resize((static_cast<Index>(head()) + 1) * tokens * width);
    normed_.resize(rows * width);
    logits_.resize(rows * s_.options.vocab_size);
    for (Buffer<T>& d : d_stream_) d.resize(std::max(tokens, rows) * width);
    const std::size_t count = head() + (s_.architecture.decoder != nullptr ? 2 : 1);
    saved_offsets_.resize(count);
    Index saved = 0;
    Index scratch = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Shape& shape = i < head() ? shape_ : head_shape_;
      saved_offsets_[i] = saved;
      saved += arena_size(*block_at(i).arenas, Space::saved, shape);
      scratch = std::max(scratch, arena_size(*block_at(i).arenas, Space::scratch, shape));
    }
    saved_.resize(saved);
    scratch_.resize(scratch);
    if (s_.architecture.decoder != nullptr) {
      pooled_.resize(rows * width);
      decoded_.resize(rows * width);
    }
  }

  void run(std::size_t i, Phase phase, const Shape& shape, const T* x, T* y, const T* dy, T* dx, Lane<T>* lane) {
    const Block<T>& b = block_at(i);
    const ParameterLayout::Part part = part_at(i);
    Context<T> c(shape);
    c.parameters = s_.parameters.data() + part.parameters;
    c.constants = s_.constants.data() + part.constants;
    c.workspace = &workspace_;
    c.at(Space::input) = const_cast<T*>(x);
    c.at(Space::output) = y;
    s_.prologues[i].attach(c, *b.arenas);
    place_arena(c, *b.arenas, Space::saved, saved_.data() + saved_offsets_[i]);
    place_arena(c, *b.arenas, Space::scratch, scratch_.data());
    if (lane != nullptr) {
      c.at(Space::output_gradient) = const_cast<T*>(dy);
      c.at(Space::input_gradient) = dx;
      c.parameter_gradients = lane->gradients.data() + part.parameters;
      place_arena(c, *b.arenas, Space::accumulator, lane->accumulators.data() + s_.accumulator_offsets[i]);
    }
    b.run[static_cast<int>(phase)](c);
  }

  void embed(const MicroBatch& m) {
    const Index width = s_.architecture.width;
    const View<const T> table{s_.parameters.data() + s_.layout.token_embeds, width};
    const T* positions = s_.options.positions == Positions::learned ? s_.parameters.data() + s_.layout.position_embeds
                         : s_.options.positions == Positions::sinusoidal ? s_.sinusoids.data()
                                                                         : nullptr;
    for (Index b = 0; b < m.sequences; ++b) {
      T* rows = stream(0) + b * shape_.length * width;
      embedding_forward<T>({1, m.length, m.length}, m.inputs + b * m.length, table, s_.options.vocab_size, width,
                           {rows, width}, m.first_row + b);
      if (positions != nullptr)
        for (Index i = 0; i < m.length * width; ++i) rows[i] += positions[i];
      if (s_.layout.cls_token >= 0)
        std::copy_n(s_.parameters.data() + s_.layout.cls_token, width, rows + m.length * width);
    }
  }

  void embed_backward(const MicroBatch& m, const T* d_stream, Lane<T>& lane) {
    const Index width = s_.architecture.width;
    for (Index b = 0; b < m.sequences; ++b) {
      const T* rows = d_stream + b * shape_.length * width;
      embedding_backward<T>({1, m.length, m.length}, m.inputs + b * m.length, {rows, width}, s_.options.vocab_size,
                            width, {lane.gradients.data() + s_.layout.token_embeds, width}, m.first_row + b);
      if (s_.layout.position_embeds >= 0) {
        T* d = lane.gradients.data() + s_.layout.position_embeds;
        for (Index i = 0; i < m.length * width; ++i) d[i] += rows[i];
      }
      if (s_.layout.cls_token >= 0) {
        T* d = lane.gradients.data() + s_.layout.cls_token;
        for (Index i = 0; i < width; ++i) d[i] += rows[m.length * width + i];
      }
    }
  }

  //   y_n = z + P[n],  z = the last row or the mean of all rows:   dz = sum over n of dy_n
  void pool(const T* encoded) {
    const Index width = s_.architecture.width;
    const bool mean = s_.options.pooling == Pooling::average;
    for (Index b = 0; b < shape_.batch; ++b) {
      const T* rows = encoded + b * shape_.length * width;
      T* y = pooled_.data() + b * head_shape_.length * width;
      for (Index c = 0; c < width; ++c) {
        T z = rows[(shape_.length - 1) * width + c];
        if (mean) {
          z = 0;
          for (Index t = 0; t < shape_.length; ++t) z += rows[t * width + c];
          z /= static_cast<T>(shape_.length);
        }
        for (Index n = 0; n < head_shape_.length; ++n)
          y[n * width + c] = z + s_.sinusoids[static_cast<std::size_t>(n * width + c)];
      }
    }
  }

  void pool_backward(const T* dy, T* d_encoded) {
    const Index width = s_.architecture.width;
    const bool mean = s_.options.pooling == Pooling::average;
    for (Index b = 0; b < shape_.batch; ++b) {
      const T* d = dy + b * head_shape_.length * width;
      T* rows = d_encoded + b * shape_.length * width;
      for (Index c = 0; c < width; ++c) {
        T dz = 0;
        for (Index n = 0; n < head_shape_.length; ++n) dz += d[n * width + c];
        if (mean) dz /= static_cast<T>(shape_.length);
        for (Index t = 0; t < shape_.length; ++t) rows[t * width + c] = mean || t == shape_.length - 1 ? dz : T(0);
      }
    }
  }

  const Shared<T>& s_;
  Shape shape_;
  Shape head_shape_;
  Buffer<T> streams_, saved_, scratch_, normed_, logits_, pooled_, decoded_;
  Buffer<T> d_stream_[2];
  std::vector<Index> saved_offsets_;
  Workspace workspace_;
};

}  // namespace mad::cpu
