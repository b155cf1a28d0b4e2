// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A whole batch through a whole model, forward and backward: the memory of one shape, and the order of the work.
#pragma once

#include <mad/cuda/architecture.hpp>
#include <mad/cuda/batch.cuh>
#include <mad/cuda/embedding.cuh>
#include <mad/cuda/linear.cuh>

#include <utility>

namespace mad::cuda {

/// What a pass reads of the model.
template <class P>
struct Weights {
  const float* parameters = nullptr;
  const typename P::Activation* factors = nullptr;  ///< the parameters in the type of matrix products
  const float* constants = nullptr;
  const float* sinusoids = nullptr;  ///< (max_length, width), where the model adds them
};

/// The memory of a batch of one shape, and its way through the model. Memory is cut out of a block that passes of
/// several shapes may share, as long as they run on one queue.
template <class P>
class Pass {
public:
  using Activation = typename P::Activation;

  /// With a measuring \p cutter the pass can tell nothing but how much memory it wants.
  Pass(const Architecture<P>& architecture, const ModelOptions& options, const ParameterLayout& layout, Index batch,
       Index length, Cutter& cutter)
      : a_(architecture), o_(options), layout_(layout) {
    shape_ = {batch, length, block_max_length(a_.backbone, o_)};
    cut(cutter);
  }

  const Shape& shape() const { return shape_; }
  const DeviceBatch& batch() const { return batch_; }
  const float* logits() const { return logits_; }
  float* gradients() const { return gradients_; }

  /// Everything that is added to, set to zero. Comes before a batch is selected.
  void begin(Queue& queue) const { queue.zero(zeroed_, static_cast<std::size_t>(zeroed_bytes_)); }

  /// Logits of the selected batch. `begin` has run.
  void forward(Queue& queue, const Weights<P>& w) const {
    // What parameters alone determine is computed aside, one block ahead: many small kernels.
    std::size_t ahead = start_prologue(queue, w, 0, true);
    const Index width = a_.width;
    queue.release();
    const float* positions = layout_.position_embeds >= 0 ? w.parameters + layout_.position_embeds : w.sinusoids;
    embedding_forward<Activation>(queue, shape_, batch_.inputs, w.parameters + layout_.token_embeds, positions, width,
                                  stream(0));
    for (std::size_t i = 0; i <= depth(); ++i) {
      if (i == ahead) {
        queue.wait_for(queue.side());
        ahead = start_prologue(queue, w, i + 1, false);
      }
      run(queue, w, i, Phase::forward);
    }
    queue.release();
    linear_forward<Activation, float>(queue, shape_.tokens(), width, o_.vocab_size, {normed_, width},
                                      w.factors + layout_.head_weight, w.parameters + layout_.head_bias,
                                      {logits_, o_.vocab_size}, false);
  }

  /// Metrics of the last `forward`, and with `train` the gradient of its logits. Fills what \p n leaves open.
  void loss(Queue& queue, CrossEntropy<Activation> n, bool train) const {
    queue.release();
    n.logits = logits_;
    n.targets = batch_.targets;
    n.tally = batch_.tally;
    n.hits = reinterpret_cast<int*>(batch_.tally + 1);
    n.d_logits = train ? d_logits_ : nullptr;
    cross_entropy(queue, n, shape_.tokens(), o_.vocab_size);
  }

  /// The gradient of the mean loss, in `gradients()`.
  void backward(Queue& queue, const Weights<P>& w) {
    const Index width = a_.width;
    const Index rows = shape_.tokens();
    const View<const Activation> d_logits{d_logits_, o_.vocab_size};
    queue.release();
    linear_weight_gradient<Activation>(queue, rows, width, o_.vocab_size, d_logits, {normed_, width},
                                       gradients_ + layout_.head_weight, false);
    queue.release();
    add_row_sums<Activation>(queue, d_logits, rows, o_.vocab_size, gradients_ + layout_.head_bias);
    queue.release();
    dy_ = d_stream_[0];
    dx_ = d_stream_[1];
    linear_input_gradient<Activation, Activation>(queue, rows, width, o_.vocab_size, d_logits,
                                                  w.factors + layout_.head_weight, {}, {dy_, width}, false);
    for (std::size_t i = depth() + 1; i-- > 0;) {
      run(queue, w, i, Phase::backward);
      std::swap(dy_, dx_);
      if (block_at(i).arenas->has_epilogue) {
        queue.side().wait_for(queue);
        run(queue.side(), w, i, Phase::epilogue);
      }
    }
    queue.release();
    embedding_backward<Activation>(queue, shape_, batch_.inputs, dy_, o_.vocab_size, width,
                                   gradients_ + layout_.token_embeds,
                                   layout_.position_embeds >= 0 ? gradients_ + layout_.position_embeds : nullptr);
    if (any_epilogue()) queue.wait_for(queue.side());
  }

private:
  std::size_t depth() const { return a_.blocks.size(); }
  /// Block i; behind the last layer, the head's norm.
  const Block<P>& block_at(std::size_t i) const { return i < depth() ? *a_.blocks[i] : *a_.head_norm; }
  ParameterLayout::Part part_at(std::size_t i) const { return i < depth() ? layout_.blocks[i] : layout_.head_norm; }
  Activation* stream(std::size_t i) const {
    return i > depth() ? normed_ : streams_ + static_cast<Index>(i) * shape_.tokens() * a_.width;
  }

