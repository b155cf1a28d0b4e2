// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a proof found, in words, for any test framework.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/shape.hpp>

#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace mad::testing {

/// The outcome of a proof: every law that was found broken, as a sentence that names layer, width, shape and place.
///
/// True if nothing was found, and printable, so that `REQUIRE(check_layer<L>())`, `ASSERT_TRUE(check_layer<L>())` and
/// `check_layer<L>().or_throw()` all do what they say.
struct Report {
  std::string subject{};                ///< layer and width
  std::vector<std::string> failures{};  ///< one sentence each
  Index comparisons = 0;                ///< numbers that were compared: a proof that compared nothing proves nothing

  bool ok() const { return failures.empty() && comparisons > 0; }
  explicit operator bool() const { return ok(); }

  /// All of it as text.
  std::string text() const {
    std::string all = subject + ": ";
    if (ok()) return all + "holds, " + std::to_string(comparisons) + " numbers compared";
    if (failures.empty()) return all + "nothing was compared. Give at least one shape.";
    all += failures.size() == 1 ? "1 failure" : std::to_string(failures.size()) + " failures";
    for (const std::string& failure : failures) all += "\n  " + failure;
    return all;
  }

  /// \throws Error with the text if anything failed.
  void or_throw() const {
    if (!ok()) throw Error(text());
  }

  friend std::ostream& operator<<(std::ostream& out, const Report& report) { return out << report.text(); }
};

}  // namespace mad::testing
