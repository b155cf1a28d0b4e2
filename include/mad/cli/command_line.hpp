// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The commands of a program and how its arguments choose among them.
#pragma once

#include <mad/cli/benchmark.hpp>
#include <mad/cli/cost.hpp>
#include <mad/cli/data.hpp>
#include <mad/cli/layers.hpp>
#include <mad/cli/nearest_name.hpp>
#include <mad/cli/options.hpp>
#include <mad/cli/program.hpp>
#include <mad/cli/tasks.hpp>
#include <mad/cli/train.hpp>
#include <mad/core/error.hpp>
#include <mad/core/version.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace mad::cli::detail {

inline constexpr std::size_t help_column = 38;

/// What is wrong with an argument that nobody took.
inline std::string unexpected(const CLI::App& command, const std::string& command_name) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  const std::vector<std::string> rest = command.remaining();
  std::string argument;
  for (const std::string& each : rest)
    if (argument.empty() || (each.starts_with("-") && !argument.starts_with("-"))) argument = each;
  argument = argument.substr(0, argument.find('='));
  const bool option = argument.starts_with("-");
  return command_name + ": " + (option ? "unknown option '" : "unexpected argument '") + argument + "'." +
         (option ? did_you_mean(argument, known) : "");
}

/// Reads the arguments and runs the command. \throws what the command throws
inline int run_command_line(int argc, char** argv, const Program& program) {
  CLI::App app("Trains and scores hybrid sequence architectures on synthetic tasks (arXiv 2403.17844).", program.name);
  app.get_formatter()->column_width(help_column);
  app.set_version_flag("--version",
                       program.name + " " + std::string(version) + " (revision " + std::string(revision()) + ")");
  app.footer("'" + program.name + " COMMAND --help' shows the options of a command.\n\nExample:\n  " + program.name +
             " train --task in-context-recall --epochs 20");
  const std::vector<Command> commands{train_command(app, program),  benchmark_command(app, program),
                                      data_command(app, program),   cost_command(app, program),
                                      layers_command(app, program), tasks_command(app, program)};
  std::vector<std::string> names;
  for (const Command& command : commands) names.push_back(command.app->get_name());

  if (argc < 2) {
    note(app.help());
    return UsageError::exit_status;
  }
  const std::string first = argv[1];
  if (!first.starts_with("-") && std::find(names.begin(), names.end(), first) == names.end())
    throw UsageError("unknown command '" + first + "'." + did_you_mean(first, names) +
                     "\nThe commands are: " + joined(names) + ".");

  const auto chosen = [&]() -> const Command* {
    for (const Command& command : commands)
      if (command.app->parsed()) return &command;
    return nullptr;
  };
  const auto full_name = [&] {
    const Command* command = chosen();
    return program.name + (command != nullptr ? " " + command->app->get_name() : "");
  };
  const auto advice = [&] { return "\n'" + full_name() + " --help' lists the options."; };
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ExtrasError&) {
    const Command* command = chosen();
    throw UsageError(unexpected(command != nullptr ? *command->app : app, full_name()) + advice());
  } catch (const CLI::ParseError& error) {
    throw UsageError(std::string(error.what()) + advice());
  }
  const Command* command = chosen();
  if (command == nullptr) throw UsageError("no command was given.\nThe commands are: " + joined(names) + ".");
  return command->run();
}

}  // namespace mad::cli::detail
