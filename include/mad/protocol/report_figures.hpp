// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The figures of the report as inline SVG: score bars and learning curves.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/protocol/report_data.hpp>
#include <mad/protocol/scores.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mad::protocol::detail {

/// Text that is safe inside elements and attributes of a page.
inline std::string escaped(std::string_view text) {
  std::string safe;
  for (const char character : text) {
    switch (character) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += character;
    }
  }
  return safe;
}

/// Names of tasks in the order of their first occurrence.
inline std::vector<std::string> task_names(const ReportData& data) {
  std::vector<std::string> names;
  for (const ReportModel& model : data.models) {
    for (const ReportTask& task : model.tasks) {
      if (std::ranges::find(names, task.name) == names.end()) names.push_back(task.name);
    }
  }
  return names;
}

inline const ReportTask* task_of(const ReportModel& model, std::string_view name) {
  const auto found = std::ranges::find(model.tasks, name, &ReportTask::name);
  return found == model.tasks.end() ? nullptr : &*found;
}

inline std::optional<double> chance_of(const ReportData& data, std::string_view task) {
  for (const auto& [name, accuracy] : data.chance) {
    if (name == task) return accuracy;
  }
  return std::nullopt;
}

/// A score for people: four decimals, or a word.
inline std::string score_text(double score) { return std::isfinite(score) ? number_text(score, 4) : "no result"; }

/// A length in the coordinates of a figure, as short as possible.
inline std::string coordinate(double value) { return short_number(std::round(value * 10) / 10); }

inline std::string percent(double share) { return coordinate(std::clamp(share, 0.0, 1.0) * 100) + "%"; }

/// How a model is drawn. After six models the looks begin again, with other dashes.
struct Look {
  std::string color;
  std::string_view dashes;
  std::size_t marker;
};

inline Look look_of(std::size_t model) {
  constexpr std::array<std::string_view, 5> dashes{"", "7 4", "2 4", "10 4 2 4", "14 5"};
  return {"var(--model-" + std::to_string(model % 6) + ")", dashes[model % dashes.size()], model % 4};
}

/// A marker of about 8 units across: disc, square, triangle or diamond.
inline std::string marker(const Look& look, double x, double y) {
  const auto path = [&](const std::array<std::array<double, 2>, 4>& corners) {
    std::string text = "<path fill=\"" + look.color + "\" d=\"";
    for (std::size_t i = 0; i < corners.size(); ++i) {
      text += (i == 0 ? "M" : "L") + coordinate(x + corners[i][0]) + " " + coordinate(y + corners[i][1]);
    }
    return text + "Z\"/>";
  };
  switch (look.marker) {
    case 0:
      return "<circle fill=\"" + look.color + "\" cx=\"" + coordinate(x) + "\" cy=\"" + coordinate(y) + "\" r=\"4\"/>";
    case 1:
      return path({{{-3.6, -3.6}, {3.6, -3.6}, {3.6, 3.6}, {-3.6, 3.6}}});
    case 2:
      return path({{{0, -4.8}, {4.6, 3.4}, {-4.6, 3.4}, {0, -4.8}}});
    default:
      return path({{{0, -5.2}, {5.2, 0}, {0, 5.2}, {-5.2, 0}}});
  }
}

inline std::string stroke(const Look& look) {
  std::string text = "stroke=\"" + look.color + "\"";
  if (!look.dashes.empty()) text += " stroke-dasharray=\"" + std::string(look.dashes) + "\"";
  return text;
}

/// The sample of a model's line in a legend. Decoration: the name stands beside it.
inline std::string legend_key(std::size_t model) {
  const Look look = look_of(model);
  return "<svg class=\"key\" viewBox=\"0 0 38 12\" aria-hidden=\"true\"><path class=\"curve\" " + stroke(look) +
         " d=\"M1 6H37\"/>" + marker(look, 19, 6) + "</svg>";
}

/// Names longer than a phone is wide are cut in figures; the table has them whole.
inline std::string shortened(const std::string& name) {
  constexpr std::size_t longest = 34;
  if (name.size() <= longest) return name;
  std::size_t end = longest - 1;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0u) == 0x80u) --end;  // not inside a UTF-8 character
  return name.substr(0, end) + "\u2026";
}

