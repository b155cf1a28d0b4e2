// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/progress.hpp>

#include "catch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <string>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using namespace mad::train;

namespace {

ProgressState half_way() {
  return {
      .label = "memorization", .epoch = 5, .epochs = 20, .batch = 50, .batches = 100, .loss = 1.25, .accuracy = 0.5};
}

/// What arrives until nothing more does for a while; a terminal hands its text over in pieces.
std::string read_all(int descriptor) {
  std::string all;
  pollfd readable{.fd = descriptor, .events = POLLIN, .revents = 0};
  while (::poll(&readable, 1, 500) > 0 && (readable.revents & POLLIN) != 0) {
    std::array<char, 4096> text{};
    const ssize_t size = ::read(descriptor, text.data(), text.size());
    if (size <= 0) break;
    all.append(text.data(), static_cast<std::size_t>(size));
  }
  return all;
}

}  // namespace

TEST_CASE("durations are written for people") {
  CHECK(duration_text(0.2) == "0 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(59.6) == "1 min 00 s");
  CHECK(duration_text(185) == "3 min 05 s");
  CHECK(duration_text(7625) == "2 h 07 min");
  CHECK(duration_text(-3) == "0 s");
}

TEST_CASE("a wide line shows everything, a narrow one what matters most") {
  // 5.5 of 20 epochs took 55 s: 10 s an epoch, 145 s are left.
  const std::string whole =
      "memorization  [#####...............]  epoch 6/20  loss 1.2500  accuracy 0.5000  2 min 25 s left";
  CHECK(progress_line(half_way(), 55, 200) == whole);
  CHECK(progress_line(half_way(), 55, static_cast<Index>(whole.size())) == whole);
  CHECK(progress_line(half_way(), 55, 79) == "memorization  epoch 6/20  loss 1.2500  accuracy 0.5000  2 min 25 s left");
  CHECK(progress_line(half_way(), 55, 60) == "memorization  epoch 6/20  loss 1.2500  accuracy 0.5000");
  CHECK(progress_line(half_way(), 55, 45) == "epoch 6/20  loss 1.2500  accuracy 0.5000");
  CHECK(progress_line(half_way(), 55, 30) == "epoch 6/20  accuracy 0.5000");
  CHECK(progress_line(half_way(), 55, 15) == "accuracy 0.5000");
  CHECK(progress_line(half_way(), 55, 4) == "accu");
  for (Index width = 0; width < 120; ++width) {
    CHECK(static_cast<Index>(progress_line(half_way(), 55, width).size()) <= width);
  }
}

TEST_CASE("what is not known yet is not shown, and the end says how long it took") {
  CHECK(progress_line({.epochs = 3}, 0, 100) == "[....................]  epoch 0/3");
  CHECK(progress_line({.epoch = 3, .epochs = 3}, 61, 100) == "[####################]  epoch 3/3  took 1 min 01 s");
}

TEST_CASE("elsewhere than on a terminal every epoch is a plain line") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  {
    Progress progress(ends[1]);
    CHECK_FALSE(progress.on_terminal());
    progress.begin();
    progress.update(half_way());
    progress.message("saved");
    ProgressState state = half_way();
    state.epoch = 20;
    state.batch = 0;
    progress.end_epoch(state);
  }
  ::close(ends[1]);
  CHECK(read_all(ends[0]) == "saved\nmemorization  epoch 20/20  loss 1.2500  accuracy 0.5000  took 0 s\n");
  ::close(ends[0]);
}

TEST_CASE("on a terminal the line is rewritten and fits the width") {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(master >= 0);
  REQUIRE(::grantpt(master) == 0);
  REQUIRE(::unlockpt(master) == 0);
  const int terminal = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  REQUIRE(terminal >= 0);
  winsize size{};
  size.ws_col = 31;
  REQUIRE(::ioctl(terminal, TIOCSWINSZ, &size) == 0);
  ::setenv("TERM", "xterm", 1);
  {
    Progress progress(terminal);
    CHECK(progress.on_terminal());
    progress.begin();
    progress.update(half_way());
    progress.update(half_way());  // too soon: not shown
    progress.message("saved");
    progress.end_epoch(half_way());
  }
  // The terminal itself turns "\n" into "\r\n".
  const std::string line = "\repoch 6/20  accuracy 0.5000\x1b[K";
  CHECK(read_all(master) == line + "\r\x1b[Ksaved\r\n" + line + "\r\n");
  ::close(terminal);
  ::close(master);
}
