// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Tables and numbers for a terminal.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace mad::cli {

/// `131,072`.
inline std::string grouped(long long value) {
  std::string text = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = text.size(); i > first + 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

/// `places` digits behind the point; scientific from a million on; `-` for what is not a number.
inline std::string decimal(double value, int places = 4) {
  if (std::isnan(value)) return "-";
  std::array<char, 64> text{};
  const auto format = std::abs(value) < 1e6 ? std::chars_format::fixed : std::chars_format::scientific;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value, format, places).ptr};
}

/// Rows of cells in aligned columns.
class TextTable {
public:
  enum class Align { left, right };

  explicit TextTable(std::vector<Align> columns) : columns_(std::move(columns)) {}

  /// \param cells as many as there are columns
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  std::string text() const {
    std::vector<std::size_t> widths(columns_.size());
    for (const auto& row : rows_)
      for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < widths.size(); ++i) {
        const std::string blank(widths[i] - row[i].size(), ' ');
        line += (i == 0 ? "" : "  ") + (columns_[i] == Align::left ? row[i] + blank : blank + row[i]);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    return text;
  }

private:
  std::vector<Align> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace mad::cli
