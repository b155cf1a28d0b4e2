// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// "Did you mean": the name that somebody who misspelt one probably had in mind.
#pragma once

#include <mad/tasks/registry.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace mad::cli {

namespace detail {

/// Whether the letters of `part` occur in `whole`, in this order: `attn` in `attention`.
inline bool abbreviates(std::string_view part, std::string_view whole) {
  std::size_t at = 0;
  for (const char c : whole)
    if (at < part.size() && part[at] == c) ++at;
  return part.size() >= 3 && at == part.size();
}

}  // namespace detail

/// The name nearest to `asked`, or an empty text if none is near: one that abbreviates the other (the shortest of
/// these), or at most half of its characters differ.
inline std::string nearest_name(std::string_view asked, const std::vector<std::string>& names) {
  std::string lower(asked);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  std::string nearest;
  std::size_t least = lower.size() / 2 + 1;
  for (const std::string& name : names) {
    const bool part = detail::abbreviates(lower, name) || detail::abbreviates(name, lower);
    // An abbreviation is as near as the farthest misspelling: a better spelt name comes first.
    std::size_t distance = tasks::detail::edit_distance(lower, name);
    if (part) distance = std::min(distance, lower.size() / 2);
    if (distance < least || (part && distance == least && name.size() < nearest.size())) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

/// ` Did you mean 'NAME'?`, or nothing.
inline std::string did_you_mean(std::string_view asked, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(asked, names);
  return nearest.empty() ? "" : " Did you mean '" + nearest + "'?";
}

/// `a, b, c`.
inline std::string joined(const std::vector<std::string>& words, std::string_view separator = ", ") {
  std::string text;
  for (const std::string& word : words) text.append(text.empty() ? "" : separator).append(word);
  return text;
}

}  // namespace mad::cli
