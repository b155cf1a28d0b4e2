// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compares a layer with a fixture of the reference: output and every gradient, in double precision.
#pragma once

#include <mad/cpu/single_layer.hpp>
#include <mad/train/safetensors.hpp>

#include <catch.hpp>
#include <cmath>
#include <string>
#include <vector>

namespace mad::testing {

/// max |a - b| over max(floor, max |b|).
inline double relative_error(const double* a, const std::vector<double>& b, double floor) {
  double error = 0;
  double scale = floor;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error = std::isfinite(a[i]) ? std::max(error, std::abs(a[i] - b[i])) : INFINITY;
    scale = std::max(scale, std::abs(b[i]));
  }
  return scale == 0 ? (error == 0 ? 0 : INFINITY) : error / scale;
}

/// Runs layer L of width `Width` on the fixture's input with the fixture's parameters. An input longer than the
/// fixture's maximum length is cut: the reference then returns the first positions only, and its gradient beyond is 0.
template <class L, int Width, unsigned Passes = all_passes>
void check_golden(const std::string& name, Index max_length) {
  INFO("fixture " << name);
  using Low = Lowered<L, Width, Passes>;
  const auto file = train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/" + name + ".safetensors");
  const std::vector<Index> dims = file.shape("input");
  REQUIRE(dims.at(2) == Width);
  const Index length = file.shape("output").at(1);
  const Shape shape{dims[0], length, max_length};
  cpu::SingleLayer<double> layer(cpu::block<Low, double>, shape);

  int found = 0;
  for (const std::string& key : file.names()) {
    if (key.rfind("param.", 0) != 0 && key.rfind("buffer.", 0) != 0) continue;
    const std::string parameter = key.substr(key.find('.') + 1);
    const int i = layer.find(parameter);
    if (i < 0) {
      // Aliases of one shared tensor, and parameters that the forward pass never reads, have no place of their own.
      const bool alias = file.metadata().count("tied") != 0 && file.text("tied").find(parameter) != std::string::npos;
      const bool unread =
          file.metadata().count("no_grad") != 0 && file.text("no_grad").find(parameter) != std::string::npos;
      INFO("the layer has no parameter " << parameter);
      CHECK((alias || unread || key.rfind("buffer.", 0) == 0));
      continue;
    }
    ++found;
    const std::vector<double> values = file.values<double>(key);
    INFO("parameter " << parameter);
    REQUIRE(static_cast<Index>(values.size()) == Low::graph.parameters[i].count(max_length));
    if (key.rfind("buffer.", 0) == 0)
      CHECK(relative_error(layer.parameter(i), values, 1) < 1e-12);
    else
      std::copy(values.begin(), values.end(), layer.parameter(i));
  }
  CHECK(found == Low::graph.parameter_count);

  // The fixture's rows, cut to the length that the layer sees.
  const auto rows = [&](const std::string& key) {
    const std::vector<double> all = file.values<double>(key);
    const Index full = file.shape(key).at(1);
    std::vector<double> cut;
    for (Index b = 0; b < dims[0]; ++b)
      cut.insert(cut.end(), all.begin() + b * full * Width, all.begin() + (b * full + length) * Width);
    return cut;
  };
  const std::vector<double> x = rows("input");
  const std::vector<double> dy = rows("grad_output");
  std::vector<double> y(x.size());
  std::vector<double> dx(x.size());
  layer.forward(x.data(), y.data());
  layer.backward(x.data(), y.data(), dy.data(), dx.data());

  CHECK(relative_error(y.data(), rows("output"), 1) < 1e-9);
  CHECK(relative_error(dx.data(), rows("grad_input"), 0) < 1e-9);
  for (int i = 0; i < Low::graph.parameter_count; ++i) {
    const Parameter& p = Low::graph.parameters[i];
    if (p.is_constant) continue;
    INFO("gradient of " << p.name.view());
    CHECK(relative_error(layer.gradient(i), file.values<double>("grad." + std::string(p.name.view())), 0) < 1e-9);
  }
}

}  // namespace mad::testing
