// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The compile-time graph of a layer: nodes, parameters, and the values that `Layer::forward` computes with.
#pragma once

#include <mad/core/constant_math.hpp>
#include <mad/core/fixed_string.hpp>
#include <mad/core/shape.hpp>

#include <cstdint>
#include <string_view>

namespace mad {

/// What the rows of a value stand for. Widths are compile-time constants, row counts are known at run time.
enum class Domain : unsigned char {
  tokens,     ///< one row per token, batch x length
  positions,  ///< one row per position, shared by the batch: an implicit filter, a position table
  sequences,  ///< one row per sequence: a pooled encoding
  one,        ///< a single row: a parameter vector or a flattened matrix
};
inline constexpr int domain_count = 4;

/// Rows of `domain` in a call of the given sizes.
constexpr Index rows_of(Domain domain, const Shape& shape) {
  switch (domain) {
    case Domain::tokens:
      return shape.batch * shape.length;
    case Domain::positions:
      return shape.length;
    case Domain::sequences:
      return shape.batch;
    case Domain::one:
      return 1;
  }
  return 0;
}

/// The domain of an elementwise result: a value is repeated along whatever it does not depend on.
constexpr Domain join(Domain a, Domain b) {
  if (a == b || b == Domain::one) return a;
  if (a == Domain::one) return b;
  return Domain::tokens;
}

/// True where the rows of the domain depend on the data, false where they depend on parameters alone and are computed
/// once per training step.
constexpr bool per_batch(Domain domain) { return domain == Domain::tokens || domain == Domain::sequences; }

struct Graph;
struct Node;
class Differentiator;

/// How the nodes of an operation are scheduled and stored.
enum class Kind : unsigned char {
  leaf,         ///< input, parameter, constant: no computation
  view,         ///< columns of another value: no computation
  result,       ///< a further output of the operation before it
  elementwise,  ///< fused with its neighbours into one loop
  opaque,       ///< a kernel of its own per device
  sink,         ///< adds a value to a parameter's gradient
};

/// The matrix product that an operation is: of the rows of operand 0 with the weight in operand 1, of shape (out, in),
/// or (in, out) where the node's first attribute is not 0.
enum class Product : unsigned char {
  none,
  forward,   ///< x W^T, rows of `in` columns to rows of `out`
  backward,  ///< dy W, rows of `out` columns to rows of `in`
};

/// What an operation is: one `inline constexpr` object each. Nodes point to it, kernels are specialised on its address,
/// so an operation is added without touching any list.
struct Operation {
  std::string_view name;
  Kind kind = Kind::opaque;
  /// Recomputed in the backward pass instead of saved.
  bool cheap = false;
  /// The result is private to the device (a filter's spectrum, say); the device's kernel tells its size.
  bool prepared = false;
  /// Operand that the kernel can overwrite with its first output, or -1.
  int in_place = -1;
  /// Position of an optional last operand that the kernel adds to its first output, or -1.
  int addend = -1;
  /// The operation that takes one more operand than this one, and adds it; null where there is none.
  const Operation* with_addend = nullptr;
  /// Which matrix product it is, besides what it adds.
  Product product = Product::none;
  /// A norm of rows: of operand 0, in groups of as many columns as the node's first attribute says. Each is divided by
  /// its root mean square (the node's first number is added under the root), after its mean was taken off where the
  /// second attribute is not 0, and multiplied by operand 1; operand 2, if there is one, is added.
  bool row_norm = false;
  /// A gradient that sums over rows: outputs with fewer rows than the operands are added to what is there.
  bool adds = false;
  /// Bit k: output k keeps full precision on a device that stores values of tokens in a shorter type.
  unsigned exact_outputs = 0;
  /// Appends the adjoint nodes of a node; null where nothing flows back.
  void (*adjoint)(Differentiator&, int node) = nullptr;
  /// Floating-point operations per row of the node's domain at the given length.
  double (*flops)(const Graph&, const Node&, Index length) = nullptr;
  /// Numbers that step-by-step inference must keep for one sequence after `length` tokens.
  Index (*state)(const Graph&, const Node&, Index length) = nullptr;
};

/// One operation applied to earlier nodes. Plain data, so that a graph is a constant.
struct Node {
  static constexpr int max_operands = 8;
  static constexpr int max_attributes = 10;

