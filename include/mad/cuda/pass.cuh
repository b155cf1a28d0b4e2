// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A whole batch through a whole model, forward and backward: the memory of one shape, and the order of the work.
#pragma once

#include <mad/cuda/architecture.hpp>
#include <mad/cuda/batch.cuh>
#include <mad/cuda/kernels/embedding.cuh>
#include <mad/cuda/kernels/linear.cuh>
#include <mad/cuda/kernels/normed_output_head.cuh>
#include <mad/cuda/kernels/output_head.cuh>
#include <mad/cuda/kernels/pooling.cuh>
#include <mad/cuda/kernels/put_off_products.cuh>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
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

/// What takes most of a pass's memory, in words.
inline std::string activations_of(Index micro_batch, Index batch, Index length) {
  const Index sequences = micro_batch > 0 ? std::min(micro_batch, batch) : batch;
  return "the activations of " + std::to_string(sequences) + " sequences of " + std::to_string(length) + " tokens";
}

/// Sequences of a batch that go through the model together.
struct Part {
  Index first = 0;
  Index sequences = 0;
  bool is_first = true;
  bool is_last = true;
};

/// The memory of a batch of one shape, and its way through the model, whole or in parts of whole sequences: what one
/// part needs is memory enough, since gradients are added up. Memory is cut out of a block that passes of several
/// shapes may share, as long as they run on one queue.
template <class P>
class Pass {
public:
  using Activation = typename P::Activation;

  /// For sequences of `length` tokens, of which `micro_batch` go through the model at a time (0: all). With a measuring
  /// \p cutter the pass can tell nothing but how much memory it wants.
  Pass(const Architecture<P>& architecture, const ModelOptions& options, const ParameterLayout& layout, Index batch,
       Index micro_batch, Index length, Cutter& cutter)
      : a_(architecture),
        o_(options),
        layout_(layout),
        most_(micro_batch > 0 ? std::min(micro_batch, batch) : batch),
        shape_{batch, length + (layout.cls_token >= 0 ? 1 : 0), block_max_length(a_.backbone, o_)},
        head_shape_(is_encoder() ? Shape{batch, o_.max_length, o_.max_length} : shape_) {
    for (std::size_t i = 0; i < a_.blocks.size(); ++i)
      stages_.push_back({.block = a_.blocks[i], .part = layout.blocks[i], .shape = of(shape_, most_)});
    if (is_encoder()) stages_.push_back({.block = a_.decoder, .part = layout.decoder, .shape = of(head_shape_, most_)});
    stages_.push_back({.block = a_.head_norm, .part = layout.head_norm, .shape = of(head_shape_, most_)});
    cut(cutter);
  }

  /// Of what the model reads, and of what it predicts.
  const Shape& shape() const { return shape_; }
  const Shape& head_shape() const { return head_shape_; }
  const DeviceBatch& batch() const { return batch_; }
  /// The logits of the last part, for so many sequences.
  const float* logits() const { return logits_; }
  Index logit_sequences() const { return (shape_.batch - 1) % most_ + 1; }
  float* gradients() const { return gradients_; }

  /// What knows no batch, and comes before one is selected: the first prologue begins, and everything that is added to
  /// is set to zero. Prologues wait for that only if one of them adds.
  void begin(Queue& queue, const Weights<P>& w) const {
    const bool adds =
        std::any_of(stages_.begin(), stages_.end(), [](const Stage& s) { return s.block->arenas->prologue_adds; });
    if (!adds) start_prologue(queue, w, 0);
    queue.zero(zeroed_, static_cast<std::size_t>(zeroed_bytes_));
    if (adds) start_prologue(queue, w, 0);
  }

  /// True if the model takes all sequences of a batch at once: then their embedding may come before `run`.
  bool is_whole() const { return most_ >= shape_.batch; }
  /// The embedding of the batch, of ids as it takes them.
  template <class Ids>
  void embed(Queue& queue, const Weights<P>& w, const Ids& ids) const {
    queue.release();
    embedding_forward(queue, shape_, ids, embedding_tables(w), a_.width, stages_.front().x);
  }

