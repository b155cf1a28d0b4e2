// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "random/golden.hpp"

#include <mad/core/error.hpp>
#include <mad/random/generator.hpp>

#include <numeric>
#include <span>

using mad::random::Generator;
using mad::random::Pcg64State;
using mad::random::Uint128;
using namespace mad::testing;
using Json = nlohmann::json;
using Tuple = std::vector<std::int64_t>;

namespace {

template <class Item>
std::vector<Item> shuffled(Generator& draw, const Json& before) {
  auto list = before.get<std::vector<Item>>();
  draw.shuffle(std::span(list));
  return list;
}

void perform(Generator& draw, const Json& op) {
  const std::string name = op.at("op");
  if (name == "random") {
    CHECK(draw.random() == number(op.at("value")));
  } else if (name == "integers" || name == "choice_int") {
    CHECK(draw.below_unsigned(word64(op.at("n"))) == word64(op.at("value")));
  } else if (name == "integers_array") {
    for (const std::uint64_t value : words64(op.at("values"))) CHECK(draw.below_unsigned(word64(op.at("n"))) == value);
  } else if (name == "choice_scalar") {
    const Tuple items = op.at("a");
    CHECK(draw.choice(std::span(items)) == op.at("value").get<std::int64_t>());
  } else if (name == "choice_array") {
    const Tuple items = op.at("a");
    const Tuple values = op.at("values");
    for (const std::int64_t value : values) CHECK(draw.choice(std::span(items)) == value);
  } else if (name == "choice_row") {
    const std::vector<Tuple> rows = op.at("rows");
    CHECK(draw.choice(std::span(rows)) == op.at("value").get<Tuple>());
  } else if (name == "shuffle_list") {
    CHECK(shuffled<std::int64_t>(draw, op.at("before")) == op.at("after_list").get<Tuple>());
  } else if (name == "shuffle_tuples") {
    CHECK(shuffled<Tuple>(draw, op.at("before")) == op.at("after_list").get<std::vector<Tuple>>());
  } else {
    FAIL("the fixture has an operation that this test does not know: " << name);
  }
}

/// numpy's list shuffle as its definition has it: one position after the other.
template <class Item>
void shuffle_by_definition(Generator& draw, std::vector<Item>& list) {
  for (std::size_t i = list.size(); i-- > 1;) {
    std::uint32_t mask = 0;
    while (mask < i) mask = 2 * mask + 1;
    std::uint32_t partner;
    do partner = draw.bits().next32() & mask;
    while (partner > i);
    std::swap(list[i], list[partner]);
  }
}

}  // namespace

TEST_CASE("doubles and bounded integers are numpy's") {
  REQUIRE(recorded_streams().at("generator").size() == 5);
  for (const auto& entry : recorded_streams().at("generator")) {
    const std::uint64_t seed = word64(entry.at("seed"));
    INFO("seed " << seed);
    Generator draw(seed);
    for (const auto& value : entry.at("random")) CHECK(draw.random() == number(value));
    for (const auto& range : entry.at("integers")) {
      INFO("n " << range.at("n"));
      Generator fresh(seed);
      for (const std::uint64_t value : words64(range.at("values"))) {
        CHECK(fresh.below_unsigned(word64(range.at("n"))) == value);
      }
    }
  }
}

TEST_CASE("mixed operations are numpy's, and leave the generator as numpy does") {
  for (const auto& entry : recorded_streams().at("generator")) {
    REQUIRE(entry.at("programs").size() == 6);
    for (const auto& program : entry.at("programs")) {
      Generator draw(word64(entry.at("seed")));
      std::size_t step = 0;
      for (const auto& op : program.at("ops")) {
        INFO("seed " << entry.at("seed") << ", program " << program.at("name") << ", step " << step++ << " "
                     << op.at("op"));
        perform(draw, op);
        const Pcg64State state = draw.state();
        const auto& after = op.at("after");
        CHECK((Uint128{state.state_high} << 64 | state.state_low) == word128(after.at("state")));
        CHECK((state.has_spare ? 1 : 0) == after.at("has_uint32").get<int>());
        CHECK(state.spare == after.at("uinteger").get<std::uint32_t>());
      }
    }
  }
}

TEST_CASE("a long shuffle follows the definition word for word, with and without a spare half word") {
  for (const std::size_t size :
       std::vector<std::size_t>{0, 1, 2, 3, 5, 1023, 1024, 1025, 1026, 2048, 2049, 5000, 70000}) {
    for (const int half_words : {0, 1}) {
      INFO(size << " items, " << half_words << " half words drawn before");
      std::vector<std::uint32_t> list(size), expected(size);
      std::iota(list.begin(), list.end(), 0u);
      std::iota(expected.begin(), expected.end(), 0u);
      Generator draw(99), reference(99);
      for (int i = 0; i < half_words; ++i) {
        draw.bits().next32();
        reference.bits().next32();
      }
      draw.shuffle(std::span(list));
      shuffle_by_definition(reference, expected);
      CHECK(list == expected);
      CHECK(draw.state() == reference.state());
    }
  }
}

TEST_CASE("choosing from nothing is an error, and one candidate costs nothing") {
  Generator draw(3);
  const Pcg64State before = draw.state();
  CHECK_THROWS_AS(draw.below(0), mad::Error);
  CHECK_THROWS_AS(draw.below(-5), mad::Error);
  CHECK_THROWS_AS(draw.choice(std::span<const int>()), mad::Error);
  CHECK(draw.below(1) == 0);
  CHECK(draw.state() == before);
}