  const Operation* op = nullptr;
  int operand[max_operands]{};
  int operands = 0;
  Domain domain = Domain::tokens;
  int width = 0;
  int attribute[max_attributes]{};  ///< sizes and switches; each operation names its own
  double number[2]{};               ///< constants: a factor, an epsilon
};

/// True for the output of node \p id that keeps full precision on a device.
constexpr bool is_exact(const Node* nodes, int id) {
  const bool further = nodes[id].op->kind == Kind::result;
  const Operation* op = nodes[further ? nodes[id].operand[0] : id].op;
  return ((op->exact_outputs >> (further ? nodes[id].attribute[0] : 0)) & 1u) != 0;
}

/// What a parameter is to the optimiser.
enum class Role : unsigned char { matrix, convolution, bias, norm, embedding, other };

/// Initial values of a parameter or constant.
struct Initial {
  enum class Kind : unsigned char { uniform, normal, constant, filled };
  /// Draws uniform numbers in [0, 1) for `filled`.
  struct Source {
    double (*draw)(void* state) = nullptr;
    void* state = nullptr;
    double uniform() const { return draw(state); }
  };
  Kind kind = Kind::constant;
  double scale = 0;  ///< half width of the uniform, standard deviation, or the constant
  /// Writes all values at once: `count` of them, `max_length` rows if the parameter has one row per position.
  void (*fill)(const struct Parameter& parameter, Index max_length, const Source& source, double* values) = nullptr;
  double number[4]{};  ///< what `fill` needs to know

  static constexpr Initial uniform(double half_width) { return {Kind::uniform, half_width}; }
  static constexpr Initial normal(double deviation) { return {Kind::normal, deviation}; }
  static constexpr Initial constant(double value) { return {Kind::constant, value}; }
};

/// A parameter (trained) or a constant (recomputable, not saved) of a layer.
struct Parameter {
  static constexpr int per_max_length = -1;  ///< a dimension that is the maximum length
  static constexpr int max_rank = 4;

  FixedString<63> name;
  int dims[max_rank]{};
  int rank = 0;
  Role role = Role::other;
  Initial initial{};
  bool is_constant = false;
  bool trained = true;       ///< false: the forward pass never reads it, so that it has no gradient
  bool decay = true;         ///< weight decay applies, where marks are honoured
  bool reinitialise = true;  ///< the backbones' override of linear maps applies
  double learning_rate = 0;  ///< own rate where marks are honoured; 0: the run's
  Index offset_fixed = 0;    ///< offset in the layer's part of the arena: fixed + per_max_length * max_length
  Index offset_per_max = 0;

  constexpr bool has_length() const {
    for (int i = 0; i < rank; ++i)
      if (dims[i] == per_max_length) return true;
    return false;
  }
  /// Elements, given the maximum length.
  constexpr Index count(Index max_length) const {
    Index n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i] == per_max_length ? max_length : dims[i];
    return n;
  }
  constexpr Index offset(Index max_length) const { return offset_fixed + offset_per_max * max_length; }
};

/// What can be wrong in a layer's `forward`; recorded as data and worded in graph/diagnosis.hpp.
enum class Fault : unsigned char {
  none,
  widths_differ,        ///< a, b: the two widths
  slice_outside,        ///< a: end of the slice, b: width of the value
  not_divisible,        ///< a must be a multiple of b
  wrong_domain,         ///< an operation got rows it cannot work on
  bad_option,           ///< an option's value is impossible; a: the value, b: the limit
  too_many_nodes,       ///< the graph is larger than Graph::capacity
  too_many_parameters,  ///< more than Graph::max_parameters
  name_too_long,        ///< a parameter's name exceeds 63 characters
  name_repeated,        ///< two parameters have one name
  no_adjoint,           ///< an operation in the path of gradients has no adjoint rule
};

struct Value;

/// Nodes in order of computation, parameters, and the ends of the differentiated graph. Raw arrays: device code and
/// three compilers must read them in constant expressions.
struct Graph {
  static constexpr int capacity = 288;
  static constexpr int max_parameters = 40;

  Node nodes[capacity]{};
  int size = 0;
  Parameter parameters[max_parameters]{};
  int parameter_count = 0;
  FixedString<63> prefix{};
  int output = -1;
  int forward_size = 0;           ///< nodes before this one are the forward pass
  std::uint64_t fingerprint = 0;  ///< of the description, see fingerprint_of
  int output_gradient = -1;       ///< the leaf that holds the gradient of the output
  int input_gradient = -1;
  Fault fault = Fault::none;
  int fault_a = 0;
  int fault_b = 0;
  int fault_line = 0;

  constexpr void fail(Fault what, int a, int b, int line = 0) {
    if (fault != Fault::none) return;  // the first mistake explains the others
    fault = what;
    fault_a = a;
    fault_b = b;
    fault_line = line;
  }

  /// Appends a node; when the graph is full records the fault and reuses the last slot so that evaluation can end.
  constexpr int append(const Node& node) {
    if (size == capacity) {
      fail(Fault::too_many_nodes, size + 1, capacity);
      return size - 1;
    }
    nodes[size] = node;
    return size++;
  }
};

/// A value inside `Layer::forward`: what a layer computes with.
struct Value {
  Graph* graph = nullptr;
  int id = -1;

