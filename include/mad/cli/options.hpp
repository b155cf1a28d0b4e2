// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The command line's options, under the reference's names, and where their values go.
#pragma once

#include <mad/cli/model_choice.hpp>
#include <mad/cli/nearest_name.hpp>
#include <mad/cli/task_choice.hpp>
#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/train/settings.hpp>

#include <CLI/CLI.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace mad::cli {

/// Where data come from and results go.
struct FileChoice {
  std::string data_path = "./data";
  std::string log_base_path = "./logs";
  std::string log_path = {};  ///< exact folder of a run; empty: a name below `log_base_path`
  bool cache = true;          ///< keep generated data below `data_path`
};

/// How a command runs; changes no result.
struct RunChoice {
  int threads = 0;     ///< 0: all that the machine has
  bool quiet = false;  ///< no progress on standard error
};

/// Adds options of one heading to a command. A value is checked as it is read: a bad one is a UsageError that names the
/// option, what was found and what is expected.
class OptionGroup {
public:
  OptionGroup(CLI::App& command, std::string heading) : command_(command), heading_(std::move(heading)) {}

  /// A value as text. `take` may throw UsageError. \param shown the default, for the help
  CLI::Option* text(const std::string& option, const std::string& kind, const std::string& shown,
                    const std::string& description, std::function<void(const std::string&)> take) {
    CLI::callback_t callback = [take = std::move(take)](const CLI::results_t& values) {
      take(values.front());
      return true;
    };
    return command_.add_option(option, std::move(callback), with_default(description, shown))
        ->type_name(kind)
        ->group(heading_);
  }
  CLI::Option* text(const std::string& option, const std::string& kind, std::string& value,
                    const std::string& description) {
    return text(option, kind, value, description, [&value](const std::string& given) { value = given; });
  }

  /// An integer or a real number in [least, most].
  template <class T>
  CLI::Option* number(const std::string& option, T& value, const std::string& description, T least,
                      T most = std::numeric_limits<T>::max()) {
    return text(option, std::is_integral_v<T> ? "INT" : "NUMBER", message({value}), description,
                [&value, option, least, most](const std::string& given) {
                  value = parse_number<T>(option, given, least, most);
                });
  }

  /// One of some words. `parse` throws UsageError for any other.
  template <class Enum>
  CLI::Option* word(const std::string& option, Enum& value, const std::vector<Enum>& known,
                    const std::string& description) {
    std::vector<std::string> words;
    for (const Enum e : known) words.emplace_back(name(e));
    return text(option, joined(words, "|"), std::string(name(value)), description,
                [&value, option, known, words](const std::string& given) {
                  for (std::size_t i = 0; i < known.size(); ++i) {
                    if (words[i] != given) continue;
                    value = known[i];
                    return;
                  }
                  throw UsageError(option + " is '" + given + "', must be one of " + joined(words) + "." +
                                   did_you_mean(given, words));
                });
  }

  /// One or more words, up to the next option, or separated by commas.
  CLI::Option* list(const std::string& option, const std::string& kind, std::vector<std::string>& values,
                    const std::string& shown, const std::string& description) {
    CLI::callback_t callback = [&values](const CLI::results_t& given) {
      values = given;
      return true;
    };
    return command_.add_option(option, std::move(callback), with_default(description, shown))
        ->expected(-1)
        ->delimiter(',')
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->type_name(kind)
        ->group(heading_);
  }

  /// A switch. `take` is called if it is given.
  CLI::Option* flag(const std::string& option, const std::string& description, std::function<void()> take) {
    return command_.add_flag_callback(option, std::move(take), description)->group(heading_);
  }

  /// A switch and its opposite, `--name` and `--no-name`.
  void on_off(const std::string& name, const std::string& description, const std::string& shown,
              const std::function<void(bool)>& take) {
    const auto given = std::make_shared<bool>(false);
    const auto once = [take, given, name](bool on) {
      if (*given) throw UsageError("--" + name + " and --no-" + name + " were both given; leave one out.");
      *given = true;
      take(on);
    };
    flag("--" + name, with_default(description, shown), [once] { once(true); });
    flag("--no-" + name, "the opposite of --" + name, [once] { once(false); });
  }

