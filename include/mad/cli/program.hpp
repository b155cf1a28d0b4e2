// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the commands of a program share: its layers, its tasks, and what a command is.
#pragma once

#include <mad/cli/layer_registry.hpp>
#include <mad/core/error.hpp>
#include <mad/core/files.hpp>
#include <mad/tasks/registry.hpp>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace mad::cli {

/// A program: what its command line can name.
struct Program {
  std::string name = "mad";
  const LayerRegistry& layers;
  const std::vector<tasks::Task>& tasks = tasks::built_in_tasks();
};

/// A command of a program: `app` has its options, `run` does the work once they are read and returns the exit status.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};

/// Writes to standard output: results. \throws Error if it cannot be written.
inline void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Error("cannot write to the standard output: " + mad::detail::system_reason(errno) + ".");
}

/// Writes a line to standard error: everything that is not a result.
inline void note(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace mad::cli
