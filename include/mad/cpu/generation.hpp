// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Language models token by token: each layer keeps what it needs, and text is generated from it.
#pragma once

#include <mad/core/message.hpp>
#include <mad/cpu/architecture.hpp>
#include <mad/cpu/kernels/linear_step.hpp>
#include <mad/cpu/layer_steps.hpp>
#include <mad/cpu/model.hpp>
#include <mad/models/sampling.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

namespace mad::cpu {

/// What `Architecture` is for training, for inference token by token.
template <class T>
struct StepArchitecture {
  Backbone backbone = Backbone::language_model;
  Index width = 0;
  std::vector<const StepBlock<T>*> blocks;
  const StepBlock<T>* head_norm = nullptr;
  const StepBlock<T>* decoder = nullptr;  ///< none: only language models go token by token
};

/// The blocks of a model type.
template <class M, class T>
StepArchitecture<T> step_architecture() {
  static_assert(M::backbone == Backbone::language_model,
                "mad: an auto-encoder cannot go token by token: it needs the whole input before it decodes. Use a "
                "LanguageModel.");
  StepArchitecture<T> a;
  if constexpr (M::backbone == Backbone::language_model) {  // the sentence above is the only error
    a.width = M::width;
    [&]<class... L>(LayerList<L...>) {
      (a.blocks.push_back(&step_block<Lowered<Residual<M::norm, L>, M::width>, T>), ...);
    }(typename M::Layers{});
    a.head_norm = &step_block<Lowered<HeadNorm<M::norm>, M::width>, T>;
  }
  return a;
}

/// A language model on its way through some sequences, a token of each at a time, on one thread. The logits are those
/// of the parallel form, up to rounding.
template <class T>
class TokenSteps {
public:
  /// For \p sequences sequences of up to \p length tokens, with a copy of \p parameters, which lie as
  /// `make_layout(architecture, options)` says. \throws UsageError if the sizes do not fit: a model with filters or
  /// position embeddings takes no more than `options.max_length` tokens.
  TokenSteps(StepArchitecture<T> architecture, const ModelOptions& options, std::span<const T> parameters,
             Index sequences, Index length)
      : architecture_(std::move(architecture)),
        options_(options),
        layout_(make_layout(architecture_, options)),
        sequences_(sequences),
        length_(length) {
    check_sizes(static_cast<Index>(parameters.size()));
    parameters_.resize(layout_.size);
    std::copy(parameters.begin(), parameters.end(), parameters_.data());
    constants_.resize(layout_.constants);
    if (options.positions == Positions::sinusoidal)
      sinusoids_ = sinusoidal_table<T>(options.max_length, architecture_.width);
    for (std::size_t i = 0; i < architecture_.blocks.size(); ++i) add(*architecture_.blocks[i], layout_.blocks[i]);
    add(*architecture_.head_norm, layout_.head_norm);
    for (Buffer<T>& stream : streams_) stream.resize(sequences * architecture_.width);
    logits_.resize(sequences * options.vocab_size);
  }

  TokenSteps(const TokenSteps&) = delete;
  TokenSteps& operator=(const TokenSteps&) = delete;

  const ModelOptions& options() const { return options_; }
  Index sequences() const { return sequences_; }
  Index length() const { return length_; }
  /// Tokens of each sequence so far.
  Index position() const { return position_; }

  /// Bytes that are kept from token to token: `M::state(length())` numbers for each sequence.
  Index state_bytes() const {
    Index numbers = 0;
    for (const LayerSteps<T>& layer : layers_) numbers += layer.state_size();
    return numbers * static_cast<Index>(sizeof(T));
  }

  /// Forgets all tokens.
  void reset() {
    for (LayerSteps<T>& layer : layers_) layer.reset();
    position_ = 0;
  }

