// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/interrupt.hpp>

#include "catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

using mad::train::InterruptGuard;

namespace {

/// Runs `body` in a child process; its exit status, or minus the signal that ended it.
template <class Body>
int status_of(const Body& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_CASE("the first signal only raises the flag") {
  InterruptGuard guard;
  CHECK_FALSE(guard.requested());
  CHECK(guard.exit_status() == 0);
  ::raise(SIGINT);
  CHECK(guard.requested());
  CHECK(guard.exit_status() == 130);
}

TEST_CASE("the flag is down for the next guard, and SIGTERM counts too") {
  InterruptGuard guard;
  CHECK_FALSE(guard.requested());
  {
    const InterruptGuard inner;
    ::raise(SIGTERM);
    CHECK(inner.requested());
  }
  CHECK(guard.requested());
  CHECK(guard.exit_status() == 143);
}

TEST_CASE("a second signal ends the program at once") {
  CHECK(status_of([] {
          const InterruptGuard guard;
          ::raise(SIGINT);
          ::raise(SIGINT);
        }) == 130);
}

TEST_CASE("afterwards the former behaviour is back") {
  CHECK(status_of([] {
          std::signal(SIGINT, SIG_DFL);
          { const InterruptGuard guard; }
          ::raise(SIGINT);
        }) == -SIGINT);
}
