// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Reverse mode as a transformation of the graph: walks the forward nodes backwards and appends their adjoints.
#pragma once

#include <mad/graph/fingerprint.hpp>
#include <mad/graph/mixer_shape.hpp>

#include <algorithm>

namespace mad {

/// Which columns of a wide value belong to one column c of a narrow one of width w.
enum class Fold : int {
  tile = 0,    ///< all c' with c' mod w == c: the narrow value is repeated as a block
  spread = 1,  ///< all c' with c' / (wide / w) == c: each column is repeated in place
};

constexpr Value slice(Value x, int offset, int width, int line = __builtin_LINE());
template <class... Parts>
constexpr Value concat(Value first, Parts... rest);
constexpr Value tile(Value x, int width, int line = __builtin_LINE());
constexpr Value spread(Value x, int width, int line = __builtin_LINE());
constexpr Value sum_to(Value x, Domain domain, int width, Fold fold = Fold::tile);
constexpr Value zeros(Graph& graph, Domain domain, int width);

namespace ops {
constexpr void add_adjoint(Differentiator& d, int node);
constexpr void copy_adjoint(Differentiator& d, int node);
constexpr void slice_adjoint(Differentiator& d, int node);
constexpr void concat_adjoint(Differentiator& d, int node);
constexpr void tile_adjoint(Differentiator& d, int node);
constexpr void spread_adjoint(Differentiator& d, int node);
constexpr void sum_adjoint(Differentiator& d, int node);

inline constexpr Operation slice_op{.name = "slice", .kind = Kind::view, .cheap = true, .adjoint = &slice_adjoint};
inline constexpr Operation concat_op{.name = "concat", .adjoint = &concat_adjoint};
inline constexpr Operation tile_op{.name = "tile", .kind = Kind::elementwise, .cheap = true, .adjoint = &tile_adjoint};
inline constexpr Operation spread_op{
    .name = "spread", .kind = Kind::elementwise, .cheap = true, .adjoint = &spread_adjoint};
inline constexpr Operation zeros_op{.name = "zeros", .kind = Kind::elementwise, .cheap = true};
/// Sum over rows, columns or both. Adds where the result has fewer rows and does not depend on the batch.
inline constexpr Operation sum_op{.name = "sum", .adds = true, .adjoint = &sum_adjoint};
/// Adds a value to the gradient of a parameter.
inline constexpr Operation accumulate_op{.name = "accumulate", .kind = Kind::sink};
/// A node whose work another one does; nobody reads it.
inline constexpr Operation absorbed_op{.name = "absorbed", .kind = Kind::leaf};
/// Gradient of the output; a leaf.
inline constexpr Operation output_gradient_op{.name = "output gradient", .kind = Kind::leaf};
constexpr double flops_per_column(const Graph&, const Node& node, Index) { return node.width; }
inline constexpr Operation add_op{
    .name = "add", .kind = Kind::elementwise, .cheap = true, .adjoint = &add_adjoint, .flops = &flops_per_column};
/// An elementwise copy: gives a value a buffer of its own.
inline constexpr Operation copy_op{.name = "copy", .kind = Kind::elementwise, .cheap = true, .adjoint = &copy_adjoint};

/// An elementwise operation on two values: equal widths, or one column that is repeated; rows are repeated as the
/// domains say.
constexpr Value elementwise(const Operation& op, Value a, Value b, int line = 0) {
  const int width = a.width() == 1 ? b.width() : a.width();
  if (b.width() != width && b.width() != 1) a.graph->fail(Fault::widths_differ, a.width(), b.width(), line);
  return make(*a.graph, op, join(a.domain(), b.domain()), width, a, b);
}
}  // namespace ops

constexpr Value operator+(Value a, Value b) { return ops::elementwise(ops::add_op, a, b); }

/// Columns [offset, offset + width) of x; a view, nothing is copied.
constexpr Value slice(Value x, int offset, int width, int line) {
  if (offset < 0 || width < 1 || offset + width > x.width())
    x.graph->fail(Fault::slice_outside, offset + width, x.width(), line);
  Value v = ops::make(*x.graph, ops::slice_op, x.domain(), width, x);
  v.graph->nodes[v.id].attribute[0] = offset;
  return v;
}

/// The columns of all parts, one after the other. All parts have the same rows; at most Node::max_operands parts.
template <class... Parts>
constexpr Value concat(Value first, Parts... rest) {
  ((first.domain() == rest.domain()
        ? void()
        : first.graph->fail(Fault::wrong_domain, static_cast<int>(first.domain()), static_cast<int>(rest.domain()))),
   ...);
  return ops::make(*first.graph, ops::concat_op, first.domain(), (first.width() + ... + rest.width()), first, rest...);
}

/// The whole block repeated: result[c] = x[c mod x.width()].
constexpr Value tile(Value x, int width, int line) {
  if (width == x.width()) return x;
  if (width % x.width() != 0) x.graph->fail(Fault::not_divisible, width, x.width(), line);
  return ops::make(*x.graph, ops::tile_op, x.domain(), width, x);
}

/// Each column repeated in place: result[c] = x[c / (width / x.width())].
constexpr Value spread(Value x, int width, int line) {
  if (width == x.width()) return x;
  if (width % x.width() != 0) x.graph->fail(Fault::not_divisible, width, x.width(), line);
  return ops::make(*x.graph, ops::spread_op, x.domain(), width, x);
}

/// Sum over the rows that `domain` does not have and over the columns that fold onto `width` (a divisor of the width).
constexpr Value sum_to(Value x, Domain domain, int width, Fold fold) {
  if (x.domain() == domain && x.width() == width) return x;
  if (join(x.domain(), domain) != x.domain())
    x.graph->fail(Fault::wrong_domain, static_cast<int>(x.domain()), static_cast<int>(domain));
  if (x.width() % width != 0) x.graph->fail(Fault::not_divisible, x.width(), width);
  Value v = ops::make(*x.graph, ops::sum_op, domain, width, x);
  v.graph->nodes[v.id].attribute[0] = static_cast<int>(fold);
  return v;
}

constexpr Value zeros(Graph& graph, Domain domain, int width) { return ops::make(graph, ops::zeros_op, domain, width); }

/// Which values of the forward pass the backward pass computes again instead of having them saved.
struct Recomputation {
  bool cheap = false;          ///< what is cheap to compute ...
  bool but_kernels = false;    ///< ... but not what takes a kernel of its own
  bool but_operands = false;   ///< ... nor what lies in memory anyhow, because a kernel of the forward pass reads it
  bool inside_mixers = false;  ///< the products that lead into a channel mixer, and what is computed of them inside it
};

/// Builds the backward half of a graph. Adjoint rules of operations see it through `node`, `forward`, `adjoint`, `add`.
class Differentiator {
public:
  /// With \p factors, kernels that can multiply get the factors of a gradient instead of it.
  constexpr Differentiator(Graph& graph, Recomputation again, bool factors)
      : graph_(graph), again_(again), factors_(factors) {
    for (int i = 0; i < Graph::capacity; ++i) total_[i] = clone_[i] = -1;
  }

