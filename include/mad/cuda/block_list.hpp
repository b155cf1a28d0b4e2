// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The blocks that a program was compiled with, found again by what they compute.
#pragma once

#include <mad/cuda/architecture.hpp>
#include <mad/train/accelerator.hpp>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace mad::cuda {

/// All blocks of a program at a precision. Filled before `main` by the files that compile them (registration.cuh).
template <class P>
class BlockList {
public:
  static BlockList& of_program() {
    static BlockList list;
    return list;
  }

  void add(const Block<P>* block) { blocks_.push_back(block); }

  /// The model that is asked for. \throws UsageError if one of its blocks is not there.
  Architecture<P> architecture(const train::ModelRequest& request) const {
    Architecture<P> a;
    a.backbone = request.backbone;
    a.norm = request.norm;
    a.width = request.width;
    for (const train::ModelRequest::Block& wanted : request.blocks)
      a.blocks.push_back(find(wanted, "layer '" + wanted.name + "'", request.width));
    a.head_norm = find(request.head_norm, "backbone", request.width);
    if (a.backbone == Backbone::auto_encoder) a.decoder = find(request.decoder, "auto-encoder", request.width);
    return a;
  }

private:
  const Block<P>* find(const train::ModelRequest::Block& wanted, const std::string& what, Index width) const {
    std::set<int> widths;
    for (const Block<P>* b : blocks_) {
      if (b->name != wanted.name) continue;
      if (b->fingerprint == wanted.fingerprint) return b;
      widths.insert(b->width);
    }
    std::string others;
    for (const int w : widths)
      if (w != width) others += (others.empty() ? "" : ", ") + std::to_string(w);
    throw UsageError("device cuda: the " + what + " of width " + std::to_string(width) +
                     " was not compiled for it in this program (" + std::string(P::name) + "); " +
                     (others.empty() ? "use the device cpu" : "there is width " + others + ", or the device cpu"));
  }

  std::vector<const Block<P>*> blocks_;
};

}  // namespace mad::cuda
