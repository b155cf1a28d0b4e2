// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A model on the CPU: parameters, gradients, and a training step that gives the same numbers on any number of threads.
#pragma once

#include <mad/core/message.hpp>
#include <mad/cpu/packets/packet_loop.hpp>
#include <mad/cpu/threads.hpp>
#include <mad/cpu/worker.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mad::cpu {

/// Rows of a dataset that form a batch. Inputs and targets are (rows, length) and (rows, target_length) arrays of token
/// ids; `rows` picks some of them, in order.
struct Batch {
  const int* inputs = nullptr;
  const int* targets = nullptr;
  Index length = 0;
  Index target_length = 0;
  std::span<const Index> rows;
};

/// What a model says of a batch, row by row.
template <class T>
struct BatchOutput {
  double loss = 0;                         ///< mean cross entropy over the positions that count, in nats
  Index counted = 0;                       ///< positions that count
  std::vector<T> negative_log_likelihood;  ///< (rows, target_length), 0 where ignored
  std::vector<int> predictions;            ///< (rows, target_length), the first of the largest logits
};

/// A language model or an auto-encoder with parameters of type T.
///
/// The batch is cut into micro-batches of whole sequences that stay in a core's cache; each goes through the whole
/// model on one thread. Gradients are added up in a fixed number of lanes, and the lanes in a fixed order: the number
/// of threads changes nothing in the result.
template <class T>
class Model {
public:
  using BatchType = Batch;
  using Output = BatchOutput<T>;

  static constexpr Index lanes = 16;
  static constexpr Index micro_batch_tokens = 512;

  /// \throws UsageError if the options do not fit the architecture.
  Model(Architecture<T> architecture, const ModelOptions& options, std::uint64_t seed, Threads& threads)
      : threads_(threads) {
    shared_.architecture = std::move(architecture);
    shared_.options = options;
    shared_.layout = make_layout(shared_.architecture, options);
    shared_.parameters.resize(shared_.layout.size);
    shared_.constants.resize(shared_.layout.constants);
    gradients_.resize(shared_.layout.size);
    gradients_.fill(T(0));
    initialize(shared_.architecture, options, shared_.layout, seed, shared_.parameters.data(),
               shared_.constants.data());
    if (shared_.architecture.backbone == Backbone::auto_encoder || options.positions == Positions::sinusoidal)
      shared_.sinusoids = sinusoidal_table<T>(options.max_length, shared_.architecture.width);
    shared_.prologues.resize(block_count());
    for (int i = 0; i < threads.count(); ++i) workers_.push_back(std::make_unique<Worker<T>>(shared_));
  }

  Model(const Model&) = delete;  // the threads' workers refer to it
  Model& operator=(const Model&) = delete;

  const Architecture<T>& architecture() const { return shared_.architecture; }
  const ModelOptions& options() const { return shared_.options; }
  const ParameterLayout& layout() const { return shared_.layout; }
  T* parameters() { return shared_.parameters.data(); }
  const T* parameters() const { return shared_.parameters.data(); }
  T* gradients() { return gradients_.data(); }
  Threads& threads() { return threads_; }

  /// Loss, predictions and, in `gradients()`, the gradient of the mean loss of a batch. A batch in which nothing counts
  /// has loss 0 and gradient 0.
  void gradient(const Batch& batch, BatchOutput<T>& out) {
    begin(batch, out);
    const double factor = out.counted > 0 ? 1.0 / static_cast<double>(out.counted) : 0.0;
    const Index pieces = micro_batches(batch);
    const Index used = std::min(pieces, lanes);
    lanes_.resize(static_cast<std::size_t>(lanes));
    std::vector<double> losses(static_cast<std::size_t>(pieces));
    threads_.run(used, [&](Index lane, int thread) {
      Lane<T>& to = lanes_[static_cast<std::size_t>(lane)];
      to.gradients.resize(shared_.layout.size);
      to.gradients.fill(T(0));
      to.accumulators.resize(shared_.accumulator_size);
      to.accumulators.fill(T(0));
      for (Index piece = lane; piece < pieces; piece += used) {
        Gathered g;
        const MicroBatch m = gather(batch, piece, g);
        losses[static_cast<std::size_t>(piece)] = forward(m, factor, out, thread);
        if (factor > 0) worker(thread).backward(m, to);
      }
    });
    finish(losses, factor, out);
    sum_lanes(used);
    run_epilogues();
  }

