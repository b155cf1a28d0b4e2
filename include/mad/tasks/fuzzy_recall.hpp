// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Fuzzy in-context recall: in-context recall whose keys and values are several tokens long.
#pragma once

#include <mad/tasks/labelled_sequence.hpp>
#include <mad/tasks/motif_list.hpp>
#include <mad/tasks/precondition.hpp>
#include <mad/tasks/task.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mad::tasks {

/// Keys are motifs of 1 .. k_motif_size different ids (exactly k_motif_size in tests), values of 1 .. v_motif_size.
/// Ids, with `pad` = V - 1 with multi_query, else V - 2, and B = pad - noise_vocab_size: key alphabet [0, B/2), value
/// alphabet [B/2, B), noise [B, pad), `pad`, and V - 1 the copy prefix without multi_query.
///
/// Rows: seq_len columns, padded on the left. Targets as in `Recall`; in training the pads are targets too. In a
/// small share of the examples the probe key does not occur in the context and cannot be answered, as in the
/// reference.
class FuzzyRecall {
public:
  static constexpr std::string_view name = "fuzzy-in-context-recall";
  static constexpr std::string_view shorthand = "FR";
  static constexpr std::string_view description = "in-context recall with keys and values of several tokens";
  static constexpr std::array<std::string_view, 7> fields{
      "vocab_size", "seq_len", "frac_noise", "noise_vocab_size", "k_motif_size", "v_motif_size", "multi_query"};

  static Setting baseline() { return {.task = std::string(name), .k_motif_size = 3, .v_motif_size = 3}; }

  /// Also refuses what the reference accepts and fails at now and then: an alphabet smaller than a motif, and a
  /// sequence that may have no room for the probe.
  [[gnu::cold]] static void validate(const Setting& setting) {
    require(setting.k_motif_size >= 1, name, "k_motif_size", setting.k_motif_size, "at least 1");
    require(setting.v_motif_size >= 1, name, "v_motif_size", setting.v_motif_size, "at least 1");
    require(setting.frac_noise >= 0 && setting.frac_noise < 1, name, "frac_noise", setting.frac_noise,
            "at least 0 and below 1");
    require_noise_ids(setting, name);
    const std::int64_t special = setting.multi_query ? 1 : 2;
    require(setting.vocab_size >= special && setting.vocab_size - special >= setting.noise_vocab_size, name,
            "vocab_size", setting.vocab_size,
            {"at least ", special, " more than noise_vocab_size (which is ", setting.noise_vocab_size, ")"});
    const Alphabets ids(setting);
    require(ids.keys >= setting.k_motif_size, name, "k_motif_size", setting.k_motif_size,
            {"at most the number of key ids, which is ", ids.keys, ": raise vocab_size"});
    require(ids.values >= setting.v_motif_size, name, "v_motif_size", setting.v_motif_size,
            {"at most the number of value ids, which is ", ids.values, ": raise vocab_size"});
    // Halved rather than doubled, so that no sum can overflow: both sizes are at most the vocabulary.
    const std::int64_t pair = setting.k_motif_size + setting.v_motif_size;
    require(setting.seq_len >= 1 && (setting.seq_len - 1) / 2 >= pair, name, "seq_len", setting.seq_len,
            {"at least 2 (k_motif_size + v_motif_size) + 1, the sizes being ", setting.k_motif_size, " and ",
             setting.v_motif_size});
    require_list_size(ids.keys, setting.k_motif_size, "k_motif_size");
    require_list_size(ids.values, setting.v_motif_size, "v_motif_size");
  }

  static std::int64_t row_length(const Setting& setting) { return setting.seq_len; }

  [[gnu::cold]] explicit FuzzyRecall(const Setting& setting) : setting_(setting), ids_(setting) {
    for (std::int64_t length = 1; length <= setting.k_motif_size; ++length) {
      keys_.emplace_back(0, ids_.keys, length);
      answers_.emplace_back(static_cast<std::size_t>(keys_.back().size()));
    }
    for (std::int64_t length = 1; length <= setting.v_motif_size; ++length) {
      values_.emplace_back(ids_.keys, ids_.values, length);
    }
    key_tokens_.resize(static_cast<std::size_t>(setting.k_motif_size));
    value_tokens_.resize(static_cast<std::size_t>(setting.v_motif_size));
  }

