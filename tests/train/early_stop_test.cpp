// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/early_stop.hpp>

#include "catch.hpp"

#include <limits>

using mad::train::EarlyStop;
using mad::train::StopReason;

TEST_CASE("the threshold is strict and always active") {
  EarlyStop stop(1000);
  CHECK(stop.end_epoch(0.999) == StopReason::none);
  CHECK(stop.end_epoch(0.9991) == StopReason::solved);
}

TEST_CASE("patience counts epochs without a strict improvement") {
  EarlyStop stop(3);
  CHECK(stop.end_epoch(0.5) == StopReason::none);
  CHECK(stop.end_epoch(0.5) == StopReason::none);
  CHECK(stop.end_epoch(0.4) == StopReason::none);
  CHECK(stop.end_epoch(0.6) == StopReason::none);  // counts anew
  CHECK(stop.end_epoch(0.6) == StopReason::none);
  CHECK(stop.end_epoch(0.1) == StopReason::none);
  CHECK(stop.end_epoch(0.6) == StopReason::no_improvement);
}

TEST_CASE("an accuracy of 0 in the first epoch is an improvement") {
  EarlyStop stop(1);
  CHECK(stop.end_epoch(0.0) == StopReason::none);
  CHECK(stop.end_epoch(0.0) == StopReason::no_improvement);
}

TEST_CASE("a value that is not finite stops at once, infinity before the threshold") {
  CHECK(EarlyStop(5).end_epoch(std::numeric_limits<double>::quiet_NaN()) == StopReason::not_finite);
  CHECK(EarlyStop(5).end_epoch(std::numeric_limits<double>::infinity()) == StopReason::not_finite);
}

TEST_CASE("a restored state continues to count") {
  EarlyStop first(2);
  first.end_epoch(0.5);
  first.end_epoch(0.4);
  EarlyStop second(2);
  second.restore(first.state());
  CHECK(second.end_epoch(0.5) == StopReason::no_improvement);
}
