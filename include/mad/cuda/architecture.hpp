// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A model as the device sees it: a list of compiled blocks between an embedding and a head.
#pragma once

#include <mad/cuda/block.hpp>
#include <mad/models/parameter_layout.hpp>

#include <string>
#include <vector>

namespace mad::cuda {

/// The blocks of a model. From a type by `architecture<LanguageModel<...>, P>()` (architecture.cuh), or put together at
/// run time.
template <class P>
struct Architecture {
  Backbone backbone = Backbone::language_model;
  Norm norm = Norm::layer_norm;
  Index width = 0;
  std::vector<const Block<P>*> blocks;
  const Block<P>* head_norm = nullptr;
  const Block<P>* decoder = nullptr;  ///< of an auto-encoder

  /// The reference's identifier: shorthands joined by '-', such as mA-Sg-mA-Sg.
  std::string id() const {
    std::string text;
    for (const Block<P>* b : blocks) text += (text.empty() ? "" : "-") + std::string(b->shorthand);
    return text;
  }
};

}  // namespace mad::cuda