/// Horizontal bars from 0 to 1, one group per task, one bar per model. Widths are shares of the page, so that the text
/// has the same size on every screen.
inline std::string score_bars(const ReportData& data) {
  const bool several = data.models.size() > 1;
  const double above = several ? 19 : 22;  // from the top of a row to its bar
  const double below = several ? 19 : 26;  // from there to the next row
  const auto text_at = [](std::string_view type, std::string_view x, double y, std::string_view anchor,
                          std::string_view text) {
    return "<text class=\"" + std::string(type) + "\" x=\"" + std::string(x) + "\" y=\"" + coordinate(y) +
           "\" text-anchor=\"" + std::string(anchor) + "\">" + escaped(text) + "</text>\n";
  };
  const auto notch = [](std::string_view type, const std::string& x, double y) {
    return "<line class=\"" + std::string(type) + "\" x1=\"" + x + "\" x2=\"" + x + "\" y1=\"" + coordinate(y - 2) +
           "\" y2=\"" + coordinate(y + 14) + "\"/>";
  };
  std::string body;
  std::string summary;
  double y = 0;
  for (const std::string& name : task_names(data)) {
    const std::optional<double> chance = chance_of(data, name);
    if (several) {
      body += text_at("name", "0", y + 14, "start", shortened(name));
      y += 22;
    }
    for (std::size_t m = 0; m < data.models.size(); ++m) {
      const ReportTask* task = task_of(data.models[m], name);
      const double score = task != nullptr ? task->score.value_or(ReportTask::unknown) : ReportTask::unknown;
      const std::string note = task != nullptr ? task->note : std::string();
      body += several ? text_at("quiet", "0", y + 13, "start", shortened(data.models[m].name))
                      : text_at("name", "0", y + 14, "start", shortened(name));
      body += text_at("value", "100%", y + 13, "end", score_text(score) + (note.empty() ? "" : " \u2020"));
      summary += name + (several ? ", " + data.models[m].name : "") + ": " + score_text(score) +
                 (note.empty() ? "" : " (" + note + ")") + ". ";
      y += above;
      const std::string place = "y=\"" + coordinate(y) + "\" height=\"12\" rx=\"3\"";
      body += "<rect class=\"track\" x=\"0\" width=\"100%\" " + place + "/>\n";
      if (std::isfinite(score)) {
        body += "<rect fill=\"" + look_of(m).color + "\" x=\"0\" width=\"" + percent(score) + "\" " + place + "/>\n";
      }
      if (chance) body += notch("halo", percent(*chance), y) + notch("notch", percent(*chance), y) + "\n";
      y += below;
    }
    y += several ? 16 : 4;
  }
  constexpr std::array<std::string_view, 5> ticks{"0", "0.25", "0.5", "0.75", "1"};
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    const std::string x = percent(static_cast<double>(i) / 4);
    body += "<line class=\"grid\" x1=\"" + x + "\" x2=\"" + x + "\" y1=\"" + coordinate(y - 4) + "\" y2=\"" +
            coordinate(y + 2) + "\"/>\n";
    body += text_at("quiet", x, y + 17, i == 0 ? "start" : (i == 4 ? "end" : "middle"), ticks[i]);
  }
  body += text_at("quiet", "50%", y + 36, "middle", "test accuracy (0 to 1)");
  return "<svg role=\"img\" aria-labelledby=\"bars-title bars-text\" height=\"" + coordinate(y + 42) + "\">\n" +
         "<title id=\"bars-title\">Test accuracy by task</title>\n<desc id=\"bars-text\">" + escaped(summary) +
         "</desc>\n" + body + "</svg>\n";
}

/// Numbers to write below an axis of epochs from 1 to `last`: round, at most six, the last epoch among them.
inline std::vector<Index> epoch_ticks(Index last) {
  Index step = 1;
  for (Index scale = 1; last / step > 4; scale *= 10) {
    for (const Index factor : {1, 2, 5}) {
      step = factor * scale;
      if (last / step <= 4) break;
    }
  }
  std::vector<Index> ticks{1};
  for (Index tick = step; tick < last; tick += step) {
    // Numbers too close to the ends would overlap theirs.
    if (10 * (tick - 1) >= last && 10 * (last - tick) >= last) ticks.push_back(tick);
  }
  if (last > 1) ticks.push_back(last);
  return ticks;
}

