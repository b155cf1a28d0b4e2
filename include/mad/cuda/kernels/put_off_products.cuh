// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Matrix products of a layer that come one after the other are noted, and computed together when a step comes that
/// has to do with what they read and write. One that adds to the result of another becomes a further term of it. One
/// that is put off alone and has few columns is computed with the product that reads them (low_rank_product.cuh). A
/// norm is put off for the products of it that may come next (normed_products.cuh), and a channel mixer for the
/// gradient of the norm in front of it.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/cuda/products/low_rank_product.cuh>
#include <mad/cuda/products/matrix_product.cuh>
#include <mad/cuda/products/norm_gradient_product.cuh>
#include <mad/cuda/products/normed_products.cuh>
#include <mad/cuda/products/product_group.cuh>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace mad::cuda {

namespace put_off_detail {

/// Rows up to which maps gain by company that are wider than one part of a group: their rows are read several times.
inline constexpr Index most_wide_rows = Index{1} << 15;

/// Columns of rows in memory.
struct Columns {
  const BFloat16* first = nullptr;
  std::size_t stride = 0;
  int count = 0;
};

/// All bytes between the first and the last; none of no columns.
inline Bytes bytes_of(const Columns& c, Index rows) {
  const auto* begin = reinterpret_cast<const std::byte*>(c.first);
  if (begin == nullptr || rows == 0) return {begin, begin};
  return {begin, reinterpret_cast<const std::byte*>(c.first + static_cast<std::size_t>(rows - 1) * c.stride + c.count)};
}

inline bool meet(Bytes a, Bytes b) { return a.begin < b.end && b.begin < a.end; }
/// Columns of the same rows meet only where they are the same.
inline bool meet(const Columns& a, const Columns& b, Index rows) {
  if (!meet(bytes_of(a, rows), bytes_of(b, rows))) return false;
  if (a.stride != b.stride) return true;
  const Columns& left = a.first < b.first ? a : b;
  const Columns& right = a.first < b.first ? b : a;
  const auto between = static_cast<std::size_t>(right.first - left.first) % a.stride;
  return between < static_cast<std::size_t>(left.count) || between + static_cast<std::size_t>(right.count) > a.stride;
}

inline Columns result_of(const GroupedProduct& p) { return {p.y, p.y_stride, p.columns}; }
inline Columns input_of(const NormOfRows& n) { return {n.x, n.x_stride, n.width}; }
inline Columns result_of(const NormOfRows& n) { return {n.y, n.y_stride, n.width}; }

/// True if \p is holds for any of the columns that a product reads.
template <class Is>
bool any_read(const GroupedProduct& p, const Is& is) {
  for (int t = 0; t < p.terms; ++t) {
    const GroupedProduct::Term& term = p.term[static_cast<std::size_t>(t)];
    if (is(Columns{term.x, term.x_stride, term.inner})) return true;
  }
  return is(Columns{p.addend, p.addend_stride, p.columns});
}

/// True if the order of two products matters.
inline bool meet(const GroupedProduct& a, const GroupedProduct& b, Index rows) {
  const auto meets_result = [&](const GroupedProduct& of) {
    return [&of, rows](const Columns& c) { return meet(c, result_of(of), rows); };
  };
  return meet(result_of(a), result_of(b), rows) || any_read(a, meets_result(b)) || any_read(b, meets_result(a));
}

/// Makes \p p a further term of \p known if it adds to its result; false if it cannot be one.
inline bool add_term(const Queue& queue, GroupedProduct& known, const GroupedProduct& p) {
  if (p.addend != known.y || p.y != known.y || p.addend_stride != known.y_stride || p.y_stride != known.y_stride)
    return false;
  if (p.columns != known.columns || (p.bias != nullptr && known.bias != nullptr)) return false;
  if (pieces_of_terms(known) + pieces_of_terms(p) > most_pieces_of_terms(queue)) return false;
  known.term[static_cast<std::size_t>(known.terms++)] = p.term.front();
  if (p.bias != nullptr) known.bias = p.bias;
  return true;
}

/// True for a product that is wider than a part of a group.
inline bool is_wide(const GroupedProduct& p) {
  return std::max(p.columns, p.term.front().inner) > product_group_detail::widest;
}
/// True for a product of one term that groups take.
inline bool fits_group(const Queue& queue, const GroupedProduct& p) {
  return takes(p) && pieces_of_terms(p) <= most_pieces_of_terms(queue);
}
/// A small product that has stayed alone and adds nothing is a group of its own, whose blocks find room beside others:
/// cuBLASLt's take a whole multiprocessor, and would wait for the gradients of weights that are computed aside.
inline bool is_small(const Queue& queue, const GroupedProduct& p) {
  return p.addend == nullptr && !is_wide(p) && fits_group(queue, p);
}

/// Other products that have stayed alone are cuBLASLt's.
inline void start(Queue& queue, const PutOffProducts& put_off) {
  if (put_off.step) return put_off.step->start(*put_off.step, nullptr, nullptr);
  if (put_off.norm && put_off.products.empty()) return put_off.start_norm(queue, *put_off.norm, put_off.rows);
  if (put_off.norm) return normed_products::run(queue, *put_off.norm, put_off.products, put_off.rows);
  const GroupedProduct& p = put_off.products.front();
  if (put_off.products.size() > 1 || p.terms > 1 || is_small(queue, p))
    return multiply_together(queue, put_off.products, put_off.rows);
  const GroupedProduct::Term& term = p.term.front();
  matrix_product<BFloat16, BFloat16>(
      queue, put_off.rows, p.columns, term.inner, {term.x, static_cast<Index>(term.x_stride)},
      {term.weight, term.in_out ? p.columns : term.inner, !term.in_out}, p.y, static_cast<Index>(p.y_stride),
      {.addend = p.addend, .stride = static_cast<Index>(p.addend_stride), .bias = p.bias});
}

/// True if product \p p can be computed along with the norm that was put off, and with the products that were.
inline bool joins_norm(const PutOffProducts& put_off, Index rows, const GroupedProduct& p) {
  if (!put_off.norm || put_off.rows != rows) return false;
  const NormOfRows& norm = *put_off.norm;
  int parts = 0;
  for (const GroupedProduct& known : put_off.products) {
    if (meet(result_of(known), result_of(p), rows)) return false;
    parts += normed_products::parts(known);
  }
  return normed_products::takes(norm, p, parts) && !meet(result_of(p), input_of(norm), rows) &&
         !meet(result_of(p), result_of(norm), rows);
}

}  // namespace put_off_detail

