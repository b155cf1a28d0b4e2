// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Runs the built program in a folder of its own, as a person would, and looks at what it says and leaves behind.
#pragma once

#include "catch.hpp"
#include "core/temporary_folder.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace mad::testing {

using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments first, const Arguments& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void put_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  REQUIRE(file.flush().good());
}

/// What a program said, and its exit status: 128 + signal if a signal ended it.
struct Said {
  int status = -1;
  std::string out;
  std::string err;
};

/// A process that works in `folder`. Its output goes to files in a folder beside it.
class Process {
public:
  /// Runs `body` in a child process; what it returns is the exit status.
  Process(const std::filesystem::path& folder, const std::function<int()>& body) {
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ != 0) return;
    const bool ready = ::chdir(folder.c_str()) == 0 && redirect(out(), 1) && redirect(err(), 2);
    ::_exit(ready ? body() : 126);
  }
  /// Runs the program mad.
  Process(const std::filesystem::path& folder, const Arguments& arguments)
      : Process(folder, [&] {
          std::vector<char*> words{const_cast<char*>("mad")};
          for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
          words.push_back(nullptr);
          ::execv(MAD_PROGRAM, words.data());
          return 127;
        }) {}
  ~Process() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Sends a signal once standard error has said `text`. Fails if that does not happen within a minute.
  void kill_when(std::string_view text, int signal) {
    for (int i = 0; i < 60'000 && bytes_of(err()).find(text) == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(bytes_of(err()).find(text) != std::string::npos);
    REQUIRE(::kill(child_, signal) == 0);
  }

  Said wait() {
    int status = 0;
    REQUIRE(::waitpid(child_, &status, 0) == child_);
    child_ = -1;
    return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), bytes_of(out()), bytes_of(err())};
  }

private:
  static bool redirect(const std::filesystem::path& file, int descriptor) {
    const int opened = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    return opened >= 0 && ::dup2(opened, descriptor) == descriptor;
  }
  std::filesystem::path out() const { return said_ / "out"; }
  std::filesystem::path err() const { return said_ / "err"; }

  TemporaryFolder said_;
  pid_t child_ = -1;
};

/// Runs the program mad to its end.
inline Said mad(const std::filesystem::path& folder, const Arguments& arguments) {
  return Process(folder, arguments).wait();
}

/// A training of about a second.
inline const Arguments small_training{"train", "--dim",
                                      "64",    "--seq-len",
                                      "16",    "--num-train-examples",
                                      "64",    "--num-test-examples",
                                      "32",    "--batch-size",
                                      "32",    "--epochs",
                                      "2",     "--layers",
                                      "mA",    "Sg"};

/// `arguments` with the value behind `option` replaced, or the option appended.
inline Arguments with(Arguments arguments, const std::string& option, const std::string& value) {
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i) {
    if (arguments[i] != option) continue;
    arguments[i + 1] = value;
    return arguments;
  }
  return arguments + Arguments{option, value};
}

/// The only entry of a folder.
inline std::filesystem::path only_entry(const std::filesystem::path& folder) {
  REQUIRE(std::filesystem::is_directory(folder));
  std::vector<std::filesystem::path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) entries.push_back(entry.path());
  REQUIRE(entries.size() == 1);
  return entries.front();
}

}  // namespace mad::testing