  /// The number written in `given`, all of it. \throws UsageError naming the option.
  template <class T>
  static T parse_number(const std::string& option, const std::string& given, T least, T most) {
    T value{};
    const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), value);
    const bool whole = error == std::errc() && end == given.data() + given.size();
    if (whole && value >= least && value <= most) return value;
    std::string expected = std::is_integral_v<T> ? "an integer" : "a number";
    if (least != std::numeric_limits<T>::lowest()) expected += message({" of at least ", least});
    if (most != std::numeric_limits<T>::max()) expected += message({" and at most ", most});
    throw UsageError(option + " is '" + given + "', must be " + expected + ".");
  }

private:
  static std::string with_default(const std::string& description, const std::string& shown) {
    return shown.empty() ? description : description + " [" + shown + "]";
  }

  CLI::App& command_;
  std::string heading_;
};

/// `--task` and the fields of its setting. `choice` must live as long as the command.
inline void add_task_options(CLI::App& command, TaskChoice& choice, bool with_task = true) {
  OptionGroup group(command, "Task");
  if (with_task) group.text("--task", "NAME", choice.task, "task, by name or shorthand (mad tasks lists them)");
  group.flag("--baseline", "start from the task's baseline in the benchmark instead of the defaults below",
             [&choice] { choice.baseline = true; });
  const tasks::Setting defaults;
  const auto description = [](std::string_view field) -> std::string {
    if (field == "vocab_size") return "token ids, special tokens and noise included";
    if (field == "seq_len") return "length of the sequences";
    if (field == "num_train_examples") return "sequences to train on";
    if (field == "num_test_examples") return "sequences to test on";
    if (field == "k_motif_size") return "longest key in tokens, fuzzy recall";
    if (field == "v_motif_size") return "longest value in tokens, fuzzy recall";
    if (field == "frac_noise") return "probability that a place holds noise";
    if (field == "noise_vocab_size") return "ids reserved for noise";
    if (field == "num_tokens_to_copy") return "tokens to copy, copying tasks";
    if (field == "seed") return "of data, initial weights and order of training";
    return std::string(field);
  };
  tasks::for_each_field(defaults, [&](tasks::Field field, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    const std::string option = option_of(field.name);
    const auto change = [&choice, field](Value given) {
      choice.changes.push_back({std::string(field.name), [field, given](tasks::Setting& setting) {
                                  tasks::for_each_field(setting, [&](tasks::Field each, auto& member) {
                                    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(member)>, Value>)
                                      if (each.name == field.name) member = given;
                                  });
                                }});
    };
    if constexpr (std::is_same_v<Value, bool>) {
      group.on_off(option.substr(2), "recall tasks: every repeated key is a query, not only the last one", "on",
                   change);
    } else if constexpr (std::is_floating_point_v<Value>) {
      group.text(option, "NUMBER", message({value}), description(field.name), [change, option](const auto& given) {
        change(OptionGroup::parse_number<double>(option, given, 0, 1));
      });
    } else {
      // The limits of a setting depend on the task, which words them; the seed's do not.
      const bool is_seed = field.name == "seed";
      group.text(option, "INT", std::to_string(value), description(field.name),
                 [change, option, is_seed](const std::string& given) {
                   const std::int64_t most = is_seed ? (std::int64_t{1} << 32) - 1 : std::int64_t{1} << 40;
                   change(static_cast<Value>(OptionGroup::parse_number<std::int64_t>(option, given, 0, most)));
                 });
    }
  });
}

