// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Backbones: a stack with embedding and head, as a language model or as an auto-encoder.
#pragma once

#include <mad/models/stack.hpp>

#include <mad/core/error.hpp>

#include <string>

namespace mad {

enum class Backbone {
  language_model,  ///< predicts a token at every position
  auto_encoder,    ///< encodes the whole input in one vector and decodes every position from it
};

/// How the auto-encoder makes one vector of a sequence.
enum class Pooling {
  last,     ///< the last position
  cls,      ///< a learned token appended after the last position
  average,  ///< the mean of all positions
};

/// Position embeddings added to the token embeddings.
enum class Positions {
  none,
  learned,     ///< a table, one row per position of max_length
  sinusoidal,  ///< a constant (Vaswani et al. 2017)
};

/// What is known of a model only at run time.
struct ModelOptions {
  Index vocab_size = 16;
  /// Positions that filters, position tables and the auto-encoder's decoder are made for.
  Index max_length = 128;
  Positions positions = Positions::none;
  Pooling pooling = Pooling::last;
};

/// `Net` (a stack or a layer) between a token embedding and a head: logits = linear(norm(stack(embedding(tokens)))).
/// Parameters are called as in the reference: `token_embeds.weight`, `model.i.0.*` (norm), `model.i.1.*` (layer),
/// `unembed.0.*`, `unembed.1.*`.
template <class Net, int Width = 128, Norm N = Norm::layer_norm>
struct LanguageModel {
  using Layers = LayersOf<Net>;
  static constexpr Backbone backbone = Backbone::language_model;
  static constexpr int width = Width;
  static constexpr Norm norm = N;
  static constexpr int depth = Layers::size;
  static_assert(stack_detail::Check<Width, Layers>::value);

  static constexpr Index parameters(const ModelOptions& o) {
    const Index embeddings = o.vocab_size * Width * 2 + o.vocab_size;
    const Index head = parameter_count(Lowered<HeadNorm<N>, Width>::graph, 1);
    const Index positions = o.positions == Positions::learned ? o.max_length * Width : 0;
    return embeddings + head + positions + Cost<Layers, Width, N>::parameters(o.max_length);
  }
  static constexpr double flops_per_token(const ModelOptions& o, Index length) {
    return Cost<Layers, Width, N>::flops_per_token(length) + 2.0 * Width * static_cast<double>(o.vocab_size);
  }
  static constexpr Index state(Index length) { return Cost<Layers, Width, N>::state(length); }
};

/// `Net` as an encoder whose output is pooled into one vector z; every position n is decoded from z + P[n] with the
/// sinusoidal table P, by norm, linear, GELU, norm, linear, GELU, and the head. Always decodes max_length positions.
/// Parameters: `token_embeds.weight`, `encoder.i.0.*`, `encoder.i.1.*`, `cls_token` (pooling cls), `decoder.*`,
/// `unembed.0.*`, `unembed.1.*`.
template <class Net, int Width = 128, Norm N = Norm::rms_norm>
struct AutoEncoder {
  using Layers = LayersOf<Net>;
  static constexpr Backbone backbone = Backbone::auto_encoder;
  static constexpr int width = Width;
  static constexpr Norm norm = N;
  static constexpr int depth = Layers::size;
  static_assert(stack_detail::Check<Width, Layers>::value);

  static constexpr Index parameters(const ModelOptions& o) {
    const Index embeddings = o.vocab_size * Width * 2 + o.vocab_size + (o.pooling == Pooling::cls ? Width : 0);
    const Index head = parameter_count(Lowered<HeadNorm<N>, Width>::graph, 1);
    const Index decoder = parameter_count(Lowered<Decoder<N>, Width>::graph, 1);
    const Index positions = o.positions == Positions::learned ? o.max_length * Width : 0;
    const Index grid = o.max_length + (o.pooling == Pooling::cls ? 1 : 0);
    return embeddings + head + decoder + positions + Cost<Layers, Width, N>::parameters(grid);
  }
};

}  // namespace mad
