// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which of two trainings is meant: the one the published code runs, or the one the paper describes.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>

#include <string>
#include <string_view>

namespace mad::train {

/// The reference differs from its own paper in ways that change scores. Neither choice is silent: it is part of the
/// settings of a run and of its record.
enum class Fidelity {
  published,  ///< as the code runs: constant rate, one group, decay on everything, betas 0.9 and 0.999, every expert
              ///< weighs
  intended    ///< as the paper describes: schedule applied, marks on parameters honoured, betas 0.9 and 0.98, experts
              ///< that are not kept have no weight
};

constexpr std::string_view name(Fidelity fidelity) {
  return fidelity == Fidelity::published ? "published" : "intended";
}

/// The inverse of `name`. \throws UsageError for any other text.
inline Fidelity parse_fidelity(std::string_view text) {
  if (text == "published") return Fidelity::published;
  if (text == "intended") return Fidelity::intended;
  throw UsageError(message({"unknown fidelity '", text, "'. Known are published and intended."}));
}

}  // namespace mad::train
