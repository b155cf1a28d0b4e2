// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// When training ends before its last epoch.
#pragma once

#include <mad/core/shape.hpp>

#include <cmath>
#include <limits>
#include <string_view>

namespace mad::train {

enum class StopReason { none, not_finite, solved, no_improvement };

/// What a run's record says.
constexpr std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::none:
      return "none";
    case StopReason::not_finite:
      return "not-finite";
    case StopReason::solved:
      return "solved";
    case StopReason::no_improvement:
      return "no-improvement";
  }
  return "";
}

/// The reference's rules, checked once per epoch on the epoch's test accuracy, in this order: stop if it is not
/// finite; stop if it is greater than 0.999 (whether or not early stopping was asked for); if it improves strictly on
/// the best so far, start counting anew; otherwise count, and stop when the count reaches the patience.
class EarlyStop {
public:
  static constexpr double solved_above = 0.999;

  /// What changes from epoch to epoch; what a checkpoint keeps.
  struct State {
    double best_accuracy = -std::numeric_limits<double>::infinity();
    Index epochs_without_improvement = 0;
    friend bool operator==(const State&, const State&) = default;
  };

  /// `patience` in epochs: the reference's `stop_patience` (20) if early stopping is asked for, else the number of
  /// epochs of the run, which is never reached.
  explicit EarlyStop(Index patience) : patience_(patience) {}

  /// Ends an epoch; anything but `StopReason::none` ends training.
  StopReason end_epoch(double test_accuracy) {
    if (!std::isfinite(test_accuracy)) return StopReason::not_finite;
    if (test_accuracy > solved_above) return StopReason::solved;
    if (test_accuracy > state_.best_accuracy) {
      state_.best_accuracy = test_accuracy;
      state_.epochs_without_improvement = 0;
      return StopReason::none;
    }
    ++state_.epochs_without_improvement;
    return state_.epochs_without_improvement >= patience_ ? StopReason::no_improvement : StopReason::none;
  }

  /// What `end_epoch` answered to the last epoch, found again from the state it left.
  StopReason last_answer(double test_accuracy) const {
    if (!std::isfinite(test_accuracy)) return StopReason::not_finite;
    if (test_accuracy > solved_above) return StopReason::solved;
    return state_.epochs_without_improvement >= patience_ ? StopReason::no_improvement : StopReason::none;
  }

  Index patience() const { return patience_; }
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

private:
  Index patience_;
  State state_;
};

}  // namespace mad::train