/// Notes a norm for the products of it that come next. False where no kernel computes them together: then it is not
/// noted. \param start computes the norm alone
inline bool put_off(Queue& queue, Index rows, const NormOfRows& norm,
                    void (*start)(Queue& queue, const NormOfRows& norm, Index rows)) {
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr || !normed_products::takes(norm) ||
      put_off_detail::meet(put_off_detail::input_of(norm), put_off_detail::result_of(norm), rows))
    return false;
  queue.start_products();
  put_off->norm = norm;
  put_off->rows = rows;
  put_off->start = put_off_detail::start;
  put_off->start_norm = start;
  return true;
}

/// True if a norm is put off, and no product of it.
inline bool is_norm_put_off(Queue& queue) {
  const PutOffProducts* put_off = queue.put_off();
  return put_off != nullptr && put_off->norm && put_off->products.empty();
}
/// The norm that is put off, for a kernel that computes it along: it is put off no longer.
inline NormOfRows take_norm(Queue& queue) {
  const NormOfRows norm = *queue.put_off()->norm;
  queue.put_off()->clear();
  return norm;
}

/// Notes a product of one term for later. False where it is nothing for a group: then it is not noted, and all that
/// were have started.
inline bool put_off(Queue& queue, Index rows, const GroupedProduct& p) {
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr) return false;
  if (put_off_detail::joins_norm(*put_off, rows, p)) {
    put_off->products.push_back(p);
    return true;
  }
  if (put_off->norm || put_off->is_alone) queue.start_products();
  if (!put_off_detail::fits_group(queue, p) || (put_off_detail::is_wide(p) && rows > put_off_detail::most_wide_rows)) {
    queue.start_products();
    put_off->is_alone = norm_gradient_product::takes(p);
    if (!put_off->is_alone) return false;
  }
  if (put_off->rows != rows) queue.start_products();
  put_off->rows = rows;
  put_off->start = put_off_detail::start;
  if (put_off->is_alone) {
    put_off->products.push_back(p);
    return true;
  }
  std::vector<GroupedProduct>& products = put_off->products;
  const auto reads_result = [&](const GroupedProduct& known) {
    const GroupedProduct::Term& term = p.term.front();
    return put_off_detail::meet({term.x, term.x_stride, term.inner}, put_off_detail::result_of(known), rows);
  };
  if (p.addend != nullptr && std::none_of(products.begin(), products.end(), reads_result))
    for (std::size_t i = 0; i < products.size(); ++i) {
      std::vector<GroupedProduct> longer = products;
      if (!put_off_detail::add_term(queue, longer[i], p) || !fit_together(longer)) continue;
      products = std::move(longer);
      return true;
    }
  const auto meets = [&](const GroupedProduct& known) { return put_off_detail::meet(known, p, rows); };
  if (std::any_of(products.begin(), products.end(), meets)) queue.start_products();
  products.push_back(p);
  if (!fit_together(products)) {
    products.pop_back();
    queue.start_products();
    products.push_back(p);
  }
  return true;
}

