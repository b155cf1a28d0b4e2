// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `mad cost`: parameters, operations and state of a model, layer by layer.
#pragma once

#include <mad/cli/layer_cost.hpp>
#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/text_table.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace mad::cli {

struct CostRequest {
  std::vector<std::string> layers = {};  ///< empty: the registry's default model
  Norm norm = Norm::layer_norm;
  Index vocab_size = 16;
  int width = 128;
  Index length = 128;
  std::optional<Index> max_length = {};  ///< empty: `length`
  bool json = false;
};

/// What `mad cost` prints. \throws UsageError if a layer is unknown or cannot be made at the width.
inline std::string cost_text(const CostRequest& request, const LayerRegistry& registry) {
  std::vector<const LayerEntry*> layers;
  std::string id;
  const std::vector<std::string> names =
      registry.expanded(request.layers.empty() ? registry.default_layers() : request.layers);
  for (const std::string& asked : names) {
    layers.push_back(&registry.find(asked));
    id += (id.empty() ? "" : "-") + layers.back()->shorthand;
  }
  const CostSizes sizes{request.width, request.length, request.max_length.value_or(request.length)};
  const ModelCost model = model_cost(layers, request.norm, request.vocab_size, sizes);

  if (request.json) {
    const auto counts = [](const LayerCost& cost) {
      nlohmann::ordered_json j;
      j["parameters"] = cost.parameters;
      j["flops_per_token"] = cost.flops_per_token;
      j["state"] = cost.state;
      return j;
    };
    nlohmann::ordered_json j;
    j["id"] = id;
    j["dim"] = sizes.width;
    j["norm"] = name(request.norm);
    j["vocab_size"] = request.vocab_size;
    j["seq_len"] = sizes.length;
    j["max_length"] = sizes.max_length;
    for (const ModelCost::Part& part : model.parts) {
      nlohmann::ordered_json row;
      row["name"] = part.name;
      row.update(counts(part.cost));
      j["parts"].push_back(row);
    }
    j["total"] = counts(model.total);
    return j.dump(2) + "\n";
  }

  using enum TextTable::Align;
  TextTable table({left, right, right, right});
  table.add({"part", "parameters", "FLOPs/token", "state"});
  const auto add = [&](const std::string& name, const LayerCost& cost) {
    table.add({name, grouped(cost.parameters), grouped(std::llround(cost.flops_per_token)), grouped(cost.state)});
  };
  for (const ModelCost::Part& part : model.parts) add(part.name, part.cost);
  add("total", model.total);
  return id + ": width " + std::to_string(sizes.width) + ", " + std::string(name(request.norm)) + ", vocabulary " +
         std::to_string(request.vocab_size) + ", sequences of " + std::to_string(sizes.length) + ", filters for " +
         std::to_string(sizes.max_length) + " positions\n" + table.text();
}

inline Command cost_command(CLI::App& parent, const Program& program) {
  CLI::App* app = parent.add_subcommand("cost", "count parameters, operations and state of a model");
  const auto request = std::make_shared<CostRequest>();
  request->width = program.layers.default_width();
  OptionGroup model(*app, "Model");
  model.list("--layers", "NAME ...", request->layers, joined(program.layers.default_layers(), " "),
             "layers in order, by name or shorthand, or the name of an architecture (mad layers lists them)");
  model.number("--dim", request->width, "width, compiled in or not", 1, 1 << 16);
  model.word("--norm", request->norm, {Norm::layer_norm, Norm::rms_norm}, "norm in front of every layer");
  model.number("--vocab-size", request->vocab_size, "token ids", Index{1}, Index{1} << 32);
  model.number("--seq-len", request->length, "length of the sequences", Index{1}, Index{1} << 40);
  model.text("--max-length", "INT", "the value of --seq-len", "positions that filters are made for",
             [request](const std::string& given) {
               request->max_length = OptionGroup::parse_number<Index>("--max-length", given, 1, Index{1} << 40);
             });
  OptionGroup output(*app, "Output");
  output.flag("--json", "as JSON", [request] { request->json = true; });
  app->footer(
      "Counted are trained parameters, operations of the forward pass (a multiplication and an addition are two), and\n"
      "the numbers that step-by-step inference keeps for one sequence of --seq-len tokens. A layer's row includes its\n"
      "norm and residual.\n\nExample:\n  " +
      program.name + " cost --layers " + joined(program.layers.default_layers(), " ") + " --seq-len 1024");
  return {app, [request, &program] {
            print(cost_text(*request, program.layers));
            return 0;
          }};
}

}  // namespace mad::cli
