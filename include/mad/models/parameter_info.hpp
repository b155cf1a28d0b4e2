// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What is known of a parameter at run time: its name, its place in the arena, and the marks the optimiser honours.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/graph/graph.hpp>

#include <string>
#include <vector>

namespace mad {

/// One parameter. All parameters of a model lie in one flat arena, in the order of their offsets; gradients and the
/// optimiser's moments have the same layout.
struct ParameterInfo {
  std::string name;          ///< the reference's, such as `model.3.1.in_proj.weight`
  std::vector<Index> shape;  ///< row-major; empty for a scalar
  Index offset = 0;          ///< first element in the arena
  Index size = 0;            ///< number of elements, the product of the shape
  Role role = Role::other;
  bool trained = true;       ///< false: the forward pass never reads it, the optimiser skips it, decay included
  bool decay = true;         ///< weight decay applies (`Fidelity::intended`; published decays everything)
  double learning_rate = 0;  ///< own rate (`Fidelity::intended`); not positive: the rate of the run
};

}  // namespace mad