/// Starts a product of one term in one kernel with the only one that is put off, of whose few columns it is made. False
/// where that cannot be: then nothing has happened. Those that are not wide are left to groups, which others may join.
/// What is stored is \p Function of the product's numbers.
template <class Function = AsItIs>
bool follow(Queue& queue, Index rows, const GroupedProduct& p) {
  using put_off_detail::Columns;
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr || put_off->norm || put_off->products.size() != 1 || put_off->rows != rows || rows == 0)
    return false;
  const GroupedProduct& known = put_off->products.front();
  if (std::max(known.term.front().inner, p.columns) <= product_group_detail::widest) return false;
  if (!takes(p) || !takes_low_rank(known, p)) return false;
  const GroupedProduct::Term& x = known.term.front();
  const GroupedProduct::Term& z = p.term.front();
  const Columns result = put_off_detail::result_of(p);
  const Columns middle = put_off_detail::result_of(known);
  const auto meets = [rows](const Columns& a, const Columns& b) { return put_off_detail::meet(a, b, rows); };
  if (meets(result, middle) || meets(result, {z.x, z.x_stride, z.inner}) || meets(result, {x.x, x.x_stride, x.inner}) ||
      meets(middle, {x.x, x.x_stride, x.inner}) || meets(middle, {p.addend, p.addend_stride, p.columns}))
    return false;
  // The addend's rows are those of y, or elsewhere.
  if (p.addend != nullptr && (p.addend != p.y || p.addend_stride != p.y_stride) &&
      meets(result, {p.addend, p.addend_stride, p.columns}))
    return false;
  queue.release();
  multiply_low_rank<Function>(queue, known, p, rows);
  put_off->products.clear();
  return true;
}

/// The only product that is put off, if it gives what the gradient of a norm is given, for the kernel that computes
/// both: it is put off no longer.
inline std::optional<GroupedProduct> take_product(Queue& queue, Index rows, const BFloat16* dy, std::size_t dy_stride,
                                                  const NormGradient& n) {
  using put_off_detail::Columns;
  using put_off_detail::meet;
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr || put_off->norm || put_off->products.size() != 1 || put_off->rows != rows) return {};
  const GroupedProduct p = put_off->products.front();
  if (p.y != dy || p.y_stride != dy_stride || !norm_gradient_product::takes(p) || !norm_gradient_product::takes(n))
    return {};
  const Columns dx{n.dx, n.dx_stride, norm_gradient_product::width};
  const auto is_in_the_way = [&](const Columns& read) {
    const bool same = read.first == dx.first && read.stride == dx.stride;  // a row is read before it is written
    return !same && meet(read, dx, rows);
  };
  for (int t = 0; t < p.terms; ++t) {
    const GroupedProduct::Term& term = p.term[static_cast<std::size_t>(t)];
    if (meet({term.x, term.x_stride, term.inner}, dx, rows)) return {};
  }
  if (is_in_the_way({n.x, n.x_stride, dx.count}) || is_in_the_way({n.addend, n.addend_stride, dx.count})) return {};
  put_off->clear();
  return p;
}

/// Notes a step for the gradient of a norm that may come next. False in a queue that puts nothing off.
inline bool put_off(Queue& queue, Index rows, const PutOffStep& step) {
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr) return false;
  queue.start_products();
  put_off->step = step;
  put_off->is_alone = true;
  put_off->rows = rows;
  put_off->start = put_off_detail::start;
  return true;
}

/// The step that is put off, if its kernel can compute the gradient of a norm that is given what it computes: it is put
/// off no longer.
inline std::optional<PutOffStep> take_step(Queue& queue, Index rows, const BFloat16* dy, std::size_t dy_stride,
                                           const NormGradient& n) {
  PutOffProducts* put_off = queue.put_off();
  if (put_off == nullptr || !put_off->step || put_off->rows != rows) return {};
  const PutOffStep step = *put_off->step;
  if (!step.takes(step, dy, dy_stride, n)) return {};
  put_off->clear();
  return step;
}

/// True if products that are put off must start before a step, in whichever queue it is: it reads or writes what they
/// write, or writes what they read.
template <class P>
bool needs_products(const Context<P>& c, std::span<const Place> read, std::span<const Place> written) {
  const PutOffProducts* put_off = c.queue->put_off();
  if (put_off == nullptr || put_off->empty()) return false;
  const auto needs = [&](const Place& place, bool to_write) {
    if (place.space == Space::registers) return false;
    const Bytes bytes = bytes_of(c, place);
    const auto meets = [&](const put_off_detail::Columns& columns) {
      return put_off_detail::meet(bytes, put_off_detail::bytes_of(columns, put_off->rows));
    };
    if (put_off->norm && (meets(put_off_detail::result_of(*put_off->norm)) ||
                          (to_write && meets(put_off_detail::input_of(*put_off->norm)))))
      return true;
    if (put_off->step)
      for (int k = to_write ? 0 : put_off->step->reads; k < put_off->step->reads + put_off->step->writes; ++k)
        if (put_off_detail::meet(bytes, bytes_of(c, put_off->step->places[k]))) return true;
    return std::any_of(put_off->products.begin(), put_off->products.end(), [&](const GroupedProduct& p) {
      return meets(put_off_detail::result_of(p)) || (to_write && put_off_detail::any_read(p, meets));
    });
  };
  return std::any_of(read.begin(), read.end(), [&](const Place& place) { return needs(place, false); }) ||
         std::any_of(written.begin(), written.end(), [&](const Place& place) { return needs(place, true); });
}

}  // namespace mad::cuda