  /// The selected batch: its metrics, and with `train` the gradient of its mean loss, in `gradients()`. Fills what \p n
  /// leaves open. `begin` has run, and `embed` if the batch \p is_embedded.
  void run(Queue& queue, const Weights<P>& w, const CrossEntropy<Activation>& n, bool train, bool is_embedded = false) {
    queue.begin_aside();  // from here on it is recorded with this one
    for (Index first = 0; first < shape_.batch; first += most_) {
      const Index sequences = std::min(most_, shape_.batch - first);
      const Part part{first, sequences, first == 0, first + sequences == shape_.batch};
      forward(queue, w, part, is_embedded);
      const std::optional<NormSums> head_norm = loss(queue, w, n, part, train);
      if (train)
        backward(queue, w, part, head_norm);
      else
        queue.wait_for(queue.side());
    }
    queue.wait_for_parameters();
  }

private:
  /// Bytes up to which a second scratch arena is worth its memory.
  static constexpr Index largest_second_scratch = Index{512} << 20;

  /// A block in its place: the layers, an auto-encoder's decoder, the head's norm.
  struct Stage {
    const Block<P>* block = nullptr;
    ParameterLayout::Part part;
    Shape shape;
    Activation* x = nullptr;  ///< what it reads
    Activation* y = nullptr;  ///< what it writes
    Context<P> context = {};
    std::vector<std::byte*> prepared = {};
  };

  /// What the head's kernel has left of the gradient of the norm in front of it, which it has computed along.
  struct NormSums {
    NormOfRows norm;
    Index blocks;
    float* partial;  ///< (blocks, 2 x width)
  };

  bool is_encoder() const { return a_.backbone == Backbone::auto_encoder; }
  bool begins_decoder(std::size_t i) const { return is_encoder() && i == a_.blocks.size(); }
  Activation* normed() const { return stages_.back().y; }
  static Shape of(Shape shape, Index sequences) {
    shape.batch = sequences;
    return shape;
  }
  const int* inputs(const Part& part) const { return batch_.inputs + part.first * batch_.input_stride; }