  /// The next token of each sequence; returns the logits that follow it, (sequences, vocab_size), valid until the next
  /// step. \throws UsageError if there are not `sequences()` tokens, one is outside of the vocabulary, or `length()`
  /// tokens have been given already; nothing has changed then.
  View<const T> step(std::span<const int> tokens) {
    check_tokens(tokens);
    const Index width = architecture_.width;
    const T* positions = options_.positions == Positions::learned      ? parameters_.data() + layout_.position_embeds
                         : options_.positions == Positions::sinusoidal ? sinusoids_.data()
                                                                       : nullptr;
    T* x = streams_[0].data();
    T* y = streams_[1].data();
    for (Index b = 0; b < sequences_; ++b) {
      const T* row = parameters_.data() + layout_.token_embeds + tokens[static_cast<std::size_t>(b)] * width;
      for (Index c = 0; c < width; ++c)
        x[b * width + c] = positions == nullptr ? row[c] : row[c] + positions[position_ * width + c];
    }
    for (LayerSteps<T>& layer : layers_) {
      layer.step(position_, x, y, workspace_);
      std::swap(x, y);
    }
    const View<T> logits{logits_.data(), options_.vocab_size};
    linear_step<T>(sequences_, width, options_.vocab_size, {x, width}, parameters_.data() + layout_.head_weight,
                   parameters_.data() + layout_.head_bias, logits);
    ++position_;
    return logits;
  }

  /// Begins anew with \p prompt, (sequences, n) token ids row by row, and continues each sequence by \p count tokens;
  /// returns those, (sequences, count). Every sequence draws random numbers of its own, so that what becomes of it does
  /// not depend on how many others there are. \throws UsageError if a number or token makes no sense; nothing has
  /// changed then.
  std::vector<int> generate(std::span<const int> prompt, Index count, const Sampling& sampling = {}) {
    const Index given = check_request(prompt, count, sampling);
    std::vector<random::Generator> generators;
    for (Index b = 0; b < sequences_; ++b) {
      const std::array<std::uint32_t, 3> seed{static_cast<std::uint32_t>(sampling.seed),
                                              static_cast<std::uint32_t>(sampling.seed >> 32),
                                              static_cast<std::uint32_t>(b)};
      generators.emplace_back(random::SeedSequence(seed));
    }
    std::vector<int> tokens(static_cast<std::size_t>(sequences_));
    std::vector<int> continuation(static_cast<std::size_t>(sequences_ * count));
    reset();
    for (Index t = 0; t < given + count - 1; ++t) {
      for (Index b = 0; b < sequences_; ++b)
        tokens[static_cast<std::size_t>(b)] = t < given ? prompt[static_cast<std::size_t>(b * given + t)]
                                                        : continuation[static_cast<std::size_t>(b * count + t - given)];
      const View<const T> logits = step(tokens);
      if (t + 1 < given) continue;
      for (Index b = 0; b < sequences_; ++b)
        continuation[static_cast<std::size_t>(b * count + t + 1 - given)] =
            sample(logits.row(b), options_.vocab_size, sampling, generators[static_cast<std::size_t>(b)]);
    }
    return continuation;
  }

private:
  void add(const StepBlock<T>& block, ParameterLayout::Part part) {
    T* constants = constants_.data() + part.constants;
    fill_constants(block.parameters, options_.max_length, constants);
    layers_.emplace_back(block, sequences_, length_, options_.max_length);
    layers_.back().prepare(parameters_.data() + part.parameters, constants, workspace_);
  }

  void check_sizes(Index given) const {
    if (sequences_ < 1 || length_ < 1)
      throw UsageError(message({"generation: asked for ", sequences_, " sequences of up to ", length_,
                                " tokens; both numbers must be at least 1"}));
    if (given != layout_.size)
      throw UsageError(message({"generation: found ", given, " parameters, expected ", layout_.size,
                                "; the options must be those of the model they belong to"}));
    if (length_ <= options_.max_length) return;
    const auto too_long = [&](const std::string& what) {
      return UsageError(
          message({"generation: asked for sequences of up to ", length_, " tokens, but ", what, " made for max_length ",
                   options_.max_length, "; ask for shorter sequences or train with a larger max_length"}));
    };
    if (options_.positions != Positions::none) throw too_long("the position embeddings are");
    for (std::size_t i = 0; i < architecture_.blocks.size(); ++i)
      if (architecture_.blocks[i]->has_positions)
        throw too_long("layer " + std::to_string(i) + " (" + std::string(architecture_.blocks[i]->name) +
                       ") has filters");
  }

