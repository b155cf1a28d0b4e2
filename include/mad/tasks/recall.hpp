// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// In-context recall: after key-value pairs, name the value that came with a key (MAD, arXiv 2403.17844, section 3.1).
#pragma once

#include <mad/tasks/labelled_sequence.hpp>
#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

/// Pairs of one key and one value, then a key seen before. Ids, with B the number of ids that are neither noise nor
/// special: keys [0, B/2), values [B/2, B), noise [B, B + noise_vocab_size), and V - 1 the copy prefix before the
/// final key when there is only that one query.
///
/// Rows: seq_len - 1 columns with multi_query, else seq_len. In training every next token is a target; in a test only
/// the values of repeated keys are (without multi_query only the final one).
class Recall {
public:
  static constexpr std::string_view name = "in-context-recall";
  static constexpr std::string_view shorthand = "CR";
  static constexpr std::string_view description = "name the value that came with a key earlier in the context";
  static constexpr std::array<std::string_view, 5> fields{"vocab_size", "seq_len", "frac_noise", "noise_vocab_size",
                                                          "multi_query"};

  static Setting baseline() { return {.task = std::string(name)}; }

  [[gnu::cold]] static void validate(const Setting& setting) { validate(setting, name); }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len - (setting.multi_query ? 1 : 0); }

  explicit Recall(const Setting& setting)
      : setting_(setting),
        ordinary_(ordinary_ids(setting)),
        keys_(ordinary_ / 2),
        value_of_(static_cast<std::size_t>(keys_), unseen) {}

  /// \throws Error if every slot of a context came out as noise, which leaves nothing to ask for.
  void make(Streams& streams, Mode mode, Example row) {
    random::Generator& draw = streams.main;
    const std::int64_t slots = setting_.seq_len / 2;
    sequence_.clear();
    for (const std::int64_t key : order_) value_of_[static_cast<std::size_t>(key)] = unseen;
    order_.clear();

    const std::int64_t keep = draw.below(slots);  // this slot is not noise; it may be the one after the loop's last
    for (std::int64_t slot = 0; slot + 1 < slots; ++slot) {
      if (setting_.frac_noise > 0 && slot != keep && draw.random() < setting_.frac_noise) {
        sequence_.add(ordinary_ + draw.below(setting_.noise_vocab_size));
        sequence_.add(ordinary_ + draw.below(setting_.noise_vocab_size));
        continue;
      }
      const std::int64_t key = draw.below(keys_);
      std::int64_t& value = value_of_[static_cast<std::size_t>(key)];
      const bool repeated = value != unseen;
      if (!repeated) {
        value = keys_ + draw.below(ordinary_ - keys_);
        order_.push_back(key);
      }
      sequence_.add(key);
      sequence_.add(value, repeated && setting_.multi_query ? value : ignore);
    }
    if (order_.empty()) throw Error(all_noise());
    const std::int64_t probe = order_[static_cast<std::size_t>(draw.below(static_cast<std::int64_t>(order_.size())))];
    const std::int64_t answer = value_of_[static_cast<std::size_t>(probe)];
    if (!setting_.multi_query) sequence_.add(setting_.vocab_size - 1);
    sequence_.add(probe);
    sequence_.add(answer, answer);
    sequence_.write(mode, 0, row);
  }

protected:
  [[gnu::cold]] static void validate(const Setting& setting, std::string_view task) {
    require(setting.seq_len >= 4 && setting.seq_len % 2 == 0, task, "seq_len", setting.seq_len,
            "an even number of at least 4 (pairs of a key and a value)");
    require(setting.frac_noise >= 0 && setting.frac_noise < 1, task, "frac_noise", setting.frac_noise,
            "at least 0 and below 1");
    require_noise_ids(setting, task);
    // Compared this way round, no sum can overflow.
    const std::int64_t special = setting.multi_query ? 0 : 1;
    require(setting.vocab_size >= 2 + special && setting.vocab_size - 2 - special >= setting.noise_vocab_size, task,
            "vocab_size", setting.vocab_size,
            {"at least ", 2 + special, " more than noise_vocab_size (which is ", setting.noise_vocab_size,
             "): one key, one value", special != 0 ? ", and the prefix of the single query" : ""});
  }

private:
  static constexpr std::int64_t unseen = -1;

  static std::int64_t ordinary_ids(const Setting& setting) {
    return setting.vocab_size - setting.noise_vocab_size - (setting.multi_query ? 0 : 1);
  }

  [[gnu::cold]] std::string all_noise() const {
    return message({"recall: all ", setting_.seq_len / 2 - 1, " pairs of a context came out as noise (frac_noise is ",
                    setting_.frac_noise, ", seq_len ", setting_.seq_len,
                    "), so that no key can be asked for.\nLower frac_noise, raise seq_len, or take another seed."});
  }

  Setting setting_;
  std::int64_t ordinary_;               // ids that are keys or values
  std::int64_t keys_;                   // ids that are keys
  std::vector<std::int64_t> value_of_;  // of each key in this context
  std::vector<std::int64_t> order_;     // keys of this context in order of first appearance
  LabelledSequence sequence_;
};

/// In-context recall with pairs of noise tokens in between. The same data as `Recall` under the same setting.
class NoisyRecall : public Recall {
public:
  static constexpr std::string_view name = "noisy-in-context-recall";
  static constexpr std::string_view shorthand = "NR";
  static constexpr std::string_view description = "in-context recall with pairs of noise tokens in between";

  static Setting baseline() {
    return {.task = std::string(name), .vocab_size = 32, .frac_noise = 0.2, .noise_vocab_size = 16};
  }

  [[gnu::cold]] static void validate(const Setting& setting) { Recall::validate(setting, name); }

  using Recall::Recall;
};

}  // namespace mad::tasks
