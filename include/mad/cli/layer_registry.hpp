// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The layers that a program can compose by name at run time, and the models put together from them.
#pragma once

#include <mad/cli/nearest_name.hpp>
#include <mad/core/error.hpp>
#include <mad/cpu/architecture.hpp>
#include <mad/cpu/compiled.hpp>
#include <mad/train/fidelity.hpp>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mad::cli {

/// `layernorm` or `rmsnorm`.
constexpr std::string_view name(Norm norm) { return norm == Norm::layer_norm ? "layernorm" : "rmsnorm"; }

/// `language-model` or `auto-encoder`.
constexpr std::string_view name(Backbone backbone) {
  return backbone == Backbone::language_model ? "language-model" : "auto-encoder";
}

/// A layer in its residual block, compiled for one width and norm.
struct CompiledLayer {
  int width;
  Norm norm;
  const cpu::Block<float>* block;
  const cpu::Block<float>* intended;  ///< of `IntendedOf` the layer; the same where they do not differ

  const cpu::Block<float>* at(train::Fidelity fidelity) const {
    return fidelity == train::Fidelity::published ? block : intended;
  }
};

/// A layer that can be asked for by name.
struct LayerEntry {
  std::string name;
  std::string shorthand;
  std::string description = {};         ///< its options, in words
  Value (*forward)(Value x) = nullptr;  ///< for counts, at any width
  std::vector<CompiledLayer> compiled = {};
};

/// A list of layers that can be asked for by one name.
struct ArchitectureEntry {
  std::string name;
  std::vector<std::string> layers;
};

/// The blocks that a backbone needs besides its layers.
struct CompiledBackbone {
  int width;
  Norm norm;
  const cpu::Block<float>* head_norm;
  const cpu::Block<float>* decoder;
};

namespace detail {

template <Layer L, int Width>
void compile_layer(LayerEntry& entry) {
  const auto add = [&entry]<Norm N>() {
    using Intended = typename IntendedOf<L>::type;
    entry.compiled.push_back({Width, N, &cpu::block<Lowered<Residual<N, L>, Width>, float>,
                              &cpu::block<Lowered<Residual<N, Intended>, Width>, float>});
  };
  add.template operator()<Norm::layer_norm>();
  add.template operator()<Norm::rms_norm>();
}

template <int Width, Norm N>
CompiledBackbone compile_backbone() {
  return {Width, N, &cpu::block<Lowered<HeadNorm<N>, Width>, float>, &cpu::block<Lowered<Decoder<N>, Width>, float>};
}

/// `64 and 128`.
inline std::string width_list(const std::set<int>& widths) {
  std::string text;
  for (const int width : widths)
    text += (text.empty() ? "" : width == *widths.rbegin() ? " and " : ", ") + std::to_string(width);
  return text;
}

}  // namespace detail

/// Compiles layer `L` for the given widths, with both norms; without widths for 64 and 128.
/// \param description its options in words; empty: `L::description`, if there is one
template <Layer L, int... Widths>
LayerEntry layer_entry(std::string description = {}) {
  LayerEntry entry{.name = std::string(L::name),
                   .shorthand = std::string(cpu::shorthand_of<L>()),
                   .description = std::move(description),
                   .forward = [](Value x) -> Value { return L::forward(x); }};
  if constexpr (requires { L::description; }) {
    if (entry.description.empty()) entry.description = std::string(L::description);
  }
  if constexpr (sizeof...(Widths) == 0) {
    detail::compile_layer<L, 64>(entry);
    detail::compile_layer<L, 128>(entry);
  }
  (detail::compile_layer<L, Widths>(entry), ...);
  return entry;
}

/// The layers a program has compiled in. Fill it in `main` before `cli::main` is called; layers of your own go in the
/// same way as the library's: `registry.add<Mine, 128>("what it is")`.
class LayerRegistry {
public:
  /// Adds `layer_entry<L, Widths...>(description)`: `L` can be asked for by `L::name`, or by `L::shorthand` if it has
  /// one. \throws UsageError if the name cannot be used or is taken.
  template <Layer L, int... Widths>
  void add(std::string description = {}) {
    add(layer_entry<L, Widths...>(std::move(description)));
  }

  /// Adds a layer that was compiled elsewhere. \throws UsageError as above.
  void add(LayerEntry entry) {
    check_name(entry.name);
    check_name(entry.shorthand);
    for (const std::string& taken : {entry.name, entry.shorthand})
      if (contains(taken))
        throw UsageError("layer '" + entry.name + "' cannot be registered: '" + taken + "' is the layer '" +
                         find(taken).name + "' already. Give it another name or shorthand.");
    layers_.push_back(std::move(entry));
  }

  /// Lets `--layers NAME` stand for these layers, which were added before. \throws UsageError if the name cannot be
  /// used or is taken, or a layer is not there.
  void add_architecture(std::string name, std::vector<std::string> layers) {
    check_name(name);
    if (contains(name) || find_architecture(name) != nullptr)
      throw UsageError("architecture '" + name + "' cannot be registered: the name is taken. Give it another.");
    for (const std::string& layer : layers) find(layer);
    architectures_.push_back({std::move(name), std::move(layers)});
  }
  /// All architectures, in the order of registration.
  const std::vector<ArchitectureEntry>& architectures() const { return architectures_; }

