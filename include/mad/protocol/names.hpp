// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The reference's names of models and of the folders that runs are recorded in.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/shape.hpp>
#include <mad/tasks/path_names.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/tasks/setting.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace mad::protocol {

/// The identifier of a model: the shorthands of its layers joined by '-', such as `mA-Sg-mA-Sg`.
inline std::string model_id(const std::vector<std::string>& layer_shorthands) {
  std::string id;
  for (const std::string& shorthand : layer_shorthands) id += (id.empty() ? "" : "-") + shorthand;
  return id;
}

/// What the name of a run's folder is made of, with the reference's defaults.
struct RunName {
  tasks::Setting setting = {};
  std::string task_shorthand = {};  ///< in place of `setting.task`; empty: looked up among the built-in tasks
  Index batch_size = 128;
  Index epochs = 200;
  double learning_rate = 5e-4;
  double weight_decay = 0;
  std::string optimizer = "adamw";
  std::string scheduler = "cosine";
  std::string model = {};                                       ///< identifier, see `model_id`
  std::vector<std::pair<std::string, std::string>> extra = {};  ///< further pairs, after the model
  std::optional<std::tm> date = std::nullopt;                   ///< appended as `date-Nov-23-2026-09-05h`
};

namespace detail {

/// Abbreviations of the keys that are not fields of a task's setting. `d` and `lyr` are known, but not used in paths.
struct RunKey {
  std::string_view name;
  std::string_view abbreviation;
};
inline constexpr std::array<RunKey, 9> run_keys{{{"task", "t"},
                                                 {"batch_size", "bs"},
                                                 {"epochs", "e"},
                                                 {"lr", "lr"},
                                                 {"weight_decay", "wd"},
                                                 {"optimizer", "opt"},
                                                 {"scheduler", "sch"},
                                                 {"dim", "d"},
                                                 {"layers", "lyr"}}};

inline std::string shorthand_of(const std::string& task) {
  for (const tasks::Task& known : tasks::built_in_tasks()) {
    if (known.name == task) return known.shorthand;
  }
  return task;
}

/// `Nov-23-2026-09-05h`, in English whatever the locale.
inline std::string date_text(const std::tm& date) {
  constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto two_digits = [](int n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return std::string(months[static_cast<std::size_t>(date.tm_mon)]) + "-" + two_digits(date.tm_mday) + "-" +
         std::to_string(date.tm_year + 1900) + "-" + two_digits(date.tm_hour) + "-" + two_digits(date.tm_min) + "h";
}

}  // namespace detail

/// The name of the folder that a run is recorded in, such as `t-CR_vs-16_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_
/// fn-0#0_nvs-0_ntc-0_bs-128_e-200_lr-0#0005_wd-0#0_opt-adamw_sch-cosine_s-12345_model-mA-Sg-mA-Sg` (one line). Empty
/// values are left out.
///
/// The name does not determine the run: both values of `multi_query` are written as 1, as in the reference. Whoever
/// takes an existing folder for a finished run has to compare its `run.json`.
inline std::string log_directory_name(const RunName& run) {
  std::string name;
  const auto add = [&](std::string_view key, const auto& value) {
    const std::string text = tasks::path_value(value);
    if (text.empty()) return;
    if (!name.empty()) name += '_';
    name.append(key).append("-").append(text);
  };
  add("t", run.task_shorthand.empty() ? detail::shorthand_of(run.setting.task) : run.task_shorthand);
  tasks::for_each_field(run.setting, [&](tasks::Field field, const auto& value) {
    if (field.name == "seed") {  // the settings of the training come before the seed
      add("bs", run.batch_size);
      add("e", run.epochs);
      add("lr", run.learning_rate);
      add("wd", run.weight_decay);
      add("opt", run.optimizer);
      add("sch", run.scheduler);
    }
    add(field.abbreviation, value);
  });
  add("model", run.model);
  for (const auto& [key, value] : run.extra) add(key, value);
  if (run.date) add("date", detail::date_text(*run.date));
  return name;
}

/// The folder of a run, below `base` (the reference's: `./logs`, `./benchmark/logs`); below the folder named by the
/// environment variable TUNE_ORIG_WORKING_DIR if it is set.
inline std::filesystem::path log_directory(const std::filesystem::path& base, const RunName& run) {
  return tasks::below_original_folder(base / log_directory_name(run));
}

/// A value of a parsed name: a number if it was written with a '#', else text.
using NameValue = std::variant<std::string, double>;

/// Takes the name of a folder apart, by the reference's rules: split at '_', each part at its first '-'; abbreviations
/// are written out, a task's shorthand becomes its name, and a value with '#' becomes a number. All other values stay
/// text (`"128"`, `"1e-05"`). The order is kept.
/// \throws Error naming the part if one has no '-', or a '#' but is no number.
inline std::vector<std::pair<std::string, NameValue>> parse_directory_name(std::string_view name) {
  std::vector<std::pair<std::string, NameValue>> pairs;
  for (std::string_view rest = name; !rest.empty();) {
    const std::string_view part = rest.substr(0, rest.find('_'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    const std::size_t dash = part.find('-');
    if (dash == std::string_view::npos) {
      throw Error("the folder name '" + std::string(name) + "' has the part '" + std::string(part) +
                  "', expected '<key>-<value>'. Is it the folder of a run?");
    }
    std::string key(part.substr(0, dash));
    std::string text(part.substr(dash + 1));
    tasks::for_each_field(tasks::Setting{}, [&](tasks::Field field, const auto&) {
      if (part.substr(0, dash) == field.abbreviation) key = field.name;
    });
    for (const detail::RunKey& known : detail::run_keys) {
      if (part.substr(0, dash) == known.abbreviation) key = known.name;
    }
    if (key == "task") {
      for (const tasks::Task& known : tasks::built_in_tasks()) {
        if (text == known.shorthand) text = known.name;
      }
    }
    if (text.find('#') == std::string::npos) {
      pairs.emplace_back(std::move(key), std::move(text));
      continue;
    }
    for (char& character : text) {
      if (character == '#') character = '.';
    }
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw Error("the folder name '" + std::string(name) + "' has the part '" + std::string(part) +
                  "', expected a number with '#' for the point. Is it the folder of a run?");
    }
    pairs.emplace_back(std::move(key), number);
  }
  return pairs;
}

}  // namespace mad::protocol
