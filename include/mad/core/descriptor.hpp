// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// File descriptors. Apart from core/files.hpp, because <filesystem> is a twentieth of the time that a program which
/// writes no files takes to compile.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace mad::detail {

/// Closes a file descriptor at the end of the scope.
class Descriptor {
public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return value_; }
  bool is_open() const { return value_ >= 0; }
  int release() {
    const int value = value_;
    value_ = -1;
    return value;
  }

private:
  int value_;
};

/// Writes all bytes; false (and errno) if the system refuses.
inline bool write_all(int descriptor, const void* data, std::size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor, next, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    next += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace mad::detail
