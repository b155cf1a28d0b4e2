// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Rotary position encoding: the table of cosines and sines, and the rotation of rows by their position.
#pragma once

#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

namespace mad::cpu {

/// What is rotated and how. Of every head the first `rotary` channels turn, the others stay.
struct RotarySizes {
  int heads = 1;
  int head_dim = 1;
  int rotary = 0;            ///< even, at most head_dim; 0 turns nothing
  double rotary_base = 1e4;  ///< pair j turns by position * rotary_base^(-2j/rotary)
  bool interleaved = false;  ///< pairs (2j, 2j+1) instead of (j, j + rotary/2)
};

/// With the angle, or against it: the second undoes the first and is its gradient.
enum class Turn { forward, backward };

/// Cosines and sines of every position, evaluated in double (Su et al. 2021, arXiv 2104.09864, equation 34).
/// A row holds `rotary` numbers: first all cosines, then all sines; or (cosine, sine) per pair where interleaved.
template <class T>
class RotaryTable {
public:
  RotaryTable(int rotary, double base, bool interleaved) : rotary_(rotary), base_(base), interleaved_(interleaved) {}

  /// Makes positions 0 to length - 1 available; pointers to earlier rows become invalid.
  void extend(Index length) {
    if (length <= length_) return;
    const Index half = rotary_ / 2;
    values_.resize(static_cast<std::size_t>(length * rotary_));
    for (Index j = 0; j < half; ++j) {
      const double frequency = std::pow(base_, -2.0 * static_cast<double>(j) / rotary_);
      for (Index t = length_; t < length; ++t) {
        const double angle = static_cast<double>(t) * frequency;
        T* row = values_.data() + t * rotary_;
        row[interleaved_ ? 2 * j : j] = static_cast<T>(std::cos(angle));
        row[interleaved_ ? 2 * j + 1 : half + j] = static_cast<T>(std::sin(angle));
      }
    }
    length_ = length;
  }

  /// Turns the first `rotary` channels of one head at positions first to first + count - 1, whose rows begin at
  /// x.data and y.data; the channels behind are not written. x and y may be the same.
  void turn(Index first, Index count, View<const T> x, View<T> y, Turn direction) const {
    const View<const T> row{values_.data() + first * rotary_, rotary_};
    const T sign = direction == Turn::forward ? T(1) : T(-1);
    if (interleaved_) {
      for (Index t = 0; t < count; ++t) turn_pairs(row.row(t), x.row(t), y.row(t), sign);
    } else {
      turn_halves(row, count, x, y, sign);
    }
  }

  int rotary() const { return rotary_; }
  double base() const { return base_; }
  bool interleaved() const { return interleaved_; }
  Index length() const { return length_; }

private:
  void turn_pairs(const T* row, const T* x, T* y, T sign) const {
    for (Index j = 0; j < rotary_; j += 2) {
      const T a = x[j], b = x[j + 1], c = row[j], s = sign * row[j + 1];
      y[j] = a * c - b * s;
      y[j + 1] = a * s + b * c;
    }
  }

  void turn_halves(View<const T> row, Index count, View<const T> x, View<T> y, T sign) const {
    using namespace Eigen::internal;
    const Index half = rotary_ / 2;
    for_stretches<T>(half, [&](auto at, Index begin, Index end) {
      for (Index t = 0; t < count; ++t) {
        const T *from = x.row(t), *cosine = row.row(t), *sine = cosine + half;
        T* to = y.row(t);
        for (Index j = begin; j < end; j += at.size) {
          const auto a = at.load(from + j), b = at.load(from + half + j);
          const auto c = at.load(cosine + j), s = pmul(at.all(sign), at.load(sine + j));
          at.store(to + j, psub(pmul(a, c), pmul(b, s)));
          at.store(to + half + j, pmadd(a, s, pmul(b, c)));
        }
      }
    });
  }

  int rotary_;
  double base_;
  bool interleaved_;
  Index length_ = 0;
  std::vector<T> values_;
};

/// The calling thread's table, long enough for `length` positions; kept until the thread ends. The reference stays
/// valid, its rows until the next call that asks for more positions. Null where nothing turns (`rotary` is 0).
template <class T>
const RotaryTable<T>* rotary_table(int rotary, double base, bool interleaved, Index length) {
  thread_local std::vector<std::unique_ptr<RotaryTable<T>>> tables;
  if (rotary == 0) return nullptr;
  auto found = std::find_if(tables.begin(), tables.end(), [&](const auto& table) {
    return table->rotary() == rotary && table->base() == base && table->interleaved() == interleaved;
  });
  if (found == tables.end()) {
    found = tables.insert(tables.end(), std::make_unique<RotaryTable<T>>(rotary, base, interleaved));
  }
  (*found)->extend(length);
  return found->get();
}

/// y = x with every head of every token turned by its position in the sequence; positions count from 0.
/// x and y are (tokens, heads * head_dim) and may be the same memory. `Turn::backward` is the gradient of
/// `Turn::forward`.
template <class T>
void rotate(const Shape& shape, const RotarySizes& sizes, View<const T> x, View<T> y, Turn direction) {
  const RotaryTable<T>* table = rotary_table<T>(sizes.rotary, sizes.rotary_base, sizes.interleaved, shape.length);
  for (Index b = 0; b < shape.batch; ++b) {
    for (int h = 0; h < sizes.heads; ++h) {
      const Index column = Index{h} * sizes.head_dim;
      const View<const T> from = x.rows_from(b * shape.length).columns_from(column);
      const View<T> to = y.rows_from(b * shape.length).columns_from(column);
      if (table) table->turn(0, shape.length, from, to, direction);
      if (from.data == to.data) continue;
      for (Index t = 0; t < shape.length; ++t) {
        std::copy(from.row(t) + sizes.rotary, from.row(t) + sizes.head_dim, to.row(t) + sizes.rotary);
      }
    }
  }
}

/// The same for one token of each of \p batch sequences, all at \p position; x and y (batch, heads * head_dim).
template <class T>
void rotate_step(Index batch, Index position, const RotarySizes& sizes, View<const T> x, View<T> y, Turn direction) {
  const RotaryTable<T>* table = rotary_table<T>(sizes.rotary, sizes.rotary_base, sizes.interleaved, position + 1);
  for (Index b = 0; b < batch; ++b) {
    for (int h = 0; h < sizes.heads; ++h) {
      const View<const T> from = x.rows_from(b).columns_from(Index{h} * sizes.head_dim);
      const View<T> to = y.rows_from(b).columns_from(Index{h} * sizes.head_dim);
      if (table) table->turn(position, 1, from, to, direction);
      if (from.data == to.data) continue;
      std::copy(from.data + sizes.rotary, from.data + sizes.head_dim, to.data + sizes.rotary);
    }
  }
}

}  // namespace mad::cpu
