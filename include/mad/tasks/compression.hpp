// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Compression: take in a random sequence and give it back from an encoding of the whole.
#pragma once

#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mad::tasks {

/// Random symbols, then the compression token at which the model is to have encoded them. Ids: symbols
/// [0, V - 1 - noise_vocab_size), noise the next `noise_vocab_size` ids, compression token V - 1.
///
/// Rows: seq_len columns. The targets are the inputs, noise and compression token included, in both modes: the
/// reference prepares targets that leave noise out and then does not use them.
class Compression {
public:
  static constexpr std::string_view name = "compression";
  static constexpr std::string_view shorthand = "C";
  static constexpr std::string_view description = "encode a random sequence in one vector and decode it again";
  static constexpr std::array<std::string_view, 4> fields{"vocab_size", "seq_len", "frac_noise", "noise_vocab_size"};
  static constexpr bool auto_encoder = true;

  static Setting baseline() { return {.task = std::string(name), .seq_len = 32}; }

  [[gnu::cold]] static void validate(const Setting& setting) {
    require(setting.seq_len >= 1, name, "seq_len", setting.seq_len, "at least 1");
    // Any other number is legal here: 0 and below mean no noise, 1 and above nothing but noise.
    require(setting.frac_noise == setting.frac_noise, name, "frac_noise", setting.frac_noise, "a number");
    require_noise_ids(setting, name);
    require(setting.vocab_size >= 1, name, "vocab_size", setting.vocab_size, "at least 1");
    require(setting.seq_len == 1 || setting.vocab_size - 2 >= setting.noise_vocab_size, name, "vocab_size",
            setting.vocab_size,
            {"at least 2 more than noise_vocab_size (which is ", setting.noise_vocab_size,
             "): one symbol and the compression token"});
  }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }

  explicit Compression(const Setting& setting) : setting_(setting) {}

  void make(Streams& streams, Mode, Example row) {
    random::Generator& draw = streams.main;
    const std::int64_t symbols = setting_.vocab_size - 1 - setting_.noise_vocab_size;
    const auto body = row.inputs.first(row.inputs.size() - 1);
    for (std::int64_t& token : body) token = draw.below(symbols);
    row.inputs.back() = setting_.vocab_size - 1;
    if (setting_.frac_noise > 0) {
      for (std::int64_t& token : body) {
        if (draw.random() < setting_.frac_noise) token = symbols + draw.below(setting_.noise_vocab_size);
      }
    }
    std::copy(row.inputs.begin(), row.inputs.end(), row.targets.begin());
  }

private:
  Setting setting_;
};

}  // namespace mad::tasks
