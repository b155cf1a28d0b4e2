// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compiles all layers of a model type.
#pragma once

#include <mad/cuda/architecture.hpp>
#include <mad/cuda/layer.cuh>

namespace mad::cuda {

namespace architecture_detail {

template <class P, int Width, Norm N, class... L>
void append_blocks(Architecture<P>& a, LayerList<L...>) {
  (a.blocks.push_back(&block<DeviceLowered<Residual<N, L>, Width, P>, P>), ...);
}

}  // namespace architecture_detail

/// The blocks of a model type at a precision.
template <class Model, class P>
Architecture<P> architecture() {
  Architecture<P> a;
  a.backbone = Model::backbone;
  a.norm = Model::norm;
  a.width = Model::width;
  architecture_detail::append_blocks<P, Model::width, Model::norm>(a, typename Model::Layers{});
  a.head_norm = &block<DeviceLowered<HeadNorm<Model::norm>, Model::width, P>, P>;
  if constexpr (Model::backbone == Backbone::auto_encoder)
    a.decoder = &block<DeviceLowered<Decoder<Model::norm>, Model::width, P>, P>;
  return a;
}

}  // namespace mad::cuda
