// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// `main` of a program with layers: from its arguments to its exit status.
#pragma once

#include <mad/cli/program.hpp>

#include <vector>

// With the library mad::compiled this is a declaration, and one file of that library has the rest.
#if !defined(MAD_COMPILED)
#define MAD_COMMAND_LINE inline
#elif defined(MAD_COMPILED_COMMAND_LINE)
#define MAD_COMMAND_LINE
#endif

namespace mad::cli {

/// Parses the command line, runs the command, and turns errors into a message on standard error and an exit status: 2
/// for what was asked, 1 for what went wrong.
/// \param tasks what --task takes; give a list with your own tasks to add them
int main(int argc, char** argv, const LayerRegistry& layers,
         const std::vector<tasks::Task>& tasks = tasks::built_in_tasks());

}  // namespace mad::cli

#if defined(MAD_COMMAND_LINE)

#include <mad/cli/command_line.hpp>
#include <mad/core/error.hpp>

#include <exception>
#include <filesystem>
#include <new>
#include <string>

namespace mad::cli {

MAD_COMMAND_LINE int main(int argc, char** argv, const LayerRegistry& layers, const std::vector<tasks::Task>& tasks) {
  std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "mad";
  const Program program{.name = name.empty() ? "mad" : name, .layers = layers, .tasks = tasks};
  const auto fail = [&](const char* what, int status) {
    note("mad: " + std::string(what));
    return status;
  };
  try {
    return detail::run_command_line(argc, argv, program);
  } catch (const UsageError& error) {
    return fail(error.what(), UsageError::exit_status);
  } catch (const std::bad_alloc&) {
    return fail("not enough memory. Make the task, the model or the batch smaller.", Error::exit_status);
  } catch (const std::exception& error) {
    return fail(error.what(), Error::exit_status);
  }
}

}  // namespace mad::cli

#undef MAD_COMMAND_LINE
#endif