/// The model's options. `choice` must live as long as the command. \param with_norm false where a command fixes it.
inline void add_model_options(CLI::App& command, ModelChoice& choice, const LayerRegistry& registry) {
  OptionGroup group(command, "Model");
  group.list("--layers", "NAME ...", choice.layers, joined(registry.default_layers(), " "),
             "layers in order, by name or shorthand, or the name of an architecture (mad layers lists them)");
  group.text("--dim", "INT", std::to_string(registry.default_width()), "width; one that is compiled in",
             [&choice](const std::string& given) {
               choice.width = OptionGroup::parse_number<int>("--dim", given, 1, 1 << 16);
             });
  group.word("--norm", choice.norm, {Norm::layer_norm, Norm::rms_norm}, "norm in front of every layer");
  group.text("--backbone", "language-model|auto-encoder", "what the task needs", "what the layers are put in",
             [&choice](const std::string& given) {
               for (const Backbone b : {Backbone::language_model, Backbone::auto_encoder})
                 if (given == name(b)) choice.backbone = b;
               if (!choice.backbone || name(*choice.backbone) != given)
                 throw UsageError("--backbone is '" + given + "', must be language-model or auto-encoder.");
             });
  group.text("--max-length", "INT", "1280, or more if the rows are longer; auto-encoder: the row length",
             "positions that filters and position tables are made for", [&choice](const std::string& given) {
               choice.max_length = OptionGroup::parse_number<Index>("--max-length", given, 1, Index{1} << 24);
             });
  group.word("--position-embeds", choice.positions, {Positions::none, Positions::learned, Positions::sinusoidal},
             "added to the token embeddings");
  group.word("--pooling", choice.pooling, {Pooling::last, Pooling::cls, Pooling::average},
             "how an auto-encoder makes one vector of a sequence");
}

/// The training's options; its seed is the task's. `settings` must live as long as the command.
inline void add_training_options(CLI::App& command, train::TrainSettings& settings) {
  OptionGroup group(command, "Training");
  const Index one = 1;
  group.number("--epochs", settings.epochs, "passes over the training set", one);
  group.number("--batch-size", settings.batch_size, "sequences in a batch", one);
  group.text("--lr", "NUMBER", message({settings.learning_rate}), "learning rate",
             [&settings](const std::string& given) {
               settings.learning_rate =
                   OptionGroup::parse_number<double>("--lr", given, 0, std::numeric_limits<double>::max());
               if (settings.learning_rate == 0) throw UsageError("--lr is '" + given + "', must be above 0.");
             });
  group.number("--weight-decay", settings.weight_decay, "weight decay", 0.0);
  group.word("--optimizer", settings.optimizer, {train::OptimizerKind::adamw, train::OptimizerKind::sgd}, "optimiser");
  group.word("--scheduler", settings.schedule,
             {train::ScheduleKind::constant, train::ScheduleKind::cosine, train::ScheduleKind::plateau},
             "schedule of the learning rate; takes effect with --fidelity intended only, as in the reference");
  group.number("--min-lr", settings.min_learning_rate, "smallest learning rate of a schedule", 0.0);
  group.on_off("early-stop", "stop when the test accuracy has not improved for --stop-patience epochs",
               settings.early_stop ? "on" : "off", [&settings](bool on) { settings.early_stop = on; });
  group.number("--stop-patience", settings.patience, "epochs without improvement that --early-stop waits for", one);
  group.word("--fidelity", settings.fidelity, {train::Fidelity::published, train::Fidelity::intended},
             "train as the published code does, or as the paper says");
}

/// Data path and cache. `choice` must live as long as the command.
inline void add_data_options(CLI::App& command, FileChoice& choice) {
  OptionGroup group(command, "Files");
  group.text("--data-path", "FOLDER", choice.data_path, "where generated data are kept and looked for");
}

/// All options about files of a command that trains.
inline void add_file_options(CLI::App& command, FileChoice& choice) {
  add_data_options(command, choice);
  OptionGroup group(command, "Files");
  group.flag("--no-cache", "generate the data in memory; nothing is read from or written to --data-path",
             [&choice] { choice.cache = false; });
  group.text("--log-base-path", "FOLDER", choice.log_base_path,
             "where runs are recorded, each in a folder named after its settings");
  group.text("--log-path", "FOLDER", "", "exactly this folder for the run instead",
             [&choice](const std::string& given) { choice.log_path = given; });
}

inline void add_run_options(CLI::App& command, RunChoice& choice) {
  OptionGroup group(command, "Running");
  group.number("--threads", choice.threads, "threads, 0 for all of the machine; changes no result", 0, 1024);
  group.flag("--quiet", "no progress on standard error", [&choice] { choice.quiet = true; });
}

}  // namespace mad::cli
