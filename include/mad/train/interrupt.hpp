// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Ctrl-C as a request to stop at the next good moment.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace mad::train {

namespace detail {

inline std::atomic<int> interrupt_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

inline constexpr int signal_exit_base = 128;  // the shells' convention

extern "C" inline void mad_on_interrupt(int signal) {
  if (interrupt_signal.exchange(signal, std::memory_order_relaxed) != 0) ::_exit(signal_exit_base + signal);
}

}  // namespace detail

/// While an object of this class lives, SIGINT (Ctrl-C) and SIGTERM only set a flag, which the trainer asks for between
/// steps: it finishes the step, saves, and says how to resume. A second signal ends the program at once, with exit
/// status 130 for Ctrl-C. At the end the former handlers are back, and the flag is down.
///
/// The flag belongs to the process: of several objects alive at once the first one installs and removes the handlers.
class InterruptGuard {
public:
  InterruptGuard() : owner_(count()++ == 0) {
    if (!owner_) return;
    detail::interrupt_signal = 0;
    struct sigaction action {};
    action.sa_handler = detail::mad_on_interrupt;
    ::sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;  // a file that is being written is not to fail
    ::sigaction(SIGINT, &action, &former_int_);
    ::sigaction(SIGTERM, &action, &former_term_);
  }
  ~InterruptGuard() {
    --count();
    if (!owner_) return;
    ::sigaction(SIGINT, &former_int_, nullptr);
    ::sigaction(SIGTERM, &former_term_, nullptr);
    detail::interrupt_signal = 0;
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// True after a signal. Any thread may ask.
  bool requested() const { return detail::interrupt_signal.load(std::memory_order_relaxed) != 0; }

  /// What the program should exit with after it has stopped: 130 after Ctrl-C, 143 after SIGTERM, 0 without a signal.
  int exit_status() const {
    const int signal = detail::interrupt_signal.load(std::memory_order_relaxed);
    return signal == 0 ? 0 : detail::signal_exit_base + signal;
  }

private:
  static std::atomic<int>& count() {
    static std::atomic<int> guards{0};
    return guards;
  }

  bool owner_;
  struct sigaction former_int_ {};
  struct sigaction former_term_ {};
};

}  // namespace mad::train
