// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a report shows, as plain data.
#pragma once

#include <mad/core/shape.hpp>

#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mad::protocol {

/// One task as one model did it. Values that are not a number are shown as missing.
struct ReportTask {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  std::string name = {};
  std::optional<double> score = std::nullopt;  ///< test accuracy, 0 to 1; over several settings their mean
  std::string note = {};                       ///< why there is no score, or how much of it is missing; may be empty
  std::vector<double> test_accuracy = {};      ///< after each epoch, the first epoch first
  double train_accuracy = unknown;
  double test_perplexity = unknown;
  double test_loss = unknown;  ///< natural logarithm, per counted token
  double seconds = unknown;    ///< training time
};

/// One model; its tasks in the order of the report.
struct ReportModel {
  std::string name = {};                       ///< such as `hyena-swiglu-attention-swiglu`
  std::string detail = {};                     ///< one line, such as the number of parameters; may be empty
  std::optional<double> score = std::nullopt;  ///< mean over tasks
  std::vector<ReportTask> tasks = {};
};

/// Everything on the page. The order of tasks is that of their first occurrence, model by model.
struct ReportData {
  std::string title = "MAD benchmark";
  std::string summary = {};  ///< a sentence or two below the title; may be empty
  std::vector<ReportModel> models = {};
  /// Accuracy by guessing, by task; drawn as a mark where it is given.
  std::vector<std::pair<std::string, double>> chance = {};
  std::vector<std::pair<std::string, std::string>> settings = {};  ///< of the runs: name and value
  std::vector<std::string> warnings = {};                          ///< failed and missing runs
};

}  // namespace mad::protocol
