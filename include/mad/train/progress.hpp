// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How a run shows that it is alive: one line rewritten in place on a terminal, one line per epoch elsewhere.
#pragma once

#include <mad/core/descriptor.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mad::train {

/// What is known about a run at one moment.
struct ProgressState {
  std::string label = {};  ///< what is being trained, such as `in-context-recall 3/11`; may be empty
  Index epoch = 0;         ///< epochs that are complete
  Index epochs = 1;
  Index batch = 0;  ///< batches of the current epoch that are complete
  Index batches = 1;
  double loss = std::numeric_limits<double>::quiet_NaN();      ///< latest training loss
  double accuracy = std::numeric_limits<double>::quiet_NaN();  ///< test accuracy of the latest complete epoch

  /// Share of the run that is done, 0 to 1.
  double done() const {
    const double epochs_done =
        static_cast<double>(epoch) + static_cast<double>(batch) / static_cast<double>(std::max<Index>(batches, 1));
    return std::clamp(epochs_done / static_cast<double>(std::max<Index>(epochs, 1)), 0.0, 1.0);
  }
};

/// `45 s`, `3 min 05 s`, `2 h 07 min`.
[[gnu::cold]] inline std::string duration_text(double seconds) {
  const long long total = std::llround(std::clamp(seconds, 0.0, 1e9));
  const auto larger_and_smaller = [](long long larger, const char* unit, long long smaller, const char* smaller_unit) {
    return message({larger, unit, smaller < 10 ? "0" : "", smaller, smaller_unit});
  };
  if (total < 60) return message({total, " s"});
  if (total < 3600) return larger_and_smaller(total / 60, " min ", total % 60, " s");
  return larger_and_smaller(total / 3600, " h ", total % 3600 / 60, " min");
}

/// One line of at most `width` characters. What matters least is left out first: the bar, the time left, the label,
/// the loss. `seconds` is the time since the run began.
[[gnu::cold]] inline std::string progress_line(const ProgressState& state, double seconds, Index width) {
  const auto number = [](double value) {
    std::array<char, 64> text{};
    const auto format = std::abs(value) < 1e6 ? std::chars_format::fixed : std::chars_format::scientific;
    return std::string(text.data(), std::to_chars(text.data(), text.data() + text.size(), value, format, 4).ptr);
  };
  const double done = state.done();
  const Index current = std::min(state.epoch + (state.batch > 0 ? 1 : 0), state.epochs);

  struct Part {
    std::string text;
    int rank;  ///< the largest goes first
  };
  std::vector<Part> parts;
  if (!state.label.empty()) parts.push_back({state.label, 3});
  if (width < std::numeric_limits<Index>::max()) {
    const auto filled = static_cast<std::size_t>(std::floor(done * 20));
    parts.push_back({message({"[", std::string(filled, '#'), std::string(20 - filled, '.'), "]"}), 5});
  }
  parts.push_back({message({"epoch ", current, "/", state.epochs}), 1});
  if (!std::isnan(state.loss)) parts.push_back({"loss " + number(state.loss), 2});
  if (!std::isnan(state.accuracy)) parts.push_back({"accuracy " + number(state.accuracy), 0});
  if (done > 0 && done < 1) parts.push_back({duration_text(seconds / done * (1 - done)) + " left", 4});
  if (done >= 1) parts.push_back({"took " + duration_text(seconds), 4});

  constexpr std::string_view separator = "  ";
  const auto joined = [&] {
    std::string line;
    for (const Part& part : parts) line.append(line.empty() ? "" : separator).append(part.text);
    return line;
  };
  std::string line = joined();
  while (static_cast<Index>(line.size()) > width && parts.size() > 1) {
    parts.erase(std::ranges::max_element(parts, {}, &Part::rank));
    line = joined();
  }
  if (static_cast<Index>(line.size()) > width) line.resize(static_cast<std::size_t>(std::max<Index>(width, 0)));
  return line;
}

/// Shows the progress of one run after another on a file descriptor, usually standard error. On a terminal the line is
/// rewritten in place, at most ten times a second; elsewhere (a file, a pipe, `TERM=dumb`) every epoch is a line.
class Progress {
public:
  explicit Progress(int descriptor = STDERR_FILENO) : descriptor_(descriptor), terminal_(is_terminal(descriptor)) {}
  ~Progress() { end_line(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool on_terminal() const { return terminal_; }

  /// A run begins; time left is counted from here. `done_before` is the share that an earlier session did (resuming).
  void begin(double done_before = 0) {
    end_line();
    start_ = Clock::now();
    done_before_ = std::clamp(done_before, 0.0, 1.0);
    last_shown_ = {};
  }

  /// Something changed inside an epoch. Shown on a terminal only.
  void update(const ProgressState& state) {
    if (!terminal_) return;
    const auto now = Clock::now();
    if (line_open_ && now - last_shown_ < std::chrono::milliseconds(100)) return;
    last_shown_ = now;
    rewrite(state);
  }

  /// An epoch is complete. Always shown.
  void end_epoch(const ProgressState& state) {
    if (terminal_) {
      rewrite(state);
    } else {
      write(progress_line(state, scaled_seconds(state), std::numeric_limits<Index>::max()) + "\n");
    }
  }

  /// Shows a text on lines of its own, above the progress line.
  void message(std::string_view text) {
    write((line_open_ ? "\r\x1b[K" : "") + std::string(text) + (text.ends_with('\n') ? "" : "\n"));
    line_open_ = false;
  }

  /// Leaves the line as it is and goes on below it.
  void end_line() {
    if (line_open_) write("\n");
    line_open_ = false;
  }

private:
  using Clock = std::chrono::steady_clock;

  static bool is_terminal(int descriptor) {
    const char* kind = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
  }

  /// One less than the columns of the terminal: a character in the last one would make some terminals wrap.
  Index width() const {
    winsize size{};
    if (::ioctl(descriptor_, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return size.ws_col - 1;
    return 79;
  }

  /// Time the whole run would have taken so far at the speed of this session.
  double scaled_seconds(const ProgressState& state) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const double here = state.done() - done_before_;
    return here > 0 ? seconds * state.done() / here : seconds;
  }

  void rewrite(const ProgressState& state) {
    write("\r" + progress_line(state, scaled_seconds(state), width()) + "\x1b[K");
    line_open_ = true;
  }

  /// Progress that cannot be shown (a closed terminal) is no reason to stop a run.
  void write(std::string_view text) const {
    [[maybe_unused]] const bool shown = mad::detail::write_all(descriptor_, text.data(), text.size());
  }

  int descriptor_;
  bool terminal_;
  bool line_open_ = false;
  double done_before_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_shown_{};
};

}  // namespace mad::train