  /// Loss and predictions of a batch.
  void evaluate(const Batch& batch, BatchOutput<T>& out) {
    begin(batch, out);
    const Index pieces = micro_batches(batch);
    std::vector<double> losses(static_cast<std::size_t>(pieces));
    threads_.run(pieces, [&](Index piece, int thread) {
      Gathered g;
      const MicroBatch m = gather(batch, piece, g);
      losses[static_cast<std::size_t>(piece)] = forward(m, 0, out, thread);
    });
    finish(losses, out.counted > 0 ? 1.0 / static_cast<double>(out.counted) : 0.0, out);
  }

  /// One step of an optimiser (`begin_step` has been called) with the last gradient, on all threads.
  template <class Optimizer>
  void update(Optimizer& optimizer) {
    constexpr Index chunk = 1 << 14;
    const Index size = shared_.layout.size;
    threads_.run((size + chunk - 1) / chunk, [&](Index task, int) {
      optimizer.update(parameters(), gradients(), task * chunk, std::min((task + 1) * chunk, size));
    });
  }

  /// Logits (rows, positions, vocab_size) of a batch: what to look at, not what to train with.
  std::vector<T> logits(const Batch& batch) {
    BatchOutput<T> out;
    begin(batch, out);
    const Index row = batch.target_length * shared_.options.vocab_size;
    std::vector<T> all(static_cast<std::size_t>(static_cast<Index>(batch.rows.size()) * row));
    for (Index piece = 0; piece < micro_batches(batch); ++piece) {
      Gathered g;
      const MicroBatch m = gather(batch, piece, g);
      forward(m, 0, out, 0);
      std::copy_n(worker(0).logits().data, m.sequences * row, all.data() + m.first_row * row);
    }
    return all;
  }

  /// Bytes of gradients, lanes and the threads' memory, as reached so far.
  Index working_bytes() const {
    Index total = gradients_.bytes();
    for (const Lane<T>& lane : lanes_) total += lane.gradients.bytes() + lane.accumulators.bytes();
    for (const auto& w : workers_) total += w->bytes();
    return total;
  }

private:
  struct Gathered {
    std::vector<int> inputs;
    std::vector<int> targets;
  };

  std::size_t block_count() const {
    return shared_.architecture.blocks.size() + (shared_.architecture.decoder != nullptr ? 2 : 1);
  }
  Worker<T>& worker(int thread) { return *workers_[static_cast<std::size_t>(thread)]; }

  /// Whole sequences of about `micro_batch_tokens` tokens; two at least, which the long convolution takes as a pair.
  Index sequences_per_piece(const Batch& batch) const {
    const Index longest = std::max(batch.length, batch.target_length);
    return std::max<Index>(micro_batch_tokens / longest, 2);
  }
  Index micro_batches(const Batch& batch) const {
    const Index per = sequences_per_piece(batch);
    return (static_cast<Index>(batch.rows.size()) + per - 1) / per;
  }

  MicroBatch gather(const Batch& batch, Index piece, Gathered& g) const {
    const Index per = sequences_per_piece(batch);
    MicroBatch m;
    m.first_row = piece * per;
    m.sequences = std::min(per, static_cast<Index>(batch.rows.size()) - m.first_row);
    m.length = batch.length;
    m.target_length = batch.target_length;
    for (Index i = 0; i < m.sequences; ++i) {
      const Index row = batch.rows[static_cast<std::size_t>(m.first_row + i)];
      const int* in = batch.inputs + row * batch.length;
      const int* out = batch.targets + row * batch.target_length;
      g.inputs.insert(g.inputs.end(), in, in + batch.length);
      g.targets.insert(g.targets.end(), out, out + batch.target_length);
    }
    m.inputs = g.inputs.data();
    m.targets = g.targets.data();
    return m;
  }

  double forward(const MicroBatch& m, double factor, BatchOutput<T>& out, int thread) {
    const Index at = m.first_row * m.target_length;
    return worker(thread).forward(m, factor, out.negative_log_likelihood.data() + at, out.predictions.data() + at).sum;
  }

  void begin(const Batch& batch, BatchOutput<T>& out) {
    const ModelOptions& o = shared_.options;
    const bool encoder = shared_.architecture.backbone == Backbone::auto_encoder;
    if (batch.length > o.max_length)
      throw UsageError(
          message({"model: the inputs have ", batch.length, " positions, the model was made for max_length ",
                   o.max_length, "; make it with a larger max_length"}));
    const Index expected = encoder ? o.max_length : batch.length;
    if (batch.target_length != expected)
      throw UsageError(
          message({"model: the targets have ", batch.target_length, " positions, expected ", expected,
                   encoder ? " (an auto-encoder decodes max_length positions)" : " (as many as the inputs)"}));
    const Index positions = static_cast<Index>(batch.rows.size()) * batch.target_length;
    out.negative_log_likelihood.resize(static_cast<std::size_t>(positions));
    out.predictions.resize(static_cast<std::size_t>(positions));
    out.counted = 0;
    for (Index row : batch.rows)
      for (Index t = 0; t < batch.target_length; ++t)
        out.counted += batch.targets[row * batch.target_length + t] != ignored_target ? 1 : 0;
    run_prologues(batch);
  }

