// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/core/message.hpp>

#include "catch.hpp"

#include <cstdint>
#include <limits>

namespace mad {

TEST_CASE("a message is its words and numbers, one behind the other") {
  const std::string name = "retnet";
  const std::string_view part = std::string_view("layer width").substr(0, 5);
  CHECK(message({part, " '", name, "': ", 3, " of ", std::size_t{12}}) == "layer 'retnet': 3 of 12");
  CHECK(message({}).empty());
  CHECK(message({""}).empty());
}

TEST_CASE("numbers in a message are whole, and reals the shortest that read back the same") {
  CHECK(message({-7, " ", 0U}) == "-7 0");
  CHECK(message({std::numeric_limits<std::int64_t>::min()}) == "-9223372036854775808");
  CHECK(message({std::numeric_limits<std::uint64_t>::max()}) == "18446744073709551615");
  CHECK(message({0.1, " ", 1e-300, " ", 2.0}) == "0.1 1e-300 2");
  CHECK(message({std::numeric_limits<double>::lowest()}) == "-1.7976931348623157e+308");
}

}  // namespace mad
