// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Which rows of its operands a run of elementwise nodes meets. What it computes there: tests/ops/elementwise_test.cpp.
#include <mad/cpu/kernels/elementwise.hpp>

#include "catch.hpp"

#include <string>
#include <vector>

namespace {

using mad::Domain;
using mad::Index;
using mad::Space;
using mad::cpu::Place;

/// Values of every domain in memory of their own, each element the number of its row, two columns to the right of where
/// rows of five begin.
class Values {
public:
  explicit Values(const mad::cpu::Context<double>& context) : context_(context) {
    for (const Domain d : domains) {
      std::vector<double>& memory = memory_[static_cast<int>(d)];
      memory.resize(static_cast<std::size_t>(5 * context.rows(d)), -1);
      for (Index r = 0; r < context.rows(d); ++r) memory[static_cast<std::size_t>(5 * r + 2)] = static_cast<double>(r);
      context_.at(Space::saved, d) = memory.data();
    }
    for (int i = 0; i < 4; ++i) {
      places_[i].location.space = Space::saved;
      places_[i].location.domain = domains[i];
      places_[i].location.column = 2;
      places_[i].location.stride = 5;
    }
  }

  /// For each row of a run over `domain` the rows of the values that it meets, such as "4 0 2 0". As text: with AVX-512
  /// g++ 12.2 makes a list of the integers 1, 1, 1, 0 that is all ones.
  std::vector<std::string> met(Domain domain) const {
    std::vector<std::string> result;
    mad::cpu::elementwise::for_rows<4>(context_, domain, places_, domains, [&](double* const* at) {
      std::string rows;
      for (int i = 0; i < 4; ++i) rows += (i > 0 ? " " : "") + std::to_string(static_cast<Index>(*at[i]));
      result.push_back(rows);
    });
    return result;
  }

private:
  static constexpr Domain domains[] = {Domain::tokens, Domain::positions, Domain::sequences, Domain::one};
  mad::cpu::Context<double> context_;
  std::vector<double> memory_[mad::domain_count];
  Place places_[4];
};

}  // namespace

TEST_CASE("a run over tokens meets each token's position and sequence") {
  mad::cpu::Context<double> context({.batch = 3, .length = 2, .max_length = 4});
  SECTION("whole sequences") {
    CHECK(Values(context).met(Domain::tokens) ==
          std::vector<std::string>{"0 0 0 0", "1 1 0 0", "2 0 1 0", "3 1 1 0", "4 0 2 0", "5 1 2 0"});
  }
  SECTION("sequences of which tokens went before") {
    context.past = 2;
    context.position_rows = 4;
    CHECK(Values(context).met(Domain::tokens) ==
          std::vector<std::string>{"0 2 0 0", "1 3 0 0", "2 2 1 0", "3 3 1 0", "4 2 2 0", "5 3 2 0"});
  }
}

TEST_CASE("a run over fewer rows meets the rows of its own number, and the only one") {
  const mad::cpu::Context<double> context({.batch = 2, .length = 2, .max_length = 2});
  for (const Domain domain : {Domain::positions, Domain::sequences})
    CHECK(Values(context).met(domain) == std::vector<std::string>{"0 0 0 0", "1 1 1 0"});
  CHECK(Values(context).met(Domain::one) == std::vector<std::string>{"0 0 0 0"});
}
