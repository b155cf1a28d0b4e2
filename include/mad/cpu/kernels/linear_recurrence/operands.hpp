// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Sizes, operands and gradients of the linear recurrence, as its kernels see them.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/view.hpp>

#include <string>

namespace mad::cpu {

/// What a log decay is given per.
enum class RecurrenceDecay { none, head, channel };

struct RecurrenceSizes {
  Index heads = 1;        ///< H
  Index key_groups = 1;   ///< G, divides heads; head h reads query and key of group h / (heads / key_groups)
  Index key_width = 1;    ///< dk, per head
  Index value_width = 1;  ///< dv, per head
  double scale = 1;
  bool normaliser = false;  ///< the values of each head are followed by a column of ones, whose outputs come last
  RecurrenceDecay decay = RecurrenceDecay::none;
  bool decay_per_token = true;  ///< false: one row of log decays for all tokens

  /// Columns of a state: those of the value, and the normaliser's sum of keys.
  constexpr Index state_columns() const { return value_width + (normaliser ? 1 : 0); }
  /// Numbers in the states of all heads.
  constexpr Index state_size() const { return heads * key_width * state_columns(); }
  constexpr Index group_of(Index head) const { return head / (heads / key_groups); }
  /// True for the first head that reads its group.
  constexpr bool opens_group(Index head) const { return head % (heads / key_groups) == 0; }
};

/// What a recurrence reads. Rows are tokens.
template <class T>
struct RecurrenceOperands {
  View<const T> query;               ///< (tokens, G dk)
  View<const T> key;                 ///< (tokens, G dk)
  View<const T> value;               ///< (tokens, H dv)
  View<const T> log_decay{};         ///< (tokens or one, H or H dk), at most 0
  const T* bonus = nullptr;          ///< (H dk), or null; only with a decay, and with G = H
  const T* initial_state = nullptr;  ///< (batch, H, dk, state columns), or null for zero
};

/// Where the gradients of a recurrence go: overwritten, except that of a log decay of one row and that of the bonus,
/// which are added to. Those of log decay, bonus and initial state may be null where they are not wanted.
template <class T>
struct RecurrenceGradients {
  View<T> query, key, value;
  View<T> log_decay{};
  T* bonus = nullptr;
  T* initial_state = nullptr;  ///< (batch, H, dk, state columns)
};

/// The two forms of the computation; both are the same recurrence.
enum class RecurrenceForm {
  stepwise,  ///< the state takes every token in turn
  chunked,   ///< tokens of a chunk meet in pairs, the state takes a chunk at a time; needs a decay
};

/// What of a recurrence is known when it is compiled; each kind has its own loops.
template <RecurrenceDecay Decay, bool Bonus = false, RecurrenceForm Form = RecurrenceForm::stepwise>
struct RecurrenceKind {
  static constexpr RecurrenceDecay decay = Decay;
  static constexpr bool bonus = Bonus;
  static constexpr bool chunked = Form == RecurrenceForm::chunked;
  static_assert(Decay != RecurrenceDecay::none || (!Bonus && !chunked),
                "mad: a linear recurrence with a bonus and its chunked form need a decay.");
};

namespace recurrence_detail {

template <class Kind, class T>
void check(const RecurrenceSizes& z, const RecurrenceOperands<T>& in) {
  constexpr bool decay = Kind::decay != RecurrenceDecay::none;
  constexpr bool per_head = Kind::decay != RecurrenceDecay::channel && !Kind::bonus;
  if (z.heads >= 1 && z.key_groups >= 1 && z.heads % z.key_groups == 0 && z.key_width >= 1 && z.value_width >= 1 &&
      z.decay == Kind::decay && (per_head || z.key_groups == z.heads) && Kind::bonus == (in.bonus != nullptr) &&
      !(decay && z.normaliser))
    return;
  throw UsageError(message(
      {"linear recurrence: sizes do not fit: heads ", z.heads, ", key groups ", z.key_groups, ", key width ",
       z.key_width, ", value width ", z.value_width, z.decay == Kind::decay ? "" : ", another decay than compiled for",
       in.bonus != nullptr ? ", bonus" : ", no bonus", z.normaliser ? ", normaliser" : "",
       "; key groups must divide heads and equal them with decays per channel or a bonus, a bonus is given "
       "exactly where one is compiled for, a normaliser goes with no decay."}));
}

}  // namespace recurrence_detail

}  // namespace mad::cpu