  /// `names` with every architecture's name replaced by its layers.
  std::vector<std::string> expanded(const std::vector<std::string>& names) const {
    std::vector<std::string> layers;
    for (const std::string& name : names) {
      const ArchitectureEntry* known = find_architecture(name);
      if (known != nullptr)
        layers.insert(layers.end(), known->layers.begin(), known->layers.end());
      else
        layers.push_back(name);
    }
    return layers;
  }

  /// Compiles the backbones for the given widths; without widths for 64 and 128. Needed once for each width in use.
  template <int... Widths>
  void add_backbones() {
    if constexpr (sizeof...(Widths) == 0) add_backbones<64, 128>();
    ((backbones_.push_back(detail::compile_backbone<Widths, Norm::layer_norm>()),
      backbones_.push_back(detail::compile_backbone<Widths, Norm::rms_norm>())),
     ...);
  }

  /// The model that is meant when no layers, or no width, are asked for.
  void set_default_model(std::vector<std::string> names, int width) {
    default_layers_ = std::move(names);
    default_width_ = width;
  }
  const std::vector<std::string>& default_layers() const { return default_layers_; }
  int default_width() const { return default_width_; }

  /// All layers, in the order of registration.
  const std::vector<LayerEntry>& layers() const { return layers_; }

  /// Whether models of that width can be composed.
  bool has_width(int width) const {
    return std::any_of(backbones_.begin(), backbones_.end(), [&](const auto& b) { return b.width == width; });
  }
  /// Whether a layer has this name or shorthand.
  bool contains(std::string_view name_or_shorthand) const {
    return std::any_of(layers_.begin(), layers_.end(), [&](const LayerEntry& entry) {
      return entry.name == name_or_shorthand || entry.shorthand == name_or_shorthand;
    });
  }

  /// The layer of that name or shorthand. \throws UsageError with the nearest name and a list of all.
  const LayerEntry& find(std::string_view name_or_shorthand) const {
    for (const LayerEntry& entry : layers_)
      if (entry.name == name_or_shorthand || entry.shorthand == name_or_shorthand) return entry;
    std::vector<std::string> near;
    std::vector<std::string> shown;
    for (const LayerEntry& entry : layers_) {
      near.push_back(entry.name);
      shown.push_back(entry.name + (entry.shorthand == entry.name ? "" : " (" + entry.shorthand + ")"));
    }
    for (const ArchitectureEntry& entry : architectures_) near.push_back(entry.name);
    throw UsageError("unknown layer '" + std::string(name_or_shorthand) + "'." + did_you_mean(name_or_shorthand, near) +
                     "\nThe layers are: " + joined(shown) + ".");
  }

  /// The compiled blocks of a model: `names` in order, names or shorthands; in the form that the fidelity asks for.
  /// \throws UsageError if there are none, one is unknown, or one is not compiled for the width.
  cpu::Architecture<float> architecture(const std::vector<std::string>& names, int width, Norm norm, Backbone backbone,
                                        train::Fidelity fidelity = train::Fidelity::published) const {
    if (names.empty()) throw UsageError("a model needs at least one layer; name some with --layers");
    cpu::Architecture<float> a;
    a.backbone = backbone;
    a.norm = norm;
    a.width = width;
    for (const std::string& asked : names) {
      const LayerEntry& entry = find(asked);
      const auto found = at(entry.compiled, width, norm);
      if (found == entry.compiled.end()) not_compiled("layer '" + entry.name + "'", entry.compiled, width, norm);
      a.blocks.push_back(found->at(fidelity));
    }
    const auto found = at(backbones_, width, norm);
    if (found == backbones_.end()) not_compiled("the backbones", backbones_, width, norm);
    a.head_norm = found->head_norm;
    if (backbone == Backbone::auto_encoder) a.decoder = found->decoder;
    return a;
  }

private:
  /// Names are parts of folder names and of lists.
  static void check_name(const std::string& name) {
    const bool good = !name.empty() && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return std::isgraph(byte) != 0 && c != '/' && c != ',' && c != '_';
    });
    if (!good)
      throw UsageError("a layer cannot be registered as '" + name +
                       "': names go into folder names and lists. Use letters, digits and '-', '-' not in front.");
  }

  template <class Compiled>
  static typename std::vector<Compiled>::const_iterator at(const std::vector<Compiled>& all, int width, Norm norm) {
    return std::find_if(all.begin(), all.end(), [&](const Compiled& c) { return c.width == width && c.norm == norm; });
  }

  template <class Compiled>
  [[noreturn]] static void not_compiled(const std::string& what, const std::vector<Compiled>& all, int width,
                                        Norm norm) {
    std::set<int> widths;
    for (const Compiled& c : all)
      if (c.norm == norm) widths.insert(c.width);
    throw UsageError(what + (what.back() == 's' ? " are" : " is") + " not compiled for width " + std::to_string(width) +
                     " with " + std::string(name(norm)) +
                     (widths.empty() ? ", nor for any other width"
                                     : "; compiled for " + detail::width_list(widths) + ". Choose one with --dim") +
                     ". A program of your own can compile any width: see LayerRegistry::add.");
  }

  const ArchitectureEntry* find_architecture(std::string_view name) const {
    for (const ArchitectureEntry& entry : architectures_)
      if (entry.name == name) return &entry;
    return nullptr;
  }

  std::vector<LayerEntry> layers_;
  std::vector<ArchitectureEntry> architectures_;
  std::vector<CompiledBackbone> backbones_;
  std::vector<std::string> default_layers_;
  int default_width_ = 128;
};

}  // namespace mad::cli