  void make(Streams& streams, Mode mode, Example row) {
    random::Generator& draw = streams.main;
    sequence_.clear();
    for (const Motif& key : seen_) answer(key) = Motif{};
    seen_.clear();

    for (MotifList& list : keys_) {
      if (mode == Mode::train || list.length() == setting_.k_motif_size) list.reshuffle(draw);
    }
    for (MotifList& list : values_) list.reshuffle(draw);

    // The pair that is asked for at the end, and the length from which on it may be put into the context.
    const std::int64_t probe_length = draw_key_length(draw, mode);
    const std::int64_t probe_value_length = draw_value_length(draw);
    const Motif probe = choose(keys_, probe_length, draw);
    const Motif probe_value = choose(values_, probe_value_length, draw);
    const std::int64_t probe_tokens = probe_length + probe_value_length;
    const std::int64_t start = draw.below(setting_.seq_len - 2 * probe_tokens);
    const std::int64_t limit = setting_.seq_len - probe_tokens - setting_.k_motif_size - setting_.v_motif_size;

    bool placed = false;
    while (sequence_.size() < limit) {
      const std::int64_t key_length = draw_key_length(draw, mode);
      const std::int64_t value_length = draw_value_length(draw);  // drawn on every pass, also where it is not used
      if (sequence_.size() >= start && !placed) {
        add(probe, probe_value, false);
        remember(probe, probe_value);
        placed = true;
        continue;
      }
      if (setting_.frac_noise > 0 && draw.random() < setting_.frac_noise) {
        for (std::int64_t i = 0; i < key_length + value_length; ++i) {
          sequence_.add(ids_.noise + draw.below(setting_.noise_vocab_size));
        }
        continue;
      }
      const Motif key = choose(keys_, key_length, draw);
      Motif value = answer(key);
      const bool repeated = value.length != 0;
      if (key == probe) {
        value = probe_value;
        placed = true;
      } else if (!repeated) {
        value = choose(values_, value_length, draw);
      }
      remember(key, value);
      add(key, value, repeated && setting_.multi_query);
    }
    if (!setting_.multi_query) sequence_.add(setting_.vocab_size - 1);
    add(probe, probe_value, true);
    sequence_.write(mode, ids_.pad, row);
  }

private:
  // A motif by its length and its rank in the list of that length. Half the bytes of the API's 64-bit integers: one is
  // kept for every possible key.
  struct Motif {
    std::uint32_t length = 0;  // 0: none
    std::uint32_t rank = 0;
    friend bool operator==(const Motif&, const Motif&) = default;
  };

  struct Alphabets {
    explicit Alphabets(const Setting& setting)
        : pad(setting.vocab_size - (setting.multi_query ? 1 : 2)),
          noise(pad - setting.noise_vocab_size),
          keys(noise / 2),
          values(noise - keys) {}
    std::int64_t pad;
    std::int64_t noise;  // first noise id
    std::int64_t keys;   // number of ids, from 0
    std::int64_t values;
  };

  [[gnu::cold]] static void require_list_size(std::int64_t ids, std::int64_t length, std::string_view field) {
    require(
        MotifList::count(ids, length) <= MotifList::max_size, name, field, length,
        {"small enough for 2^26 motifs, and there are more of that length over ", ids, " ids: lower it or vocab_size"});
  }

  std::int64_t draw_key_length(random::Generator& draw, Mode mode) const {
    return mode == Mode::train ? 1 + draw.below(setting_.k_motif_size) : setting_.k_motif_size;
  }
  std::int64_t draw_value_length(random::Generator& draw) const { return 1 + draw.below(setting_.v_motif_size); }

  static const MotifList& list_of(const std::vector<MotifList>& lists, std::int64_t length) {
    return lists[static_cast<std::size_t>(length - 1)];
  }

  static Motif choose(const std::vector<MotifList>& lists, std::int64_t length, random::Generator& draw) {
    return {static_cast<std::uint32_t>(length), list_of(lists, length).choose(draw)};
  }

  Motif& answer(const Motif& key) { return answers_[key.length - 1][key.rank]; }

  void remember(const Motif& key, const Motif& value) {
    answer(key) = value;
    seen_.push_back(key);
  }

  void add(const Motif& key, const Motif& value, bool asked) {
    const auto key_tokens = std::span(key_tokens_).first(key.length);
    const auto value_tokens = std::span(value_tokens_).first(value.length);
    list_of(keys_, key.length).decode(key.rank, key_tokens);
    list_of(values_, value.length).decode(value.rank, value_tokens);
    for (const std::int64_t token : key_tokens) sequence_.add(token);
    for (const std::int64_t token : value_tokens) sequence_.add(token, asked ? token : ignore);
  }

  Setting setting_;
  Alphabets ids_;
  std::vector<MotifList> keys_;              // one list per length
  std::vector<MotifList> values_;            // one list per length
  std::vector<std::vector<Motif>> answers_;  // value of each key motif in this context, by length and rank
  std::vector<Motif> seen_;                  // keys whose answers are set
  std::vector<std::int64_t> key_tokens_;
  std::vector<std::int64_t> value_tokens_;
  LabelledSequence sequence_;
};

}  // namespace mad::tasks
