// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What layers and models cost at any width, compiled for it or not.
#pragma once

#include <mad/cli/layer_registry.hpp>
#include <mad/core/error.hpp>
#include <mad/graph/cost.hpp>

#include <memory>
#include <string>
#include <vector>

namespace mad::cli {

/// Exact counts, as `mad::Cost` gives them at compile time.
struct LayerCost {
  Index parameters = 0;
  double flops_per_token = 0;  ///< of the forward pass
  Index state = 0;             ///< numbers that step-by-step inference keeps for one sequence

  LayerCost& operator+=(const LayerCost& other) {
    parameters += other.parameters;
    flops_per_token += other.flops_per_token;
    state += other.state;
    return *this;
  }
};

/// Sizes that costs depend on.
struct CostSizes {
  int width = 128;
  Index length = 128;      ///< of the sequences
  Index max_length = 128;  ///< positions that filters are made for
};

namespace detail {

inline std::string fault_text(const Graph& g) {
  const std::string a = std::to_string(g.fault_a);
  const std::string b = std::to_string(g.fault_b);
  switch (g.fault) {
    case Fault::none:
      return "";
    case Fault::widths_differ:
      return "two values that must have the same width have widths " + a + " and " + b;
    case Fault::slice_outside:
      return "a slice reaches column " + a + " of a value of " + b + " columns";
    case Fault::not_divisible:
      return a + " must be a multiple of " + b;
    case Fault::wrong_domain:
      return "an operation got rows of the wrong kind";
    case Fault::bad_option:
      return "an option has the value " + a + ", its limit at this width is " + b;
    case Fault::too_many_nodes:
      return "its graph needs " + a + " nodes, the limit is " + b;
    case Fault::too_many_parameters:
      return "it has " + a + " parameters, the limit is " + b;
    case Fault::name_too_long:
      return "a parameter's name has more than " + b + " characters";
    case Fault::name_repeated:
      return "two of its parameters have the same name";
    case Fault::no_adjoint:
      return "an operation has no adjoint rule";
  }
  return "";
}

/// Costs of what `describe` makes of an input of the given width.
template <class Describe>
LayerCost count(const std::string& what, const CostSizes& sizes, const Describe& describe) {
  const auto graph = std::make_unique<Graph>();
  Node input;
  input.op = &ops::input_op;
  input.width = sizes.width;
  graph->append(input);
  describe(Value{graph.get(), 0});
  graph->forward_size = graph->size;
  if (graph->fault != Fault::none)
    throw UsageError(what + " cannot be made at width " + std::to_string(sizes.width) + ": " + fault_text(*graph) +
                     ". Choose another --dim.");
  return {parameter_count(*graph, sizes.max_length), forward_flops_per_token(*graph, sizes.length),
          state_size(*graph, sizes.length)};
}

}  // namespace detail

/// A layer alone, without norm and residual. \throws UsageError if it cannot be made at this width.
inline LayerCost layer_cost(const LayerEntry& layer, const CostSizes& sizes) {
  return detail::count("layer '" + layer.name + "'", sizes, layer.forward);
}

/// A layer with its norm and residual: what a stack pays for it. \throws UsageError as above.
inline LayerCost block_cost(const LayerEntry& layer, Norm norm, const CostSizes& sizes) {
  return detail::count("layer '" + layer.name + "'", sizes,
                       [&](Value x) { x + layer.forward(normalize(x, norm, "0")); });
}

/// A language model, part by part.
struct ModelCost {
  struct Part {
    std::string name;
    LayerCost cost;
  };
  std::vector<Part> parts;  ///< embedding, layers in order, head
  LayerCost total;
};

/// Costs of a language model without position embeddings. As `LanguageModel` counts: the embedding costs no operations,
/// of the head the product with the vocabulary is counted. \throws UsageError if a layer cannot be made.
inline ModelCost model_cost(const std::vector<const LayerEntry*>& layers, Norm norm, Index vocab_size,
                            const CostSizes& sizes) {
  ModelCost model;
  model.parts.push_back({"embedding", {vocab_size * sizes.width, 0, 0}});
  for (const LayerEntry* layer : layers) model.parts.push_back({layer->name, block_cost(*layer, norm, sizes)});
  LayerCost head = detail::count("the head", sizes, [&](Value x) { normalize(x, norm, "0"); });
  head.parameters += vocab_size * (sizes.width + 1);
  head.flops_per_token = 2.0 * sizes.width * static_cast<double>(vocab_size);
  model.parts.push_back({"head", head});
  for (const ModelCost::Part& part : model.parts) model.total += part.cost;
  return model;
}

}  // namespace mad::cli