  void finish(const std::vector<double>& losses, double factor, BatchOutput<T>& out) const {
    out.loss = 0;
    for (double loss : losses) out.loss += loss;
    out.loss *= factor;
  }

  /// Block i, its place, and the shape of one sequence in it.
  template <class F>
  void for_each_block(const F& f) {
    const auto& a = shared_.architecture;
    for (std::size_t i = 0; i < a.blocks.size(); ++i) f(i, *a.blocks[i], shared_.layout.blocks[i], shape_);
    f(a.blocks.size(), *a.head_norm, shared_.layout.head_norm, head_shape_);
    if (a.decoder != nullptr) f(a.blocks.size() + 1, *a.decoder, shared_.layout.decoder, head_shape_);
  }

  void run_prologues(const Batch& batch) {
    const bool encoder = shared_.architecture.backbone == Backbone::auto_encoder;
    const Index extra = shared_.layout.cls_token >= 0 ? 1 : 0;
    shape_ = {1, batch.length + extra, block_max_length(shared_.architecture.backbone, shared_.options)};
    head_shape_ = encoder ? Shape{1, shared_.options.max_length, shared_.options.max_length} : shape_;
    shared_.accumulator_offsets.resize(block_count());
    shared_.accumulator_size = 0;
    for_each_block([&](std::size_t i, const Block<T>& b, ParameterLayout::Part part, const Shape& shape) {
      shared_.accumulator_offsets[i] = shared_.accumulator_size;
      shared_.accumulator_size += arena_size(*b.arenas, Space::accumulator, shape);
      shared_.prologues[i].run(b, shape, shared_.parameters.data() + part.parameters,
                               shared_.constants.data() + part.constants, worker(0).workspace());
    });
  }

  /// gradients = sum over lanes, in order; accumulators likewise, in the first lane.
  void sum_lanes(Index used) {
    constexpr Index chunk = 1 << 14;
    const Index size = shared_.layout.size;
    const Index chunks = (size + chunk - 1) / chunk;
    const Index more = (shared_.accumulator_size + chunk - 1) / chunk;
    threads_.run(chunks + more, [&](Index task, int) {
      const bool parameters = task < chunks;
      const Index begin = (parameters ? task : task - chunks) * chunk;
      const Index count = std::min(chunk, (parameters ? size : shared_.accumulator_size) - begin);
      const auto part = [&](Index lane) {
        Lane<T>& l = lanes_[static_cast<std::size_t>(lane)];
        return (parameters ? l.gradients : l.accumulators).data() + begin;
      };
      T* sum = parameters ? gradients_.data() + begin : part(0);
      if (parameters && used > 0) std::copy_n(part(0), count, sum);
      if (parameters && used == 0) std::fill_n(sum, count, T(0));
      for (Index lane = 1; lane < used; ++lane) add_elements<T>(sum, part(lane), count);
    });
  }

  void run_epilogues() {
    if (lanes_.empty()) return;
    for_each_block([&](std::size_t i, const Block<T>& b, ParameterLayout::Part part, const Shape& shape) {
      if (!b.arenas->has_epilogue) return;
      epilogue_.resize(arena_size(*b.arenas, Space::epilogue, shape));
      epilogue_.fill(T(0));
      Context<T> c(shape);
      c.parameters = shared_.parameters.data() + part.parameters;
      c.constants = shared_.constants.data() + part.constants;
      c.parameter_gradients = gradients_.data() + part.parameters;
      c.workspace = &worker(0).workspace();
      shared_.prologues[i].attach(c, *b.arenas);
      place_arena(c, *b.arenas, Space::accumulator, lanes_[0].accumulators.data() + shared_.accumulator_offsets[i]);
      place_arena(c, *b.arenas, Space::epilogue, epilogue_.data());
      b.run[static_cast<int>(Phase::epilogue)](c);
    });
  }

  Threads& threads_;
  Shared<T> shared_;
  Buffer<T> gradients_;
  Buffer<T> epilogue_;
  std::vector<Lane<T>> lanes_;
  std::vector<std::unique_ptr<Worker<T>>> workers_;
  Shape shape_;
  Shape head_shape_;
};

}  // namespace mad::cpu
