// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The files a run leaves behind, in the reference's layout: `results.csv`, `logs/metrics.csv`, and `run.json`.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/files.hpp>
#include <mad/core/shape.hpp>
#include <mad/train/metrics.hpp>
#include <mad/train/state.hpp>

#include <nlohmann/json.hpp>

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace mad::train {

/// Where the files lie below the folder of a run.
inline std::filesystem::path results_file(const std::filesystem::path& run) { return run / "results.csv"; }
inline std::filesystem::path metrics_file(const std::filesystem::path& run) { return run / "logs" / "metrics.csv"; }
inline std::filesystem::path record_file(const std::filesystem::path& run) { return run / "run.json"; }
inline std::filesystem::path checkpoint_folder(const std::filesystem::path& run) { return run / "checkpoints"; }

namespace detail {

/// The shortest decimal that is read back as the same number.
inline std::string csv_number(double value) {
  if (std::isnan(value)) return "nan";
  std::array<char, 40> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

inline std::vector<std::string_view> csv_cells(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  std::vector<std::string_view> cells;
  for (;;) {
    const std::size_t comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

/// The lines that end with a newline; a last one without (a write that was cut short) is left out.
inline std::vector<std::string_view> complete_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (;;) {
    const std::size_t newline = text.find('\n');
    if (newline == std::string_view::npos) return lines;
    lines.push_back(text.substr(0, newline));
    text.remove_prefix(newline + 1);
  }
}

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace detail

/// The header of `results.csv`.
inline constexpr std::string_view results_header = "train_acc,train_ppl,train_loss,test_acc,test_ppl,test_loss";

/// Writes `results.csv`: the header and one row. A value that is not a number is written as `nan`.
/// \throws Error if the file cannot be written; an older one is then still intact.
inline void write_results(const std::filesystem::path& file, const Results& results) {
  std::string text(results_header);
  text += '\n';
  const std::array<double, 6> row{results.train.accuracy, results.train.perplexity, results.train.loss,
                                  results.test.accuracy,  results.test.perplexity,  results.test.loss};
  for (std::size_t i = 0; i < row.size(); ++i) text += (i == 0 ? "" : ",") + detail::csv_number(row[i]);
  write_file(file, text + '\n');
}

/// Reads `results.csv`, ours or the reference's. Micro accuracies are not in the file and come back as not a number.
/// \throws Error naming the file if it is missing or is not such a file.
inline Results read_results(const std::filesystem::path& file) {
  std::string text = read_file(file);
  if (!text.ends_with('\n')) text += '\n';
  const std::string where = "results file " + mad::detail::quoted(file) + ": ";
  const std::vector<std::string_view> lines = detail::complete_lines(text);
  const std::vector<std::string_view> expected = detail::csv_cells(results_header);
  if (lines.size() < 2 || detail::csv_cells(lines[0]) != expected) {
    throw Error(where + "expected the header '" + std::string(results_header) +
                "' and one row. Remove the file, or the folder of the run, and run again.");
  }
  const std::vector<std::string_view> cells = detail::csv_cells(lines[1]);
  if (cells.size() != expected.size()) {
    throw Error(where + "its row has " + std::to_string(cells.size()) + " values, expected " +
                std::to_string(expected.size()) + ". Remove the file and run again.");
  }
  constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
  std::array<double, 6> row{};
  for (std::size_t i = 0; i < row.size(); ++i) {
    // An empty cell is how the reference's tools write a value that is not a number.
    const std::optional<double> value = cells[i].empty() ? no_number : detail::parse_number<double>(cells[i]);
    if (!value) {
      throw Error(where + "the value of '" + std::string(expected[i]) + "' is '" + std::string(cells[i]) +
                  "', expected a number. Remove the file and run again.");
    }
    row[i] = *value;
  }
  return {.train = {.loss = row[2], .accuracy = row[0], .perplexity = row[1], .micro_accuracy = no_number},
          .test = {.loss = row[5], .accuracy = row[3], .perplexity = row[4], .micro_accuracy = no_number}};
}

/// Writes `run.json`, the record of everything that determined the run. JSON has no word for values that are not
/// finite; they are written as `null`. \throws Error if the file cannot be written.
inline void write_record(const std::filesystem::path& file, const nlohmann::ordered_json& record) {
  write_file(file, record.dump(2) + '\n');
}

/// Reads `run.json`. \throws Error naming the file if it is missing or is not JSON.
inline nlohmann::ordered_json read_record(const std::filesystem::path& file) {
  try {
    return nlohmann::ordered_json::parse(read_file(file));
  } catch (const nlohmann::json::exception& error) {
    throw Error("run record " + mad::detail::quoted(file) + " is not JSON: " + error.what() +
                ". Remove the folder of the run and run again.");
  }
}

/// One row of `logs/metrics.csv`: what was measured at one moment. The cells of what is absent stay blank.
struct MetricsRow {
  Index epoch = 0;  ///< counted from 0
  Index step = 0;   ///< optimiser steps that are complete, less 1, as the reference counts them
  std::optional<Metrics> test_epoch = std::nullopt;
  std::optional<Metrics> test_step = std::nullopt;
  std::optional<Metrics> train_epoch = std::nullopt;
  std::optional<Metrics> train_step = std::nullopt;
};

/// `logs/metrics.csv` in the layout of the reference's logger: one header with all columns in alphabetical order, one
/// row per moment, blank cells where nothing was measured.
///
/// Rows are appended, each by one write of a complete line, so that a run that is killed leaves all rows before; a last
/// line that was cut short is dropped when the run resumes.
class MetricsLog {
public:
  /// The header. Steps are batches; `Accuracy` is the macro accuracy.
  static constexpr std::string_view header =
      "epoch,step,test/Accuracy_epoch,test/Accuracy_step,test/Loss_epoch,test/Loss_step,test/Perplexity_epoch,"
      "test/Perplexity_step,train/Accuracy_epoch,train/Accuracy_step,train/Loss_epoch,train/Loss_step,"
      "train/Perplexity_epoch,train/Perplexity_step";

  /// Begins a new file, replacing an older one. \throws Error if it cannot be written.
  static MetricsLog create(const std::filesystem::path& file) {
    write_file(file, std::string(header) + '\n');
    return MetricsLog(file);
  }

  /// Continues a file: keeps the rows of the first `epochs` epochs, which are the ones the checkpoint has seen, and
  /// drops the rest. A file that does not exist is begun. \throws Error if it is not such a file or cannot be written.
  static MetricsLog resume(const std::filesystem::path& file, Index epochs) {
    if (!std::filesystem::exists(file)) return create(file);
    std::string kept = std::string(header) + '\n';
    const std::string text = read_file(file);
    const auto lines = checked_lines(file, text);
    for (std::size_t i = 1; i < lines.size(); ++i) {
      if (epoch_of(file, lines[i]) < epochs) kept += std::string(lines[i]) + '\n';
    }
    write_file(file, kept);
    return MetricsLog(file);
  }

  /// Appends a row. \throws Error if the disk is full or the system refuses.
  void add(const MetricsRow& row) {
    std::string line = std::to_string(row.epoch) + "," + std::to_string(row.step);
    const std::array<const std::optional<Metrics>*, 2> test{&row.test_epoch, &row.test_step};
    const std::array<const std::optional<Metrics>*, 2> train{&row.train_epoch, &row.train_step};
    for (const auto& columns : {test, train}) {
      for (const auto value : {&Metrics::accuracy, &Metrics::loss, &Metrics::perplexity}) {
        for (const std::optional<Metrics>* metrics : columns) {
          line += ',';
          if (metrics->has_value()) line += detail::csv_number((**metrics).*value);
        }
      }
    }
    append(line + '\n');
  }

  /// The values of one column by epoch, such as `test/Accuracy_epoch`; epochs without a value are not in the list.
  /// \throws Error naming the file and the column if the file is not such a file or the column does not exist.
  static std::vector<std::pair<Index, double>> read_column(const std::filesystem::path& file, std::string_view column) {
    const std::string text = read_file(file);
    const auto lines = checked_lines(file, text);
    const auto columns = detail::csv_cells(lines[0]);
    std::size_t place = 0;
    while (place < columns.size() && columns[place] != column) ++place;
    if (place == columns.size()) {
      throw Error("metrics file " + mad::detail::quoted(file) + " has no column '" + std::string(column) + "'.");
    }
    std::vector<std::pair<Index, double>> values;
    for (std::size_t i = 1; i < lines.size(); ++i) {
      const auto cells = detail::csv_cells(lines[i]);
      if (place >= cells.size() || cells[place].empty()) continue;
      const std::optional<double> value = detail::parse_number<double>(cells[place]);
      if (!value) damaged(file, lines[i]);
      values.emplace_back(epoch_of(file, lines[i]), *value);
    }
    return values;
  }

private:
  explicit MetricsLog(std::filesystem::path file) : file_(std::move(file)) {}

  [[noreturn]] static void damaged(const std::filesystem::path& file, std::string_view line) {
    throw Error("metrics file " + mad::detail::quoted(file) + ": cannot read the line '" + std::string(line) +
                "'. Remove the file; the other files of the run do not need it.");
  }

  /// The complete lines of a file of this kind, ours or the reference's (whose columns may be fewer).
  static std::vector<std::string_view> checked_lines(const std::filesystem::path& file, std::string_view text) {
    std::vector<std::string_view> lines = detail::complete_lines(text);
    if (lines.empty() || !lines[0].starts_with("epoch,step")) damaged(file, lines.empty() ? text : lines[0]);
    return lines;
  }

  static Index epoch_of(const std::filesystem::path& file, std::string_view line) {
    const std::optional<std::int64_t> epoch = detail::parse_number<std::int64_t>(detail::csv_cells(line)[0]);
    if (!epoch) damaged(file, line);
    return static_cast<Index>(*epoch);
  }

  void append(std::string_view line) const {
    const mad::detail::Descriptor file(::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    if (!file.is_open() || !mad::detail::write_all(file.get(), line.data(), line.size())) {
      throw Error("cannot append to " + mad::detail::quoted(file_) + ": " + mad::detail::system_reason(errno) +
                  ". Free some space or correct the permissions; the rows before are kept.");
    }
  }

  std::filesystem::path file_;
};

}  // namespace mad::train
