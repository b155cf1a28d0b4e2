// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// All motifs of one length over an alphabet, in random order, without ever writing them out.
#pragma once

#include <mad/random/generator.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace mad::tasks {

/// A motif is an ordered selection of different ids. Its *rank* is its place among all motifs of its length in
/// lexicographic order (first position slowest). A shuffled list of motifs is a shuffled list of ranks, of four bytes
/// each; only motifs that are drawn are ever decoded.
class MotifList {
public:
  /// Largest list that is made: the ranks then take 256 MiB.
  static constexpr std::int64_t max_size = std::int64_t{1} << 26;

  /// Number of motifs of `length` out of `ids`: ids! / (ids - length)!, which is 0 if there are too few ids.
  /// Any number above `max_size` is given as `max_size + 1`.
  static std::int64_t count(std::int64_t ids, std::int64_t length) {
    if (length > ids) return 0;
    std::int64_t motifs = 1;
    for (std::int64_t i = 0; i < length; ++i) {
      if (motifs > max_size / (ids - i)) return max_size + 1;
      motifs *= ids - i;
    }
    return motifs;
  }

  /// Motifs of `length` over the ids [first_id, first_id + ids), at most `max_size` and at least one.
  MotifList(std::int64_t first_id, std::int64_t ids, std::int64_t length)
      : first_id_(first_id), ids_(ids), length_(length), ranks_(static_cast<std::size_t>(count(ids, length))) {}

  std::int64_t size() const { return static_cast<std::int64_t>(ranks_.size()); }
  std::int64_t length() const { return length_; }

  /// Puts the list into lexicographic order and then shuffles it.
  void reshuffle(random::Generator& draw) {
    std::iota(ranks_.begin(), ranks_.end(), 0u);
    draw.shuffle(std::span(ranks_));
  }

  /// One motif of the shuffled list, as its rank.
  std::uint32_t choose(random::Generator& draw) const { return draw.choice(std::span<const std::uint32_t>(ranks_)); }

  /// Writes the ids of a motif; `motif` has `length` places.
  void decode(std::int64_t rank, std::span<std::int64_t> motif) const {
    // The rank in the mixed radix (ids - length + 1), ..., ids: digit i says which of the ids not used yet comes next.
    for (std::size_t i = motif.size(); i-- > 0;) {
      const std::int64_t radix = ids_ - static_cast<std::int64_t>(i);
      motif[i] = rank % radix;
      rank /= radix;
    }
    // Later digits count only unused ids, so from the back each digit passes over the ones in front of it.
    for (std::size_t i = motif.size(); i-- > 0;) {
      for (std::size_t later = i + 1; later < motif.size(); ++later) {
        if (motif[later] >= motif[i]) ++motif[later];
      }
    }
    for (std::int64_t& id : motif) id += first_id_;
  }

private:
  std::int64_t first_id_;
  std::int64_t ids_;
  std::int64_t length_;
  std::vector<std::uint32_t> ranks_;
};

}  // namespace mad::tasks