  /// Starts the next prologue from block i on; returns the block it belongs to, or one that does not exist.
  std::size_t start_prologue(Queue& queue, const Weights<P>& w, std::size_t i, bool first) const {
    while (i <= depth() && !block_at(i).arenas->has_prologue) ++i;
    if (i > depth()) return i;
    if (first) queue.side().wait_for(queue);
    run(queue.side(), w, i, Phase::prologue);
    return i;
  }
  bool any_epilogue() const {
    for (std::size_t i = 0; i <= depth(); ++i)
      if (block_at(i).arenas->has_epilogue) return true;
    return false;
  }

  static void place(Context<P>& c, const Arenas& arenas, Space space, Cutter& cutter) {
    for (int d = 0; d < domain_count; ++d) {
      const auto domain = static_cast<Domain>(d);
      c.at(space, domain) = cutter.take<std::byte>(arenas.bytes[static_cast<int>(space)][d] * rows_of(domain, c.shape));
    }
  }

  void cut(Cutter& cutter) {
    const Index width = a_.width;
    const Index tokens = shape_.tokens();
    contexts_.assign(depth() + 1, {});
    prepared_.assign(depth() + 1, {});
    // First what must be zero at the beginning of a step.
    const Index begin = cutter.used();
    gradients_ = cutter.take<float>(layout_.size);
    zeroed_ = gradients_;
    batch_.tally = cutter.take<Tally>(1 + 3 * o_.vocab_size);
    for (std::size_t i = 0; i <= depth(); ++i) {
      Context<P>& c = contexts_[i];
      c.shape = shape_;
      const Arenas& arenas = *block_at(i).arenas;
      place(c, arenas, Space::accumulator, cutter);
      place(c, arenas, Space::epilogue, cutter);
      if (arenas.prologue_adds) place(c, arenas, Space::prologue, cutter);
    }
    zeroed_bytes_ = cutter.used() - begin;
    batch_.inputs = cutter.take<int>(tokens);
    batch_.targets = cutter.take<int>(tokens);
    streams_ = cutter.take<Activation>(static_cast<Index>(depth() + 1) * tokens * width);
    normed_ = cutter.take<Activation>(tokens * width);
    logits_ = cutter.take<float>(tokens * o_.vocab_size);
    d_logits_ = cutter.take<Activation>(tokens * o_.vocab_size);
    for (Activation*& d : d_stream_) d = cutter.take<Activation>(tokens * width);
    for (std::size_t i = 0; i <= depth(); ++i) {
      Context<P>& c = contexts_[i];
      const Arenas& arenas = *block_at(i).arenas;
      place(c, arenas, Space::saved, cutter);
      if (!arenas.prologue_adds) place(c, arenas, Space::prologue, cutter);
      std::vector<Index> bytes(static_cast<std::size_t>(arenas.prepared_count));
      block_at(i).prepared_bytes(shape_, bytes.data());
      for (Index b : bytes) prepared_[i].push_back(cutter.take<std::byte>(b));
    }
    // All layers share one scratch arena.
    const Cutter before = cutter;
    Cutter end = cutter;
    for (Context<P>& c : contexts_) {
      cutter = before;
      place(c, *block_at(static_cast<std::size_t>(&c - contexts_.data())).arenas, Space::scratch, cutter);
      if (cutter.used() > end.used()) end = cutter;
    }
    cutter = end;
  }

  void run(Queue& queue, const Weights<P>& w, std::size_t i, Phase phase) const {
    Context<P> c = contexts_[i];
    const ParameterLayout::Part part = part_at(i);
    c.parameters = w.parameters + part.parameters;
    c.factors = w.factors + part.parameters;
    c.constants = w.constants + part.constants;
    c.parameter_gradients = gradients_ + part.parameters;
    c.prepared = prepared_[i].data();
    c.queue = &queue;
    c.at(Space::input) = reinterpret_cast<std::byte*>(stream(i));
    c.at(Space::output) = reinterpret_cast<std::byte*>(stream(i + 1));
    c.at(Space::output_gradient) = reinterpret_cast<std::byte*>(dy_);
    c.at(Space::input_gradient) = reinterpret_cast<std::byte*>(dx_);
    block_at(i).run[static_cast<int>(phase)](c);
  }

  const Architecture<P>& a_;
  const ModelOptions& o_;
  const ParameterLayout& layout_;
  Shape shape_;
  DeviceBatch batch_;
  float* gradients_ = nullptr;
  void* zeroed_ = nullptr;
  Index zeroed_bytes_ = 0;
  Activation* streams_ = nullptr;
  Activation* normed_ = nullptr;
  float* logits_ = nullptr;
  Activation* d_logits_ = nullptr;
  Activation* d_stream_[2]{};
  Activation* dy_ = nullptr;
  Activation* dx_ = nullptr;
  std::vector<Context<P>> contexts_;
  std::vector<std::vector<std::byte*>> prepared_;
};

}  // namespace mad::cuda