  /// What the logits of a part are made of.
  void forward(Queue& queue, const Weights<P>& w, const Part& part, bool is_embedded) const {
    // What parameters alone determine is computed beside, one block ahead: many small kernels. All parts read it.
    std::size_t ahead = part.is_first ? next_prologue(0) : stages_.size();  // `begin` has started it
    const Index width = a_.width;
    const Shape shape = of(shape_, part.sequences);
    const Shape head_shape = of(head_shape_, part.sequences);
    queue.release();
    if (!is_embedded)
      embedding_forward(queue, shape, GivenIds{inputs(part)}, embedding_tables(w), width, stages_.front().x);
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (begins_decoder(i)) {
        queue.release();
        pool_forward<Activation>(queue, shape, head_shape, o_.pooling, width, encoded_, w.sinusoids, stages_[i].x);
      }
      run_phase(queue, w, stages_[i], part.sequences, Phase::forward, {.leaves_norm = i + 1 == stages_.size()});
      if (i == ahead) ahead = start_prologue(queue, w, i + 1);
    }
    if (part.is_first) queue.wait_for_group(queue.group() - 1);  // a prologue that no step of the forward pass reads
  }

  /// Logits and losses of the last `forward`, and with `train` the gradients of the logits and of what they are made
  /// of; or of what the norm in front is made of, if that was left to the head.
  std::optional<NormSums> loss(Queue& queue, const Weights<P>& w, CrossEntropy<Activation> n, const Part& part,
                               bool train) const {
    queue.release();
    const Index width = a_.width;
    const Index classes = o_.vocab_size;
    const Index rows = part.sequences * head_shape_.length;
    const Activation* weight = w.factors + layout_.head_weight;
    const float* bias = w.parameters + layout_.head_bias;
    Activation* dx = train ? d_stream_[0] : nullptr;
    const Index before = part.first * head_shape_.length;
    n.logits = logits_;
    n.targets = batch_.targets + before;
    if (n.negative_log_likelihood != nullptr) n.negative_log_likelihood += before;
    if (n.prediction != nullptr) n.prediction += before;
    n.is_last = part.is_last;
    n.tally = batch_.tally;
    n.hits = reinterpret_cast<int*>(batch_.tally + 1);
    n.d_logits = train ? d_logits_ : nullptr;
    if constexpr (std::is_same_v<Activation, BFloat16>) {
      float* logits = n.negative_log_likelihood != nullptr ? logits_ : nullptr;  // who asks for one asks for both
      if (is_norm_put_off(queue) && takes_normed_head(*queue.put_off()->norm, classes, weight, dx)) {
        NormSums sums{take_norm(queue), normed_head_blocks(queue, rows), nullptr};
        if (train) sums.partial = queue.template take_for_aside<float>(sums.blocks * 2 * width);
        if (!train) sums.norm.y = nullptr;  // only the gradient of the head's weight reads it
        normed_output_head(queue, sums.norm, {nullptr, weight, bias, logits, dx}, n, rows, classes, sums.partial);
        return sums;
      }
      queue.start_products();
      if (takes_output_head(width, classes, normed(), weight)) {
        output_head(queue, {normed(), weight, bias, logits, dx}, n, rows, width, classes);
        return {};
      }
    }
    linear_forward<Activation, float>(queue, rows, width, classes, {normed(), width}, weight, bias, {},
                                      {logits_, classes}, false);
    queue.release();
    cross_entropy(queue, n, rows, classes);
    if (!train) return {};
    queue.release();
    linear_input_gradient<Activation, Activation>(queue, rows, width, classes, {d_logits_, classes}, weight, {},
                                                  {dx, width}, false);
    return {};
  }

  /// Adds a part's share of the gradient of the mean loss; after the last part it is whole.
  void backward(Queue& queue, const Weights<P>& w, const Part& part, const std::optional<NormSums>& head_norm) {
    const Index width = a_.width;
    const Shape shape = of(shape_, part.sequences);
    const Shape head_shape = of(head_shape_, part.sequences);
    const Index rows = head_shape.tokens();
    const View<const Activation> d_logits{d_logits_, o_.vocab_size};
    // Gradients of parameters are computed aside; those of the stream do not wait for them.
    Queue& side = queue.begin_aside();
    linear_weight_gradient<Activation>(side, rows, width, o_.vocab_size, d_logits, {normed(), width},
                                       gradients_ + layout_.head_weight, false, true);
    if (!defer_row_sums(side, d_logits, rows, o_.vocab_size, gradients_ + layout_.head_bias, true)) {
      side.release();
      add_row_sums<Activation>(side, d_logits, rows, o_.vocab_size, gradients_ + layout_.head_bias);
    }
    queue.release();
    std::size_t turn = 0;
    const auto next = [&] {
      dy_ = d_stream_[turn % d_stream_.size()];
      dx_ = d_stream_[++turn % d_stream_.size()];
    };
    next();
    std::size_t behind = stages_.size();
    if (head_norm) {
      --behind;
      const NormOfRows& norm = head_norm->norm;
      const auto gradient_of = [&](const float* parameter) { return gradients_ + (parameter - w.parameters); };
      add_row_sums<float>(side, {head_norm->partial, 2 * width}, head_norm->blocks, width, gradient_of(norm.weight),
                          width, norm.bias != nullptr ? gradient_of(norm.bias) : nullptr);
    }
    for (std::size_t i = behind; i-- > 0;) {
      const bool has_epilogue = part.is_last && stages_[i].block->arenas->has_epilogue;
      // Nothing comes after the first layer that its epilogue could run beside, so that it begins as soon as it can.
      const bool at_once = has_epilogue && i == 0;
      run_phase(queue, w, stages_[i], part.sequences, Phase::backward, {.with_epilogue = at_once});
      next();
      if (begins_decoder(i)) {
        queue.wait_for(side);  // the decoder's gradients read what is written now
        queue.release();
        pool_backward<Activation>(queue, shape, head_shape, o_.pooling, width, dy_, dx_);
        next();
      }
      if (has_epilogue && !at_once) run_phase(queue, w, stages_[i], part.sequences, Phase::epilogue);
      if (i + 1 < stages_.size()) queue.end_group_aside();  // the head's gradients go along with the last layer's
    }
    queue.release();
    const auto gradient = [&](Index offset) { return offset >= 0 ? gradients_ + offset : nullptr; };
    embedding_backward<Activation>(
        queue, shape, inputs(part), dy_, o_.vocab_size, width,
        {gradient(layout_.token_embeds), gradient(layout_.position_embeds), gradient(layout_.cls_token)});
    queue.wait_for(side);
  }

  EmbeddingTables<const float> embedding_tables(const Weights<P>& w) const {
    const auto table = [&](Index offset) { return offset >= 0 ? w.parameters + offset : nullptr; };
    return {table(layout_.token_embeds),
            o_.positions == Positions::sinusoidal ? w.sinusoids : table(layout_.position_embeds),
            table(layout_.cls_token)};
  }

  /// The first stage from i on that has a prologue.
  std::size_t next_prologue(std::size_t i) const {
    while (i < stages_.size() && !stages_[i].block->arenas->has_prologue) ++i;
    return i;
  }
  /// Starts the next prologue from stage i on beside; returns the stage it belongs to, or one that does not exist. The
  /// steps that read its values wait for it. Nothing that \p queue computes in this pass is read by it.
  std::size_t start_prologue(Queue& queue, const Weights<P>& w, std::size_t i) const {
    const bool is_first = i == 0;
    i = next_prologue(i);
    if (i == stages_.size()) return i;
    const Stage& stage = stages_[i];
    run_phase(is_first ? queue.begin_for_parameters() : queue.for_parameters(), w, stage, most_, Phase::prologue);
    for (int d = 0; d < domain_count; ++d) {
      const auto domain = static_cast<Domain>(d);
      const std::byte* begin = stage.context.arena[static_cast<int>(Space::prologue)][d];
      const Index bytes =
          stage.block->arenas->bytes[static_cast<int>(Space::prologue)][d] * rows_of(domain, stage.shape);
      if (bytes > 0) queue.reserve_aside({begin, begin + bytes}, true);
    }
    for (const std::byte* begin : stage.prepared) queue.reserve_aside({begin, begin + 1}, true);
    queue.end_group_for_parameters();
    return i;
  }

  static void place(Stage& stage, Space space, Cutter& cutter) {
    for (int d = 0; d < domain_count; ++d) {
      const auto domain = static_cast<Domain>(d);
      stage.context.at(space, domain) =
          cutter.take<std::byte>(stage.block->arenas->bytes[static_cast<int>(space)][d] * rows_of(domain, stage.shape));
    }
  }

  void cut(Cutter& cutter) {
    const Index width = a_.width;
    const Index tokens = most_ * shape_.length;
    const Index head_tokens = most_ * head_shape_.length;
    // First what must be zero at the beginning of a step.
    const Index begin = cutter.used();
    gradients_ = cutter.take<float>(layout_.size);
    zeroed_ = gradients_;
    const Index counts = 3 * o_.vocab_size * static_cast<Index>(sizeof(int));
    batch_.tally = reinterpret_cast<Tally*>(cutter.take<std::byte>(static_cast<Index>(sizeof(Tally)) + counts));
    for (Stage& stage : stages_) {
      stage.context.shape = stage.shape;
      place(stage, Space::accumulator, cutter);
      place(stage, Space::epilogue, cutter);
      if (stage.block->arenas->prologue_adds) place(stage, Space::prologue, cutter);
    }
    zeroed_bytes_ = cutter.used() - begin;
    batch_.inputs = cutter.take<int>(shape_.tokens());
    batch_.input_stride = shape_.length;
    batch_.targets = cutter.take<int>(head_shape_.tokens());
    Activation* between = cutter.take<Activation>(tokens * width);
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (begins_decoder(i)) {
        encoded_ = between;
        between = cutter.take<Activation>(head_tokens * width);
      }
      stages_[i].x = between;
      between = cutter.take<Activation>(stages_[i].shape.tokens() * width);
      stages_[i].y = between;
    }
    logits_ = cutter.take<float>(head_tokens * o_.vocab_size);
    d_logits_ = cutter.take<Activation>(head_tokens * o_.vocab_size);
    for (Activation*& d : d_stream_) d = cutter.take<Activation>(std::max(tokens, head_tokens) * width);
    for (Stage& stage : stages_) {
      const Arenas& arenas = *stage.block->arenas;
      place(stage, Space::saved, cutter);
      if (!arenas.prologue_adds) place(stage, Space::prologue, cutter);
      std::vector<Index> bytes(static_cast<std::size_t>(arenas.prepared_count));
      stage.block->prepared_bytes(stage.shape, bytes.data());
      for (Index b : bytes) stage.prepared.push_back(cutter.take<std::byte>(std::max<Index>(b, 1)));
    }
    // All layers share one scratch arena; or they take turns with two, so that what a layer has put aside does not keep
    // the next one waiting. Whoever asks for parts wants less memory.
    Index largest = 0;
    for (Stage& stage : stages_) {
      Cutter measure;
      place(stage, Space::scratch, measure);
      largest = std::max(largest, measure.used());
    }
    std::byte* arena[2];
    arena[0] = cutter.take<std::byte>(largest);
    const bool twice = most_ == shape_.batch && largest <= largest_second_scratch;
    arena[1] = twice ? cutter.take<std::byte>(largest) : arena[0];
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      Cutter own(arena[i % 2]);
      place(stages_[i], Space::scratch, own);
    }
  }

  /// What a phase does besides; see Context.
  struct Besides {
    bool with_epilogue = false;
    bool leaves_norm = false;
  };

  void run_phase(Queue& queue, const Weights<P>& w, const Stage& stage, Index sequences, Phase phase,
                 Besides besides = {}) const {
    Context<P> c = stage.context;
    c.with_epilogue = besides.with_epilogue;
    c.leaves_norm = besides.leaves_norm;
    c.shape.batch = sequences;
    c.parameters = w.parameters + stage.part.parameters;
    c.factors = w.factors + stage.part.parameters;
    c.constants = w.constants + stage.part.constants;
    c.parameter_gradients = gradients_ + stage.part.parameters;
    c.prepared = stage.prepared.data();
    c.queue = &queue;
    c.at(Space::input) = reinterpret_cast<std::byte*>(stage.x);
    c.at(Space::output) = reinterpret_cast<std::byte*>(stage.y);
    c.at(Space::output_gradient) = reinterpret_cast<std::byte*>(dy_);
    c.at(Space::input_gradient) = reinterpret_cast<std::byte*>(dx_);
    stage.block->run[static_cast<int>(phase)](c);
  }

  const Architecture<P>& a_;
  const ModelOptions& o_;
  const ParameterLayout& layout_;
  Index most_;  ///< sequences of a part
  Shape shape_;
  Shape head_shape_;
  std::vector<Stage> stages_;
  DeviceBatch batch_;
  float* gradients_ = nullptr;
  void* zeroed_ = nullptr;
  Index zeroed_bytes_ = 0;
  Activation* encoded_ = nullptr;  ///< what an auto-encoder pools
  float* logits_ = nullptr;
  Activation* d_logits_ = nullptr;
  std::array<Activation*, 3> d_stream_{};  ///< in turn, from the first on; the one before last may still be read aside
  Activation* dy_ = nullptr;
  Activation* dx_ = nullptr;
};

}  // namespace mad::cuda
