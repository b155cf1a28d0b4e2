// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Numbers and tables for a terminal, and the names nearest to a misspelt one.
#include "catch.hpp"

#include <mad/cli/nearest_name.hpp>
#include <mad/cli/text_table.hpp>

#include <limits>

namespace mad::testing {

TEST_CASE("digits are grouped by three") {
  CHECK(cli::grouped(0) == "0");
  CHECK(cli::grouped(999) == "999");
  CHECK(cli::grouped(1000) == "1,000");
  CHECK(cli::grouped(131072) == "131,072");
  CHECK(cli::grouped(1234567890) == "1,234,567,890");
  CHECK(cli::grouped(-999) == "-999");
  CHECK(cli::grouped(-123456) == "-123,456");
}

TEST_CASE("decimals have a fixed number of places") {
  CHECK(cli::decimal(0.5) == "0.5000");
  CHECK(cli::decimal(2.0 / 3.0, 2) == "0.67");
  CHECK(cli::decimal(12345678.0) == "1.2346e+07");
  CHECK(cli::decimal(std::numeric_limits<double>::quiet_NaN()) == "-");
}

TEST_CASE("columns are aligned") {
  using enum cli::TextTable::Align;
  cli::TextTable table({left, right, left});
  table.add({"a", "100", "x"});
  table.add({"bcd", "1", ""});
  CHECK(table.text() == "a    100  x\nbcd    1\n");
}

TEST_CASE("the nearest name is a misspelling or an abbreviation away") {
  const std::vector<std::string> names{"sliding-attention", "attention", "hyena", "mamba", "mlp"};
  CHECK(cli::nearest_name("hyenna", names) == "hyena");
  CHECK(cli::nearest_name("attn", names) == "attention");
  CHECK(cli::nearest_name("Mamba2", names) == "mamba");
  CHECK(cli::nearest_name("MLP", names) == "mlp");
  CHECK(cli::nearest_name("slidin-attention", names) == "sliding-attention");
  CHECK(cli::nearest_name("transformer", names).empty());
  CHECK(cli::nearest_name("", names).empty());
  CHECK(cli::did_you_mean("hyenna", names) == " Did you mean 'hyena'?");
  CHECK(cli::did_you_mean("transformer", names).empty());
}

}  // namespace mad::testing
