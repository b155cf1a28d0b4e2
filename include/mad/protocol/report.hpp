// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// One self-contained page on a benchmark: scores, learning curves, numbers, settings.
#pragma once

#include <mad/core/files.hpp>
#include <mad/protocol/report_data.hpp>
#include <mad/protocol/report_figures.hpp>
#include <mad/protocol/report_style.hpp>
#include <mad/train/progress.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>

namespace mad::protocol {

namespace detail {

inline std::string cell(const std::string& text) { return "<td class=\"number\">" + text + "</td>"; }

inline std::string cell(double value, int digits) {
  if (std::isnan(value)) return cell("&ndash;");
  // The digits before the point of a perplexity in the millions say nothing.
  return cell(std::abs(value) < 1e6 ? number_text(value, digits)
                                    : number_text(value, 2, std::chars_format::scientific));
}

/// The overall score of each model.
inline std::string totals(const ReportData& data) {
  std::string html = "<ul class=\"totals\">\n";
  for (std::size_t m = 0; m < data.models.size(); ++m) {
    const ReportModel& model = data.models[m];
    html += "<li><div class=\"model\">" + (data.models.size() > 1 ? legend_key(m) : std::string()) +
            escaped(model.name) + "</div><div class=\"number\">" +
            score_text(model.score.value_or(ReportTask::unknown)) +
            "</div><div class=\"quiet\">mean test accuracy over tasks";
    if (!model.detail.empty()) html += " &middot; " + escaped(model.detail);
    html += "</div></li>\n";
  }
  return html + "</ul>\n";
}

inline std::string warnings(const ReportData& data) {
  if (data.warnings.empty()) return "";
  std::string html = "<div class=\"warning\" role=\"note\"><strong>These results are not complete.</strong><ul>\n";
  for (const std::string& warning : data.warnings) html += "<li>" + escaped(warning) + "</li>\n";
  return html + "</ul></div>\n";
}

inline std::string scores_section(const ReportData& data) {
  const bool noted = std::ranges::any_of(data.models, [](const ReportModel& model) {
    return std::ranges::any_of(model.tasks, [](const ReportTask& task) { return !task.note.empty(); });
  });
  return "<section><h2>Scores</h2>\n<figure>\n" + score_bars(data) +
         "<figcaption class=\"quiet\">Accuracy on test data, averaged over token classes; longer is better." +
         (data.chance.empty() ? "" : " The upright mark on a bar is what guessing gives.") +
         (noted ? " A dagger refers to the notes in the table below." : "") + "</figcaption></figure></section>\n";
}

inline std::string curves_section(const ReportData& data) {
  std::string html =
      "<section><h2>Learning curves</h2>\n<p class=\"quiet\">Test accuracy after each epoch of training.";
  html += data.chance.empty() ? "</p>\n" : " The dotted line is what guessing gives.</p>\n";
  if (data.models.size() > 1) {
    html += "<ul class=\"legend\">\n";
    for (std::size_t m = 0; m < data.models.size(); ++m) {
      html += "<li>" + legend_key(m) + escaped(data.models[m].name) + "</li>\n";
    }
    html += "</ul>\n";
  }
  html += "<div class=\"panels\">\n";
  std::size_t number = 0;
  for (const std::string& name : task_names(data)) {
    html += "<figure><h3>" + escaped(name) + "</h3>\n" + learning_curves(data, name, number++) + "</figure>\n";
  }
  return html + "</div></section>\n";
}

inline std::string numbers_section(const ReportData& data) {
  std::string html =
      "<section><h2 id=\"numbers\">Numbers</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-labelledby=\"numbers\"><table>\n<thead><tr><th scope=\"col\">task</th>";
  for (const char* head :
       {"test accuracy", "train accuracy", "test perplexity", "test loss (nats)", "epochs", "time"}) {
    html += std::string("<th scope=\"col\" class=\"number\">") + head + "</th>";
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const ReportModel& model : data.models) {
    if (data.models.size() > 1) {
      html += "<tr><th scope=\"colgroup\" class=\"group\" colspan=\"7\">" + escaped(model.name) + "</th></tr>\n";
    }
    for (const ReportTask& task : model.tasks) {
      html += "<tr><th scope=\"row\">" + escaped(task.name);
      if (!task.note.empty()) html += "<div class=\"quiet\">" + escaped(task.note) + "</div>";
      html += "</th>" + cell(task.score.value_or(ReportTask::unknown), 4) + cell(task.train_accuracy, 4) +
              cell(task.test_perplexity, 3) + cell(task.test_loss, 4) +
              cell(task.test_accuracy.empty() ? "&ndash;" : std::to_string(task.test_accuracy.size())) +
              cell(std::isnan(task.seconds) ? "&ndash;" : train::duration_text(task.seconds)) + "</tr>\n";
    }
    html += "<tr><th scope=\"row\">mean over tasks</th>" + cell(model.score.value_or(ReportTask::unknown), 4) +
            "<td colspan=\"5\"></td></tr>\n";
  }
  return html + "</tbody></table></div></section>\n";
}

inline std::string settings_section(const ReportData& data) {
  if (data.settings.empty()) return "";
  std::string html = "<section><h2>How it was run</h2>\n<dl class=\"pairs\">\n";
  for (const auto& [name, value] : data.settings) {
    html += "<div><dt>" + escaped(name) + "</dt><dd>" + escaped(value) + "</dd></div>\n";
  }
  return html + "</dl></section>\n";
}

}  // namespace detail

/// The page as HTML. It loads nothing from anywhere; all texts are escaped.
inline std::string report_html(const ReportData& data) {
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
      detail::escaped(data.title) + "</title>\n<style>" + std::string(detail::report_style) +
      "</style>\n</head>\n<body>\n<main>\n<h1>" + detail::escaped(data.title) + "</h1>\n";
  if (!data.summary.empty()) html += "<p>" + detail::escaped(data.summary) + "</p>\n";
  html += detail::totals(data) + detail::warnings(data) + detail::scores_section(data) + detail::curves_section(data) +
          detail::numbers_section(data) + detail::settings_section(data);
  return html + "</main>\n</body>\n</html>\n";
}

/// Writes the page in one step. \throws Error if the file cannot be written.
inline void write_report(const std::filesystem::path& file, const ReportData& data) {
  write_file(file, report_html(data));
}

}  // namespace mad::protocol
