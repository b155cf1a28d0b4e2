// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Files that are there as a whole or not at all, and errors that name the file.
#pragma once

#include <mad/core/descriptor.hpp>
#include <mad/core/error.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace mad {

namespace detail {

inline std::string quoted(const std::filesystem::path& path) { return "'" + path.string() + "'"; }

inline std::string system_reason(int error) { return std::generic_category().message(error); }

}  // namespace detail

/// The bytes of a file.
/// \throws Error naming the file and the system's reason, if it cannot be read.
inline std::string read_file(const std::filesystem::path& path) {
  const detail::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    throw Error("cannot read " + detail::quoted(path) + ": " + detail::system_reason(errno) +
                ". Check the path and its permissions.");
  }
  std::string bytes;
  struct stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    bytes.reserve(static_cast<std::size_t>(status.st_size));
  }
  char block[1 << 16];
  for (;;) {
    const ssize_t count = ::read(file.get(), block, sizeof block);
    if (count == 0) return bytes;
    if (count > 0) {
      bytes.append(block, static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      throw Error("cannot read " + detail::quoted(path) + ": " + detail::system_reason(errno) +
                  ". It must be a regular file.");
    }
  }
}

/// Creates a folder and its parents; one that exists already is fine.
/// \throws Error if something else is in the way or the system refuses.
inline void make_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (std::filesystem::is_directory(folder)) return;
  throw Error("cannot create the folder " + detail::quoted(folder) + ": " +
              (error ? error.message() : std::string("a file of this name is in the way")) +
              ". Choose another place or correct its permissions.");
}

/// A file being written next to its final place. `commit()` puts it there in one step (`rename`), so that a reader, or
/// a run that is killed, sees the old file or the new one and never a part. Without `commit()` nothing changes.
///
/// The data reach the disk before the name does (`fsync`). A process killed between the two leaves a hidden file
/// `.NAME.PID-N.tmp` behind, which nobody reads.
class AtomicFile {
public:
  /// Opens the temporary file; creates the folder if it does not exist.
  /// \throws Error if the folder cannot be created or written to.
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    static std::atomic<unsigned> count{0};
    make_folder(path_.parent_path());
    const std::string name =
        "." + path_.filename().string() + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".tmp";
    temporary_ = path_.parent_path() / name;
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail(errno);
  }
  ~AtomicFile() { discard(); }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. \throws Error if the disk is full or the system refuses.
  void write(const void* data, std::size_t size) {
    if (!detail::write_all(descriptor_, data, size)) fail(errno);
  }
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Gives the file its name, replacing an older one. \throws Error; the older file is then still intact.
  void commit() {
    if (::fsync(descriptor_) != 0 && errno != EINVAL) fail(errno);  // EINVAL: a file system without fsync
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (::close(descriptor) != 0) fail(errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
    temporary_.clear();
  }

private:
  void discard() noexcept {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
  }

  [[noreturn]] void fail(int error) {
    discard();
    throw Error("cannot write " + detail::quoted(path_) + ": " + detail::system_reason(error) +
                ". An older file of this name is unchanged; free some space, correct the permissions, or choose "
                "another folder.");
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// Writes a whole file in one step, creating its folder. \throws Error; an older file is then still intact.
inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

/// Checks, before any work starts, that files can be written to `folder`; creates it if needed.
/// \throws UsageError if they cannot.
inline void require_writable_folder(const std::filesystem::path& folder) {
  try {
    AtomicFile probe(folder / "probe");
    probe.write("probe");
  } catch (const Error& error) {
    throw UsageError("the folder " + detail::quoted(folder) +
                     " cannot be written to. Choose another folder or correct its permissions.\n" + error.what());
  }
}

}  // namespace mad