  constexpr const Node& node(int id) const { return graph_.nodes[id]; }

  /// Value of a forward node as seen from the backward pass: itself (then it is saved), or computed once more when that
  /// is cheap.
  constexpr Value forward(int id) {
    const Node n = graph_.nodes[id];
    if (!is_in_mixer(id)) {
      if (!again_.cheap || !n.op->cheap || !per_batch(n.domain) || has_result(graph_, id, 1)) return {&graph_, id};
      if (again_.but_kernels && takes_kernel(n)) return {&graph_, id};
      if (again_.but_operands && n.op->kind == Kind::elementwise && kernel_reads(id)) return {&graph_, id};
    }
    if (clone_[id] < 0) {
      Node copy = n;
      for (int k = 0; k < n.operands; ++k) copy.operand[k] = forward(n.operand[k]).id;
      clone_[id] = graph_.append(copy);
    }
    return {&graph_, clone_[id]};
  }
  /// True for a node that no run of elementwise nodes takes in, and that is no wider than its operands.
  constexpr bool takes_kernel(const Node& n) const {
    if (n.op->kind != Kind::opaque) return false;
    int widest = 0;
    for (int k = 0; k < n.operands; ++k) widest = std::max(widest, graph_.nodes[n.operand[k]].width);
    return n.width <= widest;
  }
  constexpr Value operand(int id, int k) { return forward(graph_.nodes[id].operand[k]); }

