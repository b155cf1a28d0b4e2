// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The two kinds of failure that a user meets, and the exit status each becomes.
#pragma once

#include <stdexcept>
#include <string>

namespace mad {

/// Something went wrong while doing what was asked: a damaged file, a full disk, a diverging loss.
/// A program that catches it exits with status 1. The text's first line says what is wrong, where, and what to do.
class Error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
  static constexpr int exit_status = 1;
};

/// What was asked cannot be done as asked: an unknown option, an impossible setting, a layer that does not exist.
/// Thrown before any work starts. A program that catches it exits with status 2.
class UsageError : public Error {
public:
  using Error::Error;
  static constexpr int exit_status = 2;
};

}  // namespace mad
