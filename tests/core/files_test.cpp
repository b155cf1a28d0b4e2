// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/core/files.hpp>

#include "catch.hpp"
#include "core/temporary_folder.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iterator>

using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {
std::ptrdiff_t entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}
}  // namespace

TEST_CASE("a written file is read back byte for byte, and nothing else is left in its folder") {
  const mad::testing::TemporaryFolder folder;
  const std::string bytes("a\0b\r\n\xff", 6);
  mad::write_file(folder / "new/deep/file", bytes);
  CHECK(mad::read_file(folder / "new/deep/file") == bytes);
  mad::write_file(folder / "new/deep/file", "");
  CHECK(mad::read_file(folder / "new/deep/file").empty());
  CHECK(entries(folder / "new/deep") == 1);
}

TEST_CASE("a file that is longer than one block is read as a whole") {
  const mad::testing::TemporaryFolder folder;
  std::string bytes(200'001, 'x');
  bytes[70'000] = 'y';
  bytes.back() = 'z';
  mad::write_file(folder / "long", bytes);
  CHECK(mad::read_file(folder / "long") == bytes);
}

TEST_CASE("without commit the old file stays and the temporary one goes") {
  const mad::testing::TemporaryFolder folder;
  mad::write_file(folder / "file", "old");
  {
    mad::AtomicFile file(folder / "file");
    file.write("new");
    CHECK(entries(folder.path()) == 2);
    CHECK(mad::read_file(folder / "file") == "old");
  }
  CHECK(mad::read_file(folder / "file") == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a file name without a folder is written to the working directory") {
  const mad::testing::TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  mad::write_file("plain", "text");
  fs::current_path(before);
  CHECK(mad::read_file(folder / "plain") == "text");
}

TEST_CASE("errors of files name the file and the reason") {
  const mad::testing::TemporaryFolder folder;
  mad::write_file(folder / "file", "text");
  CHECK_THROWS_WITH(mad::read_file(folder / "absent"), ContainsSubstring("absent': No such file"));
  CHECK_THROWS_WITH(mad::read_file(folder.path()), ContainsSubstring("Is a directory"));
  CHECK_THROWS_WITH(mad::make_folder(folder / "file"), ContainsSubstring("cannot create the folder"));
  CHECK_THROWS_WITH(mad::write_file(folder / "file/below", "x"), ContainsSubstring("Not a directory"));
  CHECK_THROWS_AS(mad::write_file(folder / "file/below", "x"), mad::Error);
  CHECK_THROWS_WITH(mad::write_file(folder.path(), "x"), ContainsSubstring("cannot write"));
  CHECK_THROWS_AS(mad::require_writable_folder(folder / "file"), mad::UsageError);
  CHECK_THROWS_WITH(mad::require_writable_folder("/proc/self/new"), ContainsSubstring("cannot be written to"));
}

TEST_CASE("a writable folder is created and left empty") {
  const mad::testing::TemporaryFolder folder;
  mad::require_writable_folder(folder / "runs/one");
  CHECK(entries(folder / "runs/one") == 0);
}

TEST_CASE("when the disk refuses, the old file is intact and the part is gone") {
  const mad::testing::TemporaryFolder folder;
  mad::write_file(folder / "file", "old");
  // A limit on the size of files stands for a full disk; in a child process, since it cannot be taken back.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      mad::write_file(folder / "file", std::string(2000, 'x'));
    } catch (const mad::Error&) {
      ::_exit(7);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
  CHECK(mad::read_file(folder / "file") == "old");
  CHECK(entries(folder.path()) == 1);
}
