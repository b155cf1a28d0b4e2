// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Learning rates that change from epoch to epoch.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/train/fidelity.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>

namespace mad::train {

enum class ScheduleKind { constant, cosine, plateau };

/// The reference's names of the option: `none`, `cosine`, `plateau`.
constexpr std::string_view name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::constant:
      return "none";
    case ScheduleKind::cosine:
      return "cosine";
    case ScheduleKind::plateau:
      return "plateau";
  }
  return "";
}

/// The inverse of `name`. \throws UsageError for any other text.
inline ScheduleKind parse_schedule(std::string_view text) {
  for (const ScheduleKind kind : {ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::plateau}) {
    if (text == name(kind)) return kind;
  }
  throw UsageError(message({"unknown scheduler '", text, "'. Known are none, cosine and plateau."}));
}

/// The schedule that takes effect. The reference hands its scheduler over under a key that its training framework does
/// not know, so that the rate stays constant in every published run, whatever was asked for.
constexpr ScheduleKind applied(ScheduleKind asked, Fidelity fidelity) {
  return fidelity == Fidelity::published ? ScheduleKind::constant : asked;
}

struct ScheduleSettings {
  ScheduleKind kind = ScheduleKind::cosine;
  double learning_rate = 5e-4;
  double min_learning_rate = 1e-6;
  Index epochs = 200;       ///< period of the cosine
  double factor = 0.9;      ///< plateau: the rate is multiplied by it
  Index patience = 5;       ///< plateau: epochs without improvement that are tolerated
  double threshold = 1e-4;  ///< plateau: relative improvement that counts
};

/// The learning rate of the current epoch.
///
/// Cosine (Loshchilov and Hutter 2017, one period): `min + (base - min)(1 + cos(pi e / epochs))/2` in epoch e, counted
/// from 0. Plateau: when the test loss has not improved on its best for more than `patience` epochs, the rate is
/// multiplied by `factor`, down to the minimum; changes below 1e-8 are not made.
class Schedule {
public:
  /// Everything that changes from epoch to epoch; what a checkpoint keeps.
  struct State {
    Index epoch = 0;
    Index reductions = 0;  ///< plateau: how often the rate was lowered
    Index bad_epochs = 0;  ///< plateau: epochs since the last improvement or reduction
    double best_loss = std::numeric_limits<double>::infinity();
    friend bool operator==(const State&, const State&) = default;
  };

  /// \throws UsageError if a setting is out of range.
  explicit Schedule(const ScheduleSettings& settings) : settings_(settings) {
    const auto require = [](bool valid, const char* what, double found) {
      if (!valid) throw UsageError(message({what, ", found ", std::to_string(found), "."}));
    };
    require(settings.learning_rate > 0 && std::isfinite(settings.learning_rate),
            "the learning rate must be positive and finite", settings.learning_rate);
    require(settings.min_learning_rate >= 0, "the smallest learning rate must not be negative",
            settings.min_learning_rate);
    require(settings.epochs > 0, "the number of epochs must be positive", static_cast<double>(settings.epochs));
    require(settings.factor > 0 && settings.factor < 1, "the plateau's factor must lie between 0 and 1",
            settings.factor);
    require(settings.patience >= 0, "the plateau's patience must not be negative",
            static_cast<double>(settings.patience));
  }

  /// The run's rate in this epoch.
  double rate() const { return rate(settings_.learning_rate); }

  /// The rate in this epoch of a parameter whose own rate is `base`; it follows the same rule from another start.
  double rate(double base) const {
    const double least = settings_.min_learning_rate;
    switch (settings_.kind) {
      case ScheduleKind::constant:
        return base;
      case ScheduleKind::cosine: {
        const double phase = static_cast<double>(state_.epoch) / static_cast<double>(settings_.epochs);
        return least + (base - least) * (1 + std::cos(std::numbers::pi * phase)) / 2;
      }
      case ScheduleKind::plateau: {
        double rate = base;
        for (Index i = 0; i < state_.reductions; ++i) {
          const double lower = std::max(rate * settings_.factor, least);
          if (rate - lower > smallest_change) rate = lower;
        }
        return rate;
      }
    }
    return base;
  }

  /// Ends an epoch. `test_loss` is the epoch's test loss; only the plateau rule looks at it.
  void end_epoch(double test_loss) {
    ++state_.epoch;
    if (settings_.kind != ScheduleKind::plateau) return;
    if (test_loss < state_.best_loss * (1 - settings_.threshold)) {
      state_.best_loss = test_loss;
      state_.bad_epochs = 0;
    } else if (++state_.bad_epochs > settings_.patience) {
      ++state_.reductions;
      state_.bad_epochs = 0;
    }
  }

  const ScheduleSettings& settings() const { return settings_; }
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

private:
  static constexpr double smallest_change = 1e-8;

  ScheduleSettings settings_;
  State state_;
};

}  // namespace mad::train
