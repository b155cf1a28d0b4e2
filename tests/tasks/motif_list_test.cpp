// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/tasks/motif_list.hpp>

#include <algorithm>
#include <functional>
#include <vector>

using mad::tasks::MotifList;

namespace {

using Motif = std::vector<std::int64_t>;

/// All motifs by nested loops, the first position slowest.
std::vector<Motif> all_motifs(std::int64_t first_id, std::int64_t ids, std::int64_t length) {
  std::vector<Motif> motifs;
  Motif motif;
  const std::function<void()> extend = [&] {
    if (static_cast<std::int64_t>(motif.size()) == length) {
      motifs.push_back(motif);
      return;
    }
    for (std::int64_t id = first_id; id < first_id + ids; ++id) {
      if (std::find(motif.begin(), motif.end(), id) != motif.end()) continue;
      motif.push_back(id);
      extend();
      motif.pop_back();
    }
  };
  extend();
  return motifs;
}

}  // namespace

TEST_CASE("ranks decode to the motifs in lexicographic order") {
  for (std::int64_t ids = 1; ids <= 7; ++ids) {
    for (std::int64_t length = 1; length <= ids; ++length) {
      INFO(ids << " ids, length " << length);
      const std::vector<Motif> expected = all_motifs(10, ids, length);
      const MotifList list(10, ids, length);
      REQUIRE(list.size() == static_cast<std::int64_t>(expected.size()));
      Motif motif(static_cast<std::size_t>(length));
      for (std::size_t rank = 0; rank < expected.size(); ++rank) {
        list.decode(static_cast<std::int64_t>(rank), motif);
        CHECK(motif == expected[rank]);
      }
    }
  }
}

TEST_CASE("motifs are counted, and too many are noticed before they overflow") {
  CHECK(MotifList::count(63, 3) == 63 * 62 * 61);
  CHECK(MotifList::count(3, 3) == 6);
  CHECK(MotifList::count(2, 3) == 0);
  CHECK(MotifList::count(1 << 26, 1) == MotifList::max_size);
  CHECK(MotifList::count((1 << 26) + 1, 1) == MotifList::max_size + 1);
  CHECK(MotifList::count(std::int64_t{1} << 62, 40) == MotifList::max_size + 1);
}

TEST_CASE("a reshuffled list starts again from lexicographic order") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    mad::random::Generator used_draw(seed), draw(seed);
    MotifList used(0, 5, 2), fresh(0, 5, 2), other(0, 5, 2);
    used.reshuffle(used_draw);
    used.reshuffle(used_draw);
    other.reshuffle(draw);
    fresh.reshuffle(draw);
    REQUIRE(used_draw.state() == draw.state());
    for (int i = 0; i < 50; ++i) CHECK(used.choose(used_draw) == fresh.choose(draw));
  }
}
