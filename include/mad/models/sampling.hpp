// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Choice of the next token from a model's logits.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/random/generator.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace mad {

/// How tokens are drawn: token i with probability proportional to exp(logit_i / temperature).
struct Sampling {
  double temperature = 0;  ///< 0: always the token of the largest logit
  Index top_k = 0;         ///< only the tokens of the so many largest logits; 0: all
  std::uint64_t seed = 0;  ///< equal seeds draw equal tokens

  /// \throws UsageError if a number makes no sense.
  void check() const {
    if (!(temperature >= 0) || !std::isfinite(temperature))
      throw UsageError(message({"sampling: temperature is ", std::to_string(temperature),
                                "; it must be 0 (the likeliest token) or a positive number"}));
    if (top_k < 0)
      throw UsageError(message(
          {"sampling: top_k is ", top_k, "; it must be 0 (all tokens) or the number of tokens to choose from"}));
  }
};

/// One token by its logit. Of equal logits, the smaller id counts as the larger. Draws one number from \p generator
/// unless the temperature is 0. \throws Error if a logit is not a number or infinite.
template <class T>
int sample(const T* logits, Index vocab_size, const Sampling& s, random::Generator& generator) {
  for (Index v = 0; v < vocab_size; ++v)
    if (!std::isfinite(logits[v]))
      throw Error(message({"sampling: the logit of token ", v, " is ", std::to_string(logits[v]),
                           ", not a finite number; the parameters may come from a run that diverged"}));
  const auto larger = [&](int a, int b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
  std::vector<int> candidates(static_cast<std::size_t>(vocab_size));
  std::iota(candidates.begin(), candidates.end(), 0);
  const int best = *std::min_element(candidates.begin(), candidates.end(), larger);
  if (s.temperature == 0) return best;
  if (s.top_k > 0 && s.top_k < vocab_size) {
    std::nth_element(candidates.begin(), candidates.begin() + s.top_k, candidates.end(), larger);
    candidates.resize(static_cast<std::size_t>(s.top_k));
    std::sort(candidates.begin(), candidates.end());
  }
  const auto weight = [&](int v) {
    return std::exp((static_cast<double>(logits[v]) - static_cast<double>(logits[best])) / s.temperature);
  };
  double total = 0;
  for (const int v : candidates) total += weight(v);
  double left = generator.random() * total;
  for (const int v : candidates) {
    left -= weight(v);
    if (left < 0) return v;
  }
  return best;  // rounding left a rest
}

}  // namespace mad