  /// Gradient of the objective with respect to a node's value; complete once all its users are done.
  constexpr Value adjoint(int id) const { return {&graph_, total_[id]}; }
  /// The same for a further output of a node, of which perhaps nothing depends: then zeros.
  constexpr Value adjoint_of_result(int id, int index) {
    const Node& n = graph_.nodes[id + index];
    return total_[id + index] < 0 ? zeros(graph_, n.domain, n.width) : adjoint(id + index);
  }

  /// True if a kernel that can multiply is to get the factors of a gradient, where they lie in memory anyhow.
  constexpr bool gives_factors() const { return factors_; }

  /// True for an output that devices store in full precision.
  constexpr bool is_exact(int id) const { return mad::is_exact(graph_.nodes, id); }
  /// True if a gradient for the node is wanted.
  constexpr bool wanted(int id) const { return wanted_[id]; }

  /// Adds a contribution to the gradient of node `id`, summed over whatever the node was repeated along.
  constexpr void add(int id, Value contribution) {
    if (!wanted_[id]) return;
    const Node& n = graph_.nodes[id];
    Value v = contribution;
    if (v.domain() != n.domain || v.width() != n.width) v = sum_to(v, n.domain, n.width);
    if (n.op == &ops::parameter_op) {
      Value sink = ops::make(graph_, ops::accumulate_op, n.domain, n.width, v);
      graph_.nodes[sink.id].attribute[0] = n.attribute[0];
      return;
    }
    if (total_[id] < 0) {
      total_[id] = v.id;
      return;
    }
    total_[id] = (Value{&graph_, total_[id]} + v).id;
  }

  /// Adds a contribution to columns [offset, offset + contribution.width()) of the gradient of node `id`.
  constexpr void add_slice(int id, int offset, Value contribution) {
    if (!wanted_[id]) return;
    if (piece_count_ == max_pieces) {
      graph_.fail(Fault::too_many_nodes, piece_count_ + 1, max_pieces);
      return;
    }
    pieces_[piece_count_++] = {id, offset, contribution.id};
  }

  constexpr void run() {
    Graph& g = graph_;
    g.forward_size = g.size;
    g.fingerprint = fingerprint_of(g);  // of what was described, whatever becomes of it
    for (int i = 0; i < g.forward_size; ++i) {
      const Node& n = g.nodes[i];
      wanted_[i] = n.op == &ops::input_op || n.op == &ops::parameter_op;
      for (int k = 0; k < n.operands; ++k) wanted_[i] = wanted_[i] || wanted_[n.operand[k]];
    }
    const Node& out = g.nodes[g.output];
    g.output_gradient = ops::make(g, ops::output_gradient_op, out.domain, out.width).id;
    total_[g.output] = g.output_gradient;
    for (int i = g.forward_size - 1; i >= 0 && g.fault == Fault::none; --i) {
      gather_pieces(i);
      if (total_[i] < 0 || !wanted_[i]) continue;
      const Operation* op = g.nodes[i].op;
      if (op->kind == Kind::leaf) continue;
      if (op->kind == Kind::result) {
        // What computes several outputs is differentiated if any of them is.
        const Node& of = g.nodes[g.nodes[i].operand[0]];
        int& total = total_[g.nodes[i].operand[0]];
        if (total < 0) total = zeros(g, of.domain, of.width).id;
        continue;
      }
      if (op->adjoint == nullptr) {
        g.fail(Fault::no_adjoint, i, 0);
        return;
      }
      op->adjoint(*this, i);
    }
    g.input_gradient = total_[0];
  }

private:
  enum class Known : signed char { not_yet, no, yes };
  struct Piece {
    int base;
    int offset;
    int value;
  };

