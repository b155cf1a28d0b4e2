// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The setting of a synthetic task: every number that determines a dataset.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace mad::tasks {

/// Setting of a task, with the reference's field names and defaults. A task ignores the fields it does not use.
struct Setting {
  std::string task = "in-context-recall";
  std::int64_t vocab_size = 16;         ///< number of token ids, special tokens and noise ids included
  std::int64_t seq_len = 128;           ///< nominal length; a task may return one column less
  double frac_noise = 0.0;              ///< probability that a slot is noise
  std::int64_t noise_vocab_size = 0;    ///< how many of the ids are reserved for noise
  std::int64_t num_tokens_to_copy = 0;  ///< copying tasks
  std::int64_t k_motif_size = 1;        ///< longest key in tokens, fuzzy recall
  std::int64_t v_motif_size = 1;        ///< longest value in tokens, fuzzy recall
  bool multi_query = true;              ///< recall tasks: every repeated key is a query
  std::int64_t num_train_examples = 12800;
  std::int64_t num_test_examples = 1280;
  std::uint64_t seed = 12345;  ///< 0 .. 2^32 - 1

  friend bool operator==(const Setting&, const Setting&) = default;
};

/// A field of a setting: its name in files and its abbreviation in the reference's directory names.
struct Field {
  std::string_view name;
  std::string_view abbreviation;
};

/// Calls `visit(Field, member)` for each field but `task`, in the order of the reference's directory names.
/// Works on a `Setting` and on a `const Setting`.
template <class SomeSetting, class Visit>
constexpr void for_each_field(SomeSetting&& setting, Visit&& visit) {
  visit(Field{"vocab_size", "vs"}, setting.vocab_size);
  visit(Field{"seq_len", "sl"}, setting.seq_len);
  visit(Field{"num_train_examples", "ntr"}, setting.num_train_examples);
  visit(Field{"num_test_examples", "nte"}, setting.num_test_examples);
  visit(Field{"k_motif_size", "km"}, setting.k_motif_size);
  visit(Field{"v_motif_size", "vm"}, setting.v_motif_size);
  visit(Field{"multi_query", "mq"}, setting.multi_query);
  visit(Field{"frac_noise", "fn"}, setting.frac_noise);
  visit(Field{"noise_vocab_size", "nvs"}, setting.noise_vocab_size);
  visit(Field{"num_tokens_to_copy", "ntc"}, setting.num_tokens_to_copy);
  visit(Field{"seed", "s"}, setting.seed);
}

}  // namespace mad::tasks
