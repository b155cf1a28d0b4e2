// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Token embedding: rows of a table by id, and the gradient of the table.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/message.hpp>
#include <mad/core/shape.hpp>
#include <mad/core/view.hpp>
#include <mad/cpu/packets/eigen_packets.hpp>
#include <mad/cpu/packets/packet_loop.hpp>

#include <algorithm>
#include <string>

namespace mad::cpu {

/// Throws an Error unless every id, (batch, length) row-major, is between 0 and vocabulary - 1. `first_row` is the
/// number that the message gives to the first sequence, where `ids` is a part of a larger batch.
inline void check_token_ids(const Shape& shape, const int* ids, Index vocabulary, Index first_row = 0) {
  for (Index i = 0; i < shape.tokens(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      throw Error(
          message({"embedding: the token id at row ", first_row + i / shape.length, ", column ", i % shape.length,
                   " is ", ids[i], "; expected an id from 0 to ", vocabulary - 1, " (vocabulary size ", vocabulary,
                   "). Use a model with the vocabulary size of the data, or make the data for that of the model."}));
    }
  }
}

/// out[token] = table[ids[token]]. ids: (batch, length) row-major, checked before anything is written; table:
/// (vocabulary, width); out: (tokens, width), overwritten.
template <class T>
void embedding_forward(const Shape& shape, const int* ids, View<const T> table, Index vocabulary, Index width,
                       View<T> out, Index first_row = 0) {
  check_token_ids(shape, ids, vocabulary, first_row);
  for (Index i = 0; i < shape.tokens(); ++i) std::copy_n(table.row(ids[i]), width, out.row(i));
}

/// d_table[ids[token]] += d_out[token], in the order of the tokens.
template <class T>
void embedding_backward(const Shape& shape, const int* ids, View<const T> d_out, Index vocabulary, Index width,
                        View<T> d_table, Index first_row = 0) {
  check_token_ids(shape, ids, vocabulary, first_row);
  for (Index i = 0; i < shape.tokens(); ++i) {
    const T* from = d_out.row(i);
    T* to = d_table.row(ids[i]);
    for_packets<T>(
        width, [&](auto at, Index c) { at.store(to + c, Eigen::internal::padd(at.load(to + c), at.load(from + c))); });
  }
}

}  // namespace mad::cpu