  /// True for a product that leads into a channel mixer, and for what is computed of such products inside it.
  constexpr bool is_in_mixer(int id) {
    if (!again_.inside_mixers || in_mixer_[id] == Known::no) return false;
    if (in_mixer_[id] == Known::yes) return true;
    const Node& n = graph_.nodes[id];
    bool is_in = channel_mixer::leads_into(graph_, id);
    if (n.op->kind == Kind::elementwise)
      for (int k = 0; k < n.operands; ++k) is_in = is_in || is_in_mixer(n.operand[k]);
    in_mixer_[id] = is_in ? Known::yes : Known::no;
    return is_in;
  }
  /// True if a kernel of the forward pass reads a value or a part of it.
  constexpr bool kernel_reads(int id) const {
    for (int reader = id + 1; reader < graph_.forward_size; ++reader) {
      const Node& n = graph_.nodes[reader];
      for (int k = 0; k < n.operands; ++k)
        if (n.operand[k] == id && (n.op->kind == Kind::opaque || (n.op->kind == Kind::view && kernel_reads(reader))))
          return true;
    }
    return false;
  }

  /// Turns the slice contributions of a node into whole values: side by side where they do not overlap, gaps as zeros.
  constexpr void gather_pieces(int id) {
    while (true) {
      Value parts[Node::max_operands];
      int count = 0;
      int end = 0;
      const int width = graph_.nodes[id].width;
      while (end < width) {
        int best = -1;
        int next = width;
        for (int p = 0; p < piece_count_; ++p) {
          if (pieces_[p].base != id || pieces_[p].offset < end) continue;
          if (best < 0 || pieces_[p].offset < next) {
            best = p;
            next = pieces_[p].offset;
          }
        }
        if (best < 0 && count == 0) return;
        const bool room = count + 2 < Node::max_operands;
        if (best < 0 || !room) {
          parts[count++] = zeros(graph_, graph_.nodes[id].domain, width - end);
          break;
        }
        if (next > end) parts[count++] = zeros(graph_, graph_.nodes[id].domain, next - end);
        parts[count++] = {&graph_, pieces_[best].value};
        end = next + parts[count - 1].width();
        pieces_[best].base = -1;
      }
      Node n;
      n.op = &ops::concat_op;
      n.domain = graph_.nodes[id].domain;
      n.width = width;
      for (int k = 0; k < count; ++k) n.operand[n.operands++] = parts[k].id;
      const Value whole = count == 1 ? parts[0] : Value{&graph_, graph_.append(n)};
      add(id, whole);
    }
  }

  static constexpr int max_pieces = 64;

  Graph& graph_;
  Recomputation again_;
  bool factors_;
  bool wanted_[Graph::capacity]{};
  int total_[Graph::capacity]{};
  int clone_[Graph::capacity]{};
  Known in_mixer_[Graph::capacity]{};
  Piece pieces_[max_pieces]{};
  int piece_count_ = 0;
};

namespace ops {

//   y = x[:, offset : offset + width]:   dx gets dy in those columns
constexpr void slice_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  d.add_slice(n.operand[0], n.attribute[0], d.adjoint(node));
}

//   y = [x0, x1, ...]:   dx_k = the columns of dy that came from it
constexpr void concat_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  int offset = 0;
  for (int k = 0; k < n.operands; ++k) {
    const int width = d.node(n.operand[k]).width;
    d.add(n.operand[k], slice(d.adjoint(node), offset, width));
    offset += width;
  }
}

//   y[c] = x[c mod w], or x[c / (W/w)]:   dx sums dy over the copies
constexpr void tile_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Node& from = d.node(n.operand[0]);
  d.add(n.operand[0], sum_to(d.adjoint(node), from.domain, from.width, Fold::tile));
}

constexpr void spread_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Node& from = d.node(n.operand[0]);
  d.add(n.operand[0], sum_to(d.adjoint(node), from.domain, from.width, Fold::spread));
}

//   y = sum of x over rows or columns:   dx repeats dy
constexpr void sum_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Node& from = d.node(n.operand[0]);
  Value dy = d.adjoint(node);
  if (n.width != from.width && n.width != 1)
    dy = n.attribute[0] == static_cast<int>(Fold::tile) ? tile(dy, from.width) : spread(dy, from.width);
  d.add(n.operand[0], dy + zeros(*dy.graph, from.domain, from.width));
}

constexpr void add_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  d.add(n.operand[0], d.adjoint(node));
  d.add(n.operand[1], d.adjoint(node));
}

constexpr void copy_adjoint(Differentiator& d, int node) { d.add(d.node(node).operand[0], d.adjoint(node)); }

}  // namespace ops

}  // namespace mad
