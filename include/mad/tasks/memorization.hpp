// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Memorization: a fixed table of pairs, learned over the whole training and asked for by key.
#pragma once

#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

/// Keys of one table, the same for training and test, each followed by an insert token at which its value is to be
/// predicted. Ids: keys [0, (V-1)/2), values [(V-1)/2, V-1), insert token V - 1. Noise ids are the
/// `noise_vocab_size` ids below the insert token and overlap the values (and, if there are many, the keys).
///
/// Rows: 2 (seq_len / 2) columns, no shift. Targets are the values, at the insert tokens, in both modes.
class Memorization {
public:
  static constexpr std::string_view name = "memorization";
  static constexpr std::string_view shorthand = "M";
  static constexpr std::string_view description = "learn a fixed table of key-value pairs during training";
  static constexpr std::array<std::string_view, 4> fields{"vocab_size", "seq_len", "frac_noise", "noise_vocab_size"};

  static Setting baseline() {
    return {.task = std::string(name), .vocab_size = 256, .seq_len = 32, .num_train_examples = 256};
  }

  [[gnu::cold]] static void validate(const Setting& setting) {
    require(setting.seq_len >= 2, name, "seq_len", setting.seq_len, "at least 2");
    require(setting.vocab_size >= 3, name, "vocab_size", setting.vocab_size,
            "at least 3 (one key, one value, the insert token)");
    require(setting.frac_noise >= 0 && setting.frac_noise <= 1, name, "frac_noise", setting.frac_noise, "0 .. 1");
    require_noise_ids(setting, name);
    require(setting.frac_noise == 0 || setting.noise_vocab_size < setting.vocab_size, name, "noise_vocab_size",
            setting.noise_vocab_size,
            {"below vocab_size (which is ", setting.vocab_size, ") when frac_noise is above 0"});
  }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len / 2 * 2; }

  explicit Memorization(const Setting& setting)
      : setting_(setting),
        keys_(static_cast<std::size_t>((setting.vocab_size - 1) / 2)),
        values_(static_cast<std::size_t>(setting.vocab_size - 1) - keys_.size()) {
    std::iota(keys_.begin(), keys_.end(), 0);
    std::iota(values_.begin(), values_.end(), static_cast<std::int64_t>(keys_.size()));
    // A stream of the table's own, though seeded alike: the examples start from an untouched one.
    random::Generator draw(setting.seed);
    draw.shuffle(std::span(keys_));
    draw.shuffle(std::span(values_));
  }

  void make(Streams& streams, Mode, Example row) {
    random::Generator& draw = streams.main;
    const std::int64_t insert = setting_.vocab_size - 1;
    const std::int64_t noise = insert - setting_.noise_vocab_size;
    const std::int64_t slots = setting_.seq_len / 2;
    const std::int64_t keep = draw.below(slots);  // this slot is not noise
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      const auto at = static_cast<std::size_t>(2 * slot);
      if (setting_.frac_noise > 0 && slot != keep && draw.random() < setting_.frac_noise) {
        row.inputs[at] = noise + draw.below(setting_.noise_vocab_size);
        row.inputs[at + 1] = noise + draw.below(setting_.noise_vocab_size);
        continue;
      }
      const auto entry = static_cast<std::size_t>(draw.below(static_cast<std::int64_t>(keys_.size())));
      row.inputs[at] = keys_[entry];
      row.inputs[at + 1] = insert;
      row.targets[at + 1] = values_[entry];
    }
  }

private:
  Setting setting_;
  std::vector<std::int64_t> keys_;    // the table: keys_[i] goes with values_[i]
  std::vector<std::int64_t> values_;  // may have one more, which no key has
};

}  // namespace mad::tasks
