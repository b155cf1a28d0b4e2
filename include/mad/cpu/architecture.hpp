// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A model as the CPU sees it: a list of compiled blocks between an embedding and a head.
#pragma once

#include <mad/cpu/block.hpp>
#include <mad/models/parameter_layout.hpp>

#include <string>
#include <vector>

namespace mad::cpu {

/// The blocks of a model. From a type by `architecture<LanguageModel<...>, T>()`, or put together at run time.
template <class T>
struct Architecture {
  Backbone backbone = Backbone::language_model;
  Norm norm = Norm::layer_norm;
  Index width = 0;
  std::vector<const Block<T>*> blocks;
  const Block<T>* head_norm = nullptr;
  const Block<T>* decoder = nullptr;  ///< of an auto-encoder

  /// The reference's identifier: shorthands joined by '-', such as mA-Sg-mA-Sg.
  std::string id() const {
    std::string text;
    for (const Block<T>* b : blocks) text += (text.empty() ? "" : "-") + std::string(b->shorthand);
    return text;
  }
};

namespace architecture_detail {

template <class T, int Width, Norm N, class... L>
void append_blocks(Architecture<T>& a, LayerList<L...>) {
  (a.blocks.push_back(&block<Lowered<Residual<N, L>, Width>, T>), ...);
}

}  // namespace architecture_detail

/// The blocks of a model type.
template <class Model, class T>
Architecture<T> architecture() {
  Architecture<T> a;
  a.backbone = Model::backbone;
  a.norm = Model::norm;
  a.width = Model::width;
  architecture_detail::append_blocks<T, Model::width, Model::norm>(a, typename Model::Layers{});
  a.head_norm = &block<Lowered<HeadNorm<Model::norm>, Model::width>, T>;
  if constexpr (Model::backbone == Backbone::auto_encoder)
    a.decoder = &block<Lowered<Decoder<Model::norm>, Model::width>, T>;
  return a;
}

}  // namespace mad::cpu
