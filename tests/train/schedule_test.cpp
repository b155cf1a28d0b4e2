// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/safetensors.hpp>
#include <mad/train/schedule.hpp>

#include "catch.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>

using Catch::Matchers::ContainsSubstring;
using namespace mad::train;

namespace {

Safetensors golden() { return Safetensors::read(MAD_GOLDEN_DIR "/layers/schedule_T200.safetensors"); }

ScheduleSettings settings_of(ScheduleKind kind) {
  const auto config = nlohmann::json::parse(golden().text("config"));
  return {.kind = kind,
          .learning_rate = config["lr"],
          .min_learning_rate = config["eta_min"],
          .epochs = config["T_max"],
          .factor = config["plateau_factor"],
          .patience = config["plateau_patience"],
          .threshold = config["plateau_threshold"]};
}

}  // namespace

TEST_CASE("the cosine follows the reference") {
  const Safetensors file = golden();
  Schedule schedule(settings_of(ScheduleKind::cosine));
  for (const double expected : file.view<double>("cosine_lr")) {
    CHECK(schedule.rate() == Approx(expected).epsilon(1e-12));
    schedule.end_epoch(0);
  }
}

TEST_CASE("the plateau follows the reference, also when it is restored at every epoch") {
  const Safetensors file = golden();
  const auto rates = file.view<double>("plateau_lr");
  const auto losses = file.view<double>("plateau_loss");
  Schedule schedule(settings_of(ScheduleKind::plateau));
  for (std::size_t epoch = 0; epoch < losses.size(); ++epoch) {
    CHECK(schedule.rate() == Approx(rates[epoch]).epsilon(1e-14));
    Schedule next(settings_of(ScheduleKind::plateau));
    next.restore(schedule.state());
    next.end_epoch(losses[epoch]);
    schedule = next;
  }
  CHECK(schedule.rate() == Approx(rates.back()).epsilon(1e-14));
  CHECK(rates.back() < rates.front());
}

TEST_CASE("on a plateau only an improvement beyond the relative threshold counts") {
  ScheduleSettings settings = settings_of(ScheduleKind::plateau);
  settings.patience = 0;
  Schedule schedule(settings);
  schedule.end_epoch(2.0);
  schedule.end_epoch(2.0 * (1 - 1.1e-4));
  CHECK(schedule.rate() == 5e-4);
  schedule.end_epoch(2.0 * (1 - 1.9e-4));  // less than 1e-4 better than the best so far
  CHECK(schedule.rate() == Approx(4.5e-4));
}

TEST_CASE("a plateau ends at the smallest rate") {
  ScheduleSettings settings = settings_of(ScheduleKind::plateau);
  settings.patience = 0;
  Schedule schedule(settings);
  for (int epoch = 0; epoch < 200; ++epoch) schedule.end_epoch(1.0);
  CHECK(schedule.rate() == settings.min_learning_rate);
}

TEST_CASE("the constant schedule is constant, and it is what published runs have") {
  Schedule schedule(settings_of(ScheduleKind::constant));
  for (int epoch = 0; epoch < 20; ++epoch) schedule.end_epoch(1.0);
  CHECK(schedule.rate() == 5e-4);
  CHECK(schedule.rate(1e-5) == 1e-5);
  CHECK(applied(ScheduleKind::cosine, Fidelity::published) == ScheduleKind::constant);
  CHECK(applied(ScheduleKind::cosine, Fidelity::intended) == ScheduleKind::cosine);
  CHECK(applied(ScheduleKind::plateau, Fidelity::intended) == ScheduleKind::plateau);
}

TEST_CASE("names and impossible settings of schedules") {
  for (const auto kind : {ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::plateau}) {
    CHECK(parse_schedule(name(kind)) == kind);
  }
  CHECK(name(ScheduleKind::constant) == "none");
  CHECK_THROWS_WITH(parse_schedule("linear"), ContainsSubstring("unknown scheduler 'linear'"));
  CHECK_THROWS_AS(Schedule({.learning_rate = 0}), mad::UsageError);
  CHECK_THROWS_AS(Schedule({.epochs = 0}), mad::UsageError);
  CHECK_THROWS_AS(Schedule({.factor = 1}), mad::UsageError);
}
