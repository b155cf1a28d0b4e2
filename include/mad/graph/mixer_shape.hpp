// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Which nodes make a channel mixer: products into an inside that only elementwise nodes read, and products out of it.
#pragma once

#include <mad/graph/graph.hpp>

namespace mad {

/// What a device's kernel is asked for at most.
namespace channel_mixer {
inline constexpr int widest = 128;   ///< columns outside; inside there may be any number
inline constexpr int multiple = 16;  ///< of which all widths are one
inline constexpr int most_inputs = 2;
inline constexpr int most_weights = 4;
inline constexpr int most_products = 4;  ///< on either side
inline constexpr int most_stored = 4;    ///< values of the inside that others read

constexpr bool is_outside(const Node& n) {
  return n.domain == Domain::tokens && n.width % multiple == 0 && n.width <= widest;
}
constexpr bool is_inside(const Node& n) { return n.domain == Domain::tokens && n.width % multiple == 0; }

/// True for the product of a value with a parameter, and nothing added but perhaps a value of one row per token.
constexpr bool is_product(const Graph& g, const Node& n) {
  if (n.op->product == Product::none || g.nodes[n.operand[1]].op != &ops::parameter_op) return false;
  if (n.operands != 3) return n.operands == 2;
  const Node& addend = g.nodes[n.operand[2]];
  return n.op->with_addend == nullptr && addend.domain == n.domain && addend.width == n.width;
}
/// The value that such a product adds, or -1.
constexpr int addend_of(const Node& product) { return product.operands == 3 ? product.operand[2] : -1; }

/// True for a function of single numbers: no operand is repeated, over columns or over rows.
constexpr bool keeps_columns(const Graph& g, const Node& n) {
  if (n.op->kind != Kind::elementwise) return false;
  for (int k = 0; k < n.operands; ++k)
    if (g.nodes[n.operand[k]].width != n.width || g.nodes[n.operand[k]].domain != n.domain) return false;
  return true;
}
constexpr bool is_way_in(const Graph& g, const Node& n) {
  return is_product(g, n) && n.operands == 2 && is_inside(n) && is_outside(g.nodes[n.operand[0]]);
}

/// True for a norm of whole rows with parameters for weight and bias.
constexpr bool is_norm(const Graph& g, const Node& n) {
  if (!n.op->row_norm || n.attribute[0] != n.width || !is_outside(n)) return false;
  for (int k = 1; k < n.operands; ++k)
    if (g.nodes[n.operand[k]].op != &ops::parameter_op || g.nodes[n.operand[k]].width != n.width) return false;
  return true;
}

/// The index of a number in a list, at whose end it is put if there is room; -1 if there is none.
constexpr int index_in(int* list, int& count, int capacity, int number) {
  for (int i = 0; i < count; ++i)
    if (list[i] == number) return i;
  if (count == capacity) return -1;
  list[count] = number;
  return count++;
}

/// True if the products around an inside are no more than a kernel takes.
constexpr bool are_few(const Graph& g, const bool* inside) {
  int inputs[most_inputs]{};
  int weights[most_weights]{};
  int input_count = 0;
  int weight_count = 0;
  int ways_in = 0;
  int ways_out = 0;
  for (int i = 0; i < g.forward_size; ++i) {
    const Node& n = g.nodes[i];
    if (n.op->product == Product::none) continue;
    if (inside[i])
      ++ways_in;
    else if (inside[n.operand[0]])
      ++ways_out;
    else
      continue;
    if (inside[i] && index_in(inputs, input_count, most_inputs, n.operand[0]) < 0) return false;
    if (index_in(weights, weight_count, most_weights, n.operand[1]) < 0) return false;
  }
  // In the backward pass the gradient of the products out comes in as well, by as many products.
  return input_count < most_inputs && ways_in + ways_out <= most_products;
}

/// True if a product of the forward pass leads into a channel mixer: elementwise nodes read it, which read nothing but
/// such products, and of which other products read one.
constexpr bool leads_into(const Graph& g, int product) {
  if (!is_way_in(g, g.nodes[product])) return false;
  bool inside[Graph::capacity]{};
  inside[product] = true;
  int way_out = -1;
  for (bool more = true; more;) {
    more = false;
    for (int i = 0; i < g.forward_size; ++i) {
      const Node& n = g.nodes[i];
      const bool was_inside = inside[i];
      for (int k = 0; k < n.operands; ++k) {
        const int o = n.operand[k];
        if (inside[o] && !was_inside && !inside[i]) {
          if (n.op->kind == Kind::elementwise) {
            inside[i] = more = true;
          } else {
            const bool leaves = is_product(g, n) && k == 0 && is_outside(n) && g.nodes[o].op->kind == Kind::elementwise;
            if (!leaves || (way_out >= 0 && way_out != o)) return false;
            way_out = o;
          }
        }
        if (inside[i] && n.op->kind == Kind::elementwise && !inside[o]) {
          if (g.nodes[o].op->kind != Kind::elementwise && !is_way_in(g, g.nodes[o])) return false;
          inside[o] = more = true;
        }
      }
      if (inside[i] && n.op->kind == Kind::elementwise && !keeps_columns(g, n)) return false;
    }
  }
  return way_out >= 0 && !inside[g.output] && are_few(g, inside);
}

/// True if there is anything for a device that has a kernel for channel mixers.
constexpr bool occurs(const Graph& g) {
  for (int i = 0; i < g.forward_size; ++i)
    if (leads_into(g, i)) return true;
  return false;
}

}  // namespace channel_mixer

}  // namespace mad