/// Test accuracy over epochs of one task, one line per model.
inline std::string learning_curves(const ReportData& data, const std::string& name, std::size_t number) {
  constexpr double left = 34, right = 310, top = 10, bottom = 170;
  Index epochs = 1;
  for (const ReportModel& model : data.models) {
    const ReportTask* task = task_of(model, name);
    if (task != nullptr) epochs = std::max(epochs, static_cast<Index>(task->test_accuracy.size()));
  }
  // The first epoch lies on the axis; a run of one epoch is a point in the middle.
  const auto x_of = [&](double epoch) {
    return epochs == 1 ? (left + right) / 2 : left + (right - left) * (epoch - 1) / static_cast<double>(epochs - 1);
  };
  const auto y_of = [&](double accuracy) { return bottom - (bottom - top) * std::clamp(accuracy, 0.0, 1.0); };

  std::string body;
  for (const double level : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const std::string y = coordinate(y_of(level));
    body += "<line class=\"grid\" x1=\"" + coordinate(left) + "\" x2=\"" + coordinate(right) + "\" y1=\"" + y +
            "\" y2=\"" + y + "\"/><text class=\"quiet\" x=\"" + coordinate(left - 6) + "\" y=\"" +
            coordinate(y_of(level) + 4) + "\" text-anchor=\"end\">" + short_number(level) + "</text>\n";
  }
  for (const Index tick : epoch_ticks(epochs)) {
    body += "<text class=\"quiet\" x=\"" + coordinate(x_of(static_cast<double>(tick))) + "\" y=\"" +
            coordinate(bottom + 16) + "\" text-anchor=\"middle\">" + std::to_string(tick) + "</text>\n";
  }
  body += "<text class=\"quiet\" x=\"" + coordinate((left + right) / 2) + "\" y=\"" + coordinate(bottom + 33) +
          "\" text-anchor=\"middle\">epoch</text>\n";
  if (const auto chance = chance_of(data, name)) {
    const std::string y = coordinate(y_of(*chance));
    body += "<line class=\"chance\" x1=\"" + coordinate(left) + "\" x2=\"" + coordinate(right) + "\" y1=\"" + y +
            "\" y2=\"" + y + "\"/>\n";
  }
  std::string summary;
  for (std::size_t m = 0; m < data.models.size(); ++m) {
    const ReportTask* task = task_of(data.models[m], name);
    const Look look = look_of(m);
    std::string path;
    std::string last_point;
    bool drawing = false;
    for (std::size_t e = 0; task != nullptr && e < task->test_accuracy.size(); ++e) {
      const double accuracy = task->test_accuracy[e];
      if (!std::isfinite(accuracy)) {
        drawing = false;
        continue;
      }
      const double x = x_of(static_cast<double>(e + 1));
      path += (drawing ? "L" : "M") + coordinate(x) + " " + coordinate(y_of(accuracy));
      drawing = true;
      last_point = marker(look, x, y_of(accuracy));
    }
    if (path.empty()) {
      summary += data.models[m].name + ": no values. ";
      continue;
    }
    summary += data.models[m].name + ": from " + score_text(task->test_accuracy.front()) +
               " after the first epoch to " + score_text(task->test_accuracy.back()) + " after epoch " +
               std::to_string(task->test_accuracy.size()) + ". ";
    body += "<path class=\"curve\" " + stroke(look) + " d=\"" + path + "\"/>" + last_point + "\n";
  }
  const std::string id = "curve-" + std::to_string(number);
  return "<svg role=\"img\" aria-labelledby=\"" + id + "-title " + id +
         "-text\" viewBox=\"0 0 320 208\">\n<title id=\"" + id + "-title\">Test accuracy over epochs, " +
         escaped(name) + "</title>\n<desc id=\"" + id + "-text\">" + escaped(summary) + "</desc>\n" + body + "</svg>\n";
}

}  // namespace mad::protocol::detail