  constexpr const Node& node() const { return graph->nodes[id]; }
  constexpr int width() const { return node().width; }
  constexpr Domain domain() const { return node().domain; }
};

/// The opaque operation that computes a node: the node itself, or for a further output the node before it.
constexpr int producer(const Graph& g, int id) {
  return g.nodes[id].op->kind == Kind::result ? g.nodes[id].operand[0] : id;
}

/// True if node `id` has a k-th further output.
constexpr bool has_result(const Graph& g, int id, int k) {
  return id + k < g.size && g.nodes[id + k].op->kind == Kind::result && g.nodes[id + k].operand[0] == id;
}

/// A parameter's or sub-layer's name together with the line it was written on, for messages.
struct Name {
  std::string_view text;
  int line;
  constexpr Name(const char* name, int at = __builtin_LINE()) : text(name), line(at) {}
};

namespace ops {

inline constexpr Operation input_op{.name = "input", .kind = Kind::leaf};
inline constexpr Operation parameter_op{.name = "parameter", .kind = Kind::leaf};
inline constexpr Operation constant_op{.name = "constant", .kind = Kind::leaf};
inline constexpr Operation result_op{.name = "result", .kind = Kind::result};

/// Appends a node with the given operands.
template <class... Operands>
constexpr Value make(Graph& graph, const Operation& op, Domain domain, int width, Operands... operands) {
  static_assert(sizeof...(Operands) <= Node::max_operands);
  Node node;
  node.op = &op;
  node.domain = domain;
  node.width = width;
  ((node.operand[node.operands++] = operands.id), ...);
  return {&graph, graph.append(node)};
}

/// Output number `index` (from 1) of the opaque operation `of`; must directly follow it.
constexpr Value result(Value of, int index, Domain domain, int width) {
  Value v = make(*of.graph, result_op, domain, width, of);
  v.graph->nodes[v.id].attribute[0] = index;
  return v;
}

}  // namespace ops

/// Prefixes the names of the parameters made while it lives: `Scope scope(x, "filter")` makes `filter.weight`.
class Scope {
public:
  constexpr Scope(Value x, Name name) : graph_(x.graph), before_(x.graph->prefix) {
    graph_->prefix.append(name.text);
    graph_->prefix.append(".");
  }
  constexpr ~Scope() { graph_->prefix = before_; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

private:
  Graph* graph_;
  FixedString<63> before_;
};

/// What `parameter` needs to know besides name and sizes.
struct ParameterSpec {
  int dims[Parameter::max_rank]{};
  int rank = 0;
  Role role = Role::other;
  Initial initial{};
  bool is_constant = false;
  bool decay = true;
  bool reinitialise = true;
  double learning_rate = 0;
};

/// A parameter of the layer, or a constant. A parameter with a dimension of `max_length` has one row per position and
/// the product of the others as width; any other is a single row of all its elements.
constexpr Value parameter(Value x, Name name, const ParameterSpec& spec) {
  Graph& g = *x.graph;
  FixedString<63> full = g.prefix;
  full.append(name.text);
  if (full.overflow) g.fail(Fault::name_too_long, full.size + 1, 63, name.line);
  int index = 0;
  for (; index < g.parameter_count; ++index)
    if (g.parameters[index].name.view() == full.view()) break;
  if (index < g.parameter_count) {
    g.fail(Fault::name_repeated, index, g.parameter_count, name.line);
  } else if (g.parameter_count == Graph::max_parameters) {
    g.fail(Fault::too_many_parameters, g.parameter_count + 1, Graph::max_parameters, name.line);
    --index;
  } else {
    ++g.parameter_count;
  }
  Parameter& p = g.parameters[index];
  p.name = full;
  p.rank = spec.rank;
  int width = 1;
  for (int i = 0; i < spec.rank; ++i) {
    p.dims[i] = spec.dims[i];
    if (spec.dims[i] != Parameter::per_max_length) width *= spec.dims[i];
  }
  p.role = spec.role;
  p.initial = spec.initial;
  p.is_constant = spec.is_constant;
  p.decay = spec.decay;
  p.reinitialise = spec.reinitialise;
  p.learning_rate = spec.learning_rate;
  p.offset_fixed = 0;
  p.offset_per_max = 0;
  for (int i = 0; i < index; ++i) {
    if (g.parameters[i].is_constant != p.is_constant) continue;
    (g.parameters[i].has_length() ? p.offset_per_max : p.offset_fixed) += g.parameters[i].count(1);
  }
  const Domain domain = p.has_length() ? Domain::positions : Domain::one;
  Value v = ops::make(g, p.is_constant ? ops::constant_op : ops::parameter_op, domain, width);
  g.nodes[v.id].attribute[0] = index;
  return v;
}

}  // namespace mad
