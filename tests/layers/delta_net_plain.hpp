// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The plain loop that DeltaNet and Gated DeltaNet share.
#pragma once

#include "plain.hpp"

namespace mad::testing::plain {

struct DeltaSizes {
  std::size_t key_heads, heads, key_width, value_width, conv;
};

template <class Map>
Rows each(const Rows& rows, const Map& map) {
  Rows result;
  for (const Row& row : rows) result.push_back(map(row));
  return result;
}

/// silu of the depthwise causal convolution of x W^T.
inline Rows projected(const Parameters& p, const Rows& tokens, const std::string& which, std::size_t taps) {
  const Rows x = each(tokens, [&](const Row& row) { return linear(row, p[which + "_proj.weight"]); });
  const Row weight = p[which + "_conv1d.weight"];
  Rows y;
  for (std::size_t t = 0; t < x.size(); ++t) {
    Row row(x[t].size(), 0.0);
    for (std::size_t j = 0; j < taps && j <= t; ++j)
      for (std::size_t c = 0; c < row.size(); ++c) row[c] += weight[c * taps + taps - 1 - j] * x[t - j][c];
    for (double& v : row) v = silu(v);
    y.push_back(row);
  }
  return y;
}

inline Row unit_heads(Row x, std::size_t width) {
  for (std::size_t first = 0; first < x.size(); first += width) {
    double square = 1e-6;
    for (std::size_t i = first; i < first + width; ++i) square += x[i] * x[i];
    for (std::size_t i = first; i < first + width; ++i) x[i] /= std::sqrt(square);
  }
  return x;
}

/// S' = exp(g_t) S, S = S' + beta_t k_t^T (v_t - k_t S'), o_t = q_t S / sqrt(dk); then norm, gate and projection. No
/// decay if `log_decay` is empty.
inline Rows delta_net(const Parameters& p, const Rows& tokens, const DeltaSizes& z, const Rows& beta,
                      const Rows& log_decay, bool gated) {
  const Rows q = projected(p, tokens, "q", z.conv), k = projected(p, tokens, "k", z.conv);
  const Rows v = projected(p, tokens, "v", z.conv);
  const std::size_t K = z.key_width, V = z.value_width;
  Row S(z.heads * K * V, 0.0);
  Rows out;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const Row query = unit_heads(q[t], K), key = unit_heads(k[t], K);
    Row o(z.heads * V, 0.0);
    for (std::size_t h = 0; h < z.heads; ++h) {
      const std::size_t from = h * z.key_heads / z.heads * K;
      for (std::size_t j = 0; j < V; ++j) {
        double error = v[t][h * V + j];
        for (std::size_t i = 0; i < K; ++i) {
          double& s = S[(h * K + i) * V + j];
          if (!log_decay.empty()) s *= std::exp(log_decay[t][h]);
          error -= key[from + i] * s;
        }
        for (std::size_t i = 0; i < K; ++i) {
          double& s = S[(h * K + i) * V + j];
          s += beta[t][h] * key[from + i] * error;
          o[h * V + j] += query[from + i] * s / std::sqrt(static_cast<double>(K));
        }
      }
    }
    o = rms_norm(o, V, p["o_norm.weight"], 1e-5);
    if (gated) {
      const Row gate = linear(tokens[t], p["g_proj.weight"]);
      for (std::size_t c = 0; c < o.size(); ++c) o[c] *= silu(gate[c]);
    }
    out.push_back(linear(o, p["o_proj.weight"]));
  }
  return out;
}

}  // namespace mad::testing::plain