  void check_token(int token, Index sequence, Index position) const {
    if (token < 0 || token >= options_.vocab_size)
      throw UsageError(message({"generation: the token at position ", position, " of sequence ", sequence, " is ",
                                token, "; expected an id from 0 to ", options_.vocab_size - 1, " (vocabulary size ",
                                options_.vocab_size, ")"}));
  }

  void check_tokens(std::span<const int> tokens) const {
    if (static_cast<Index>(tokens.size()) != sequences_)
      throw UsageError(
          message({"generation: found ", tokens.size(), " tokens, expected ", sequences_, ": one for each sequence"}));
    if (position_ >= length_)
      throw UsageError(message({"generation: position ", position_, " is beyond the length of ", length_,
                                " tokens that memory was made for; call reset() or ask for more"}));
    for (Index b = 0; b < sequences_; ++b) check_token(tokens[static_cast<std::size_t>(b)], b, position_);
  }

  /// Returns the length of the prompts.
  Index check_request(std::span<const int> prompt, Index count, const Sampling& sampling) const {
    sampling.check();
    const auto size = static_cast<Index>(prompt.size());
    const Index given = size / sequences_;
    if (given < 1 || size % sequences_ != 0)
      throw UsageError(message({"generation: the prompt has ", size,
                                " tokens; expected the same number, at "
                                "least 1, for each of ",
                                sequences_, " sequences"}));
    if (count < 1) throw UsageError(message({"generation: asked for ", count, " tokens; expected at least 1"}));
    if (given + count - 1 > length_)
      throw UsageError(message({"generation: a prompt of ", given, " tokens and ", count, " more need a length of ",
                                given + count - 1, " (the last one is not read); memory was made for ", length_}));
    for (Index b = 0; b < sequences_; ++b)
      for (Index t = 0; t < given; ++t) check_token(prompt[static_cast<std::size_t>(b * given + t)], b, t);
    return given;
  }

  StepArchitecture<T> architecture_;
  ModelOptions options_;
  ParameterLayout layout_;
  Index sequences_;
  Index length_;
  Index position_ = 0;
  Buffer<T> parameters_, constants_;
  std::vector<T> sinusoids_;
  std::vector<LayerSteps<T>> layers_;  ///< blocks, then head norm
  Buffer<T> streams_[2];
  Buffer<T> logits_;
  Workspace workspace_;
};

/// Step-by-step inference of the language model \p M:
///
///     mad::cpu::Inference<M> inference(model, 1, 128);        // one sequence of up to 128 tokens
///     const auto logits = inference.step(std::array{token});  // or inference.generate(prompt, 20)
///
/// Parameters from a file: read them by `train::load_parameters(file, layout.infos, parameters.data())` with
/// `layout = Inference<M>::layout(options)` into `layout.size` numbers.
template <class M, class T = float>
class Inference : public TokenSteps<T> {
public:
  Inference(const ModelOptions& options, std::span<const T> parameters, Index sequences, Index length)
      : TokenSteps<T>(step_architecture<M, T>(), options, parameters, sequences, length) {}

  /// With the parameters that \p model has at this moment. \throws UsageError if it is not of type \p M.
  Inference(const Model<T>& model, Index sequences, Index length)
      : Inference(model.options(), parameters_of(model), sequences, length) {}

  /// Names and places of the parameters.
  static ParameterLayout layout(const ModelOptions& options) { return make_layout(step_architecture<M, T>(), options); }

private:
  static std::span<const T> parameters_of(const Model<T>& model) {
    const StepArchitecture<T> steps = step_architecture<M, T>();
    const Architecture<T>& trained = model.architecture();
    const auto same = [](const StepBlock<T>* a, const Block<T>* b) { return a->fingerprint == b->fingerprint; };
    if (trained.backbone != steps.backbone || trained.width != steps.width ||
        !std::ranges::equal(steps.blocks, trained.blocks, same) || !same(steps.head_norm, trained.head_norm))
      throw UsageError(
          message({"generation: the model is ", trained.id(), " of width ", trained.width,
                   ", with other layers, options or norms than the type that was named for its inference"}));
    return {model.parameters(), static_cast<std::size_t>(model.layout().size)};
  }
};

}  // namespace mad::cpu
