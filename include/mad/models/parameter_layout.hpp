// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Where the parameters of a model lie, and their initial values; the same on every device.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/models/initial_values.hpp>
#include <mad/models/model.hpp>
#include <mad/models/parameter_info.hpp>

#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mad {

/// Where the parameters of a model lie, with the reference's names. All parts are offsets into one arena.
struct ParameterLayout {
  struct Part {
    Index parameters = 0;  ///< offset in the parameter arena
    Index constants = 0;   ///< offset in the arena of constants
  };
  std::vector<ParameterInfo> infos;
  Index size = 0;
  Index constants = 0;
  Index token_embeds = 0;
  Index position_embeds = -1;
  Index cls_token = -1;
  std::vector<Part> blocks;
  Part decoder;
  Part head_norm;
  Index head_weight = 0;
  Index head_bias = 0;
};

/// Maximum length that the blocks of a model are made for: the class token needs one place more.
inline Index block_max_length(Backbone backbone, const ModelOptions& o) {
  return o.max_length + (backbone == Backbone::auto_encoder && o.pooling == Pooling::cls ? 1 : 0);
}

namespace layout_detail {

[[gnu::cold]] inline Index append(ParameterLayout& layout, std::string name, std::vector<Index> shape, Role role) {
  ParameterInfo info;
  info.name = std::move(name);
  info.size = 1;
  for (Index d : shape) info.size *= d;
  info.shape = std::move(shape);
  info.offset = layout.size;
  info.role = role;
  layout.size += info.size;
  layout.infos.push_back(std::move(info));
  return layout.infos.back().offset;
}

[[gnu::cold]] inline ParameterLayout::Part append_layer(ParameterLayout& layout, std::span<const Parameter> parameters,
                                                        const std::string& prefix, Index max_length) {
  const ParameterLayout::Part part{layout.size, layout.constants};
  for (const Parameter& p : parameters) {
    if (p.is_constant) {
      layout.constants += p.count(max_length);
      continue;
    }
    std::vector<Index> shape;
    for (int d = 0; d < p.rank; ++d) shape.push_back(p.dims[d] == Parameter::per_max_length ? max_length : p.dims[d]);
    append(layout, prefix + std::string(p.name.view()), shape, p.role);
    layout.infos.back().trained = p.trained;
    layout.infos.back().decay = p.decay;
    layout.infos.back().learning_rate = p.learning_rate;
  }
  return part;
}

}  // namespace layout_detail

/// Places of all parameters of an architecture, whatever device its blocks are compiled for. \throws UsageError if the
/// options do not fit the backbone.
template <class A>
[[gnu::cold]] ParameterLayout make_layout(const A& a, const ModelOptions& o) {
  using layout_detail::append;
  using layout_detail::append_layer;
  if (o.vocab_size < 1) throw UsageError(message({"model: vocab_size is ", o.vocab_size, "; it must be at least 1"}));
  if (o.max_length < 1) throw UsageError(message({"model: max_length is ", o.max_length, "; it must be at least 1"}));
  if (a.width < 4 && (o.positions == Positions::sinusoidal || a.backbone == Backbone::auto_encoder))
    throw UsageError(message({"model: sinusoidal positions need a width of at least 4, this model has ", a.width}));
  ParameterLayout layout;
  const bool encoder = a.backbone == Backbone::auto_encoder;
  const Index max_length = block_max_length(a.backbone, o);
  layout.token_embeds = append(layout, "token_embeds.weight", {o.vocab_size, a.width}, Role::embedding);
  if (o.positions == Positions::learned)
    layout.position_embeds =
        append(layout, encoder ? "enc_position_embeds" : "position_embeds", {o.max_length, a.width}, Role::embedding);
  if (encoder && o.pooling == Pooling::cls)
    layout.cls_token = append(layout, "cls_token", {1, 1, a.width}, Role::other);
  for (std::size_t i = 0; i < a.blocks.size(); ++i)
    layout.blocks.push_back(
        append_layer(layout, a.blocks[i]->parameters, message({encoder ? "encoder." : "model.", i, "."}), max_length));
  if (encoder) layout.decoder = append_layer(layout, a.decoder->parameters, "decoder.", o.max_length);
  layout.head_norm = append_layer(layout, a.head_norm->parameters, "unembed.", o.max_length);
  layout.head_weight = append(layout, "unembed.1.weight", {o.vocab_size, a.width}, Role::matrix);
  layout.head_bias = append(layout, "unembed.1.bias", {o.vocab_size}, Role::bias);
  return layout;
}

/// Initial values of all parameters and constants, from `seed`; the same for every number type.
template <class A, class T>
void initialize(const A& a, const ModelOptions& o, const ParameterLayout& layout, std::uint64_t seed, T* parameters,
                T* constants) {
  random::Generator generator(seed);
  std::vector<double> values;
  const auto fill = [&](const Parameter& p, Index max_length, T* to, bool in_backbone) {
    values.assign(static_cast<std::size_t>(p.count(max_length)), 0.0);
    if (in_backbone)
      fill_in_backbone(p, a.backbone, max_length, generator, values);
    else
      fill_initial(p, p.initial, max_length, generator, values);
    for (std::size_t i = 0; i < values.size(); ++i) to[i] = static_cast<T>(values[i]);
  };
  const auto simple = [&](Index offset, Index rows, Initial initial) {
    Parameter p;
    p.dims[0] = static_cast<int>(rows);
    p.dims[1] = static_cast<int>(a.width);
    p.rank = 2;
    p.initial = initial;
    fill(p, 1, parameters + offset, false);
  };
  const auto layer = [&](std::span<const Parameter> list, ParameterLayout::Part part, Index max_length) {
    for (const Parameter& p : list) {
      T* base = p.is_constant ? constants + part.constants : parameters + part.parameters;
      fill(p, max_length, base + p.offset(max_length), true);
    }
  };
  simple(layout.token_embeds, o.vocab_size, Initial::normal(backbone_deviation));
  if (layout.position_embeds >= 0) simple(layout.position_embeds, o.max_length, Initial::normal(1));
  if (layout.cls_token >= 0) simple(layout.cls_token, 1, Initial::normal(1));
  const Index max_length = block_max_length(a.backbone, o);
  for (std::size_t i = 0; i < a.blocks.size(); ++i) layer(a.blocks[i]->parameters, layout.blocks[i], max_length);
  if (a.decoder != nullptr) layer(a.decoder->parameters, layout.decoder, o.max_length);
  layer(a.head_norm->parameters, layout.head_norm, o.max_length);
  const bool all = a.backbone == Backbone::auto_encoder;
  simple(layout.head_weight, o.vocab_size,
         all ? Initial::normal(backbone_deviation) : Initial::uniform(1.0 / std::sqrt(static_cast<double>(a.width))));
  for (Index v = 0; v < o.vocab_size; ++v) parameters[layout.head_bias + v] = T(0);
}

}  // namespace mad
