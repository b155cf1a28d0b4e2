// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Copying: repeat the symbols of a sequence after a copy token, with the blanks after them or in between.
#pragma once

#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

namespace detail {

[[gnu::cold]] inline void validate_copying(const Setting& setting, std::string_view task, std::int64_t fewest_tokens) {
  const std::int64_t count = setting.num_tokens_to_copy;
  require(count >= fewest_tokens, task, "num_tokens_to_copy", count,
          fewest_tokens == 0 ? "at least 0" : "at least 1 (the benchmark copies 16)");
  const std::int64_t fewest_ids = count == 0 ? 2 : 3;
  require(setting.vocab_size >= fewest_ids, task, "vocab_size", setting.vocab_size,
          count == 0 ? "at least 2 (the blank and the copy token)"
                     : "at least 3 (one symbol, the blank and the copy token)");
  // Compared this way round, no sum can overflow.
  require(setting.seq_len >= 2 && (setting.seq_len - 2) / 2 >= count, task, "seq_len", setting.seq_len,
          {"at least 2 num_tokens_to_copy + 2 (num_tokens_to_copy is ", count, ")"});
}

/// Where the parts of a row lie that both copying tasks share: a body of C symbols and E blanks, the copy token, and
/// C blanks at which the symbols are the targets. Returns the body.
inline std::span<std::int64_t> frame_copying(const Setting& setting, std::span<const std::int64_t> symbols,
                                             Example row) {
  const std::size_t body = row.inputs.size() - symbols.size() - 1;
  std::fill(row.inputs.begin(), row.inputs.end(), setting.vocab_size - 2);
  row.inputs[body] = setting.vocab_size - 1;
  std::copy(symbols.begin(), symbols.end(), row.targets.end() - static_cast<std::ptrdiff_t>(symbols.size()));
  return row.inputs.first(body);
}

inline void draw_symbols(const Setting& setting, Streams& streams, std::vector<std::int64_t>& symbols) {
  for (std::int64_t& symbol : symbols) symbol = streams.main.below(setting.vocab_size - 2);
}

}  // namespace detail

/// The symbols come first, then the blanks, the copy token, and room for the copy. Ids: symbols [0, V - 2), blank
/// V - 2, copy token V - 1. Not part of the benchmark, so it has no shorthand and no customary setting; its baseline
/// here is that of selective copying.
///
/// Rows: seq_len columns, no shift. Targets are the symbols, at the last columns, in both modes.
class Copying {
public:
  static constexpr std::string_view name = "copying";
  static constexpr std::string_view description = "repeat the symbols at the beginning of the context";
  static constexpr std::array<std::string_view, 3> fields{"vocab_size", "seq_len", "num_tokens_to_copy"};

  static Setting baseline() { return {.task = std::string(name), .seq_len = 256, .num_tokens_to_copy = 16}; }

  [[gnu::cold]] static void validate(const Setting& setting) { detail::validate_copying(setting, name, 0); }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }

  explicit Copying(const Setting& setting)
      : setting_(setting), symbols_(static_cast<std::size_t>(setting.num_tokens_to_copy)) {}

  void make(Streams& streams, Mode, Example row) {
    detail::draw_symbols(setting_, streams, symbols_);
    const std::span<std::int64_t> body = detail::frame_copying(setting_, symbols_, row);
    std::copy(symbols_.begin(), symbols_.end(), body.begin());
  }

private:
  Setting setting_;
  std::vector<std::int64_t> symbols_;
};

/// As copying, with the blanks spread at random over the places *before* the symbols: the token in front of the copy
/// token is always a symbol. Symbols are drawn from the main stream, places from the legacy stream.
class SelectiveCopying {
public:
  static constexpr std::string_view name = "selective-copying";
  static constexpr std::string_view shorthand = "SC";
  static constexpr std::string_view description = "repeat the symbols that are scattered among blanks, in order";
  static constexpr std::array<std::string_view, 3> fields{"vocab_size", "seq_len", "num_tokens_to_copy"};

  static Setting baseline() { return {.task = std::string(name), .seq_len = 256, .num_tokens_to_copy = 16}; }

  [[gnu::cold]] static void validate(const Setting& setting) { detail::validate_copying(setting, name, 1); }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }

  explicit SelectiveCopying(const Setting& setting)
      : setting_(setting),
        symbols_(static_cast<std::size_t>(setting.num_tokens_to_copy)),
        blanks_before_(symbols_.size()) {}

  void make(Streams& streams, Mode, Example row) {
    detail::draw_symbols(setting_, streams, symbols_);
    const std::span<std::int64_t> body = detail::frame_copying(setting_, symbols_, row);
    std::fill(blanks_before_.begin(), blanks_before_.end(), std::size_t{0});
    const auto places = static_cast<std::int64_t>(symbols_.size());
    for (std::size_t blank = symbols_.size(); blank < body.size(); ++blank) {
      ++blanks_before_[static_cast<std::size_t>(streams.legacy.randint(places))];
    }
    std::size_t at = 0;
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      at += blanks_before_[i];
      body[at++] = symbols_[i];
    }
  }

private:
  Setting setting_;
  std::vector<std::int64_t> symbols_;
  std::vector<std::size_t> blanks_before_;
};

}  // namespace mad::tasks
