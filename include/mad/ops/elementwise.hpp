// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Elementwise operations: the vocabulary, each with its formula (one for every device) and its derivative.
#pragma once

#include <mad/core/device.hpp>
#include <mad/graph/differentiate.hpp>

#include <cmath>

namespace mad {

namespace ops {

/// The formula of an elementwise operation, specialised on the operation's address:
/// `static X apply(double c, X a[, X b])` for a number or a pack of numbers X, c being the node's constant. A pack
/// brings its own exp, sin, ...: they are found by argument.
template <const Operation* Op>
struct Formula;

constexpr Value elementwise(const Operation& op, Value a, double number = 0) {
  Value v = make(*a.graph, op, a.domain(), a.width(), a);
  v.graph->nodes[v.id].number[0] = number;
  return v;
}

// The adjoint rules, each beside the derivative it implements; y is the result, a and b the operands.
constexpr void add_adjoint(Differentiator& d, int node);       // da = dy, db = dy
constexpr void subtract_adjoint(Differentiator& d, int node);  // da = dy, db = -dy
constexpr void multiply_adjoint(Differentiator& d, int node);  // da = dy b, db = dy a
constexpr void divide_adjoint(Differentiator& d, int node);    // da = dy / b, db = -dy y / b
constexpr void scale_adjoint(Differentiator& d, int node);     // da = c dy
constexpr void shift_adjoint(Differentiator& d, int node);     // da = dy
constexpr void exp_adjoint(Differentiator& d, int node);       // da = dy y
constexpr void log_adjoint(Differentiator& d, int node);       // da = dy / a
constexpr void sqrt_adjoint(Differentiator& d, int node);      // da = dy / (2 y)
constexpr void square_adjoint(Differentiator& d, int node);    // da = 2 a dy
constexpr void sigmoid_adjoint(Differentiator& d, int node);   // da = dy y (1 - y)
constexpr void tanh_adjoint(Differentiator& d, int node);      // da = dy (1 - y^2)
constexpr void softplus_adjoint(Differentiator& d, int node);  // da = dy sigmoid(a)
constexpr void sin_adjoint(Differentiator& d, int node);       // da = dy cos(a)
constexpr void cos_adjoint(Differentiator& d, int node);       // da = -dy sin(a)
constexpr void relu_adjoint(Differentiator& d, int node);      // da = dy [a > 0]
constexpr void abs_adjoint(Differentiator& d, int node);       // da = dy sign(a), 0 at 0
constexpr void gelu_adjoint(Differentiator& d, int node);      // da = dy gelu'(a)

// name, operation, adjoint, formula in a, and the node's number c
#define MAD_ELEMENTWISE_UNARY(NAME, OP, ADJOINT, FORMULA)                                                      \
  inline constexpr Operation OP{                                                                               \
      .name = NAME, .kind = Kind::elementwise, .cheap = true, .adjoint = ADJOINT, .flops = &flops_per_column}; \
  template <>                                                                                                  \
  struct Formula<&OP> {                                                                                        \
    template <class X>                                                                                         \
    MAD_ANY_DEVICE static X apply([[maybe_unused]] double c, X a) {                                            \
      using namespace math;                                                                                    \
      return FORMULA;                                                                                          \
    }                                                                                                          \
  };
#define MAD_ELEMENTWISE_FORMULA(OP, FORMULA)          \
  template <>                                         \
  struct Formula<&OP> {                               \
    template <class X>                                \
    MAD_ANY_DEVICE static X apply(double, X a, X b) { \
      return FORMULA;                                 \
    }                                                 \
  };

inline constexpr Operation subtract_op{.name = "subtract",
                                       .kind = Kind::elementwise,
                                       .cheap = true,
                                       .adjoint = &subtract_adjoint,
                                       .flops = &flops_per_column};
inline constexpr Operation multiply_op{.name = "multiply",
                                       .kind = Kind::elementwise,
                                       .cheap = true,
                                       .adjoint = &multiply_adjoint,
                                       .flops = &flops_per_column};
inline constexpr Operation divide_op{
    .name = "divide", .kind = Kind::elementwise, .cheap = true, .adjoint = &divide_adjoint, .flops = &flops_per_column};

MAD_ELEMENTWISE_FORMULA(add_op, a + b)
MAD_ELEMENTWISE_FORMULA(subtract_op, a - b)
MAD_ELEMENTWISE_FORMULA(multiply_op, a* b)
MAD_ELEMENTWISE_FORMULA(divide_op, a / b)
MAD_ELEMENTWISE_UNARY("scale", scale_op, &scale_adjoint, a* X(c))
MAD_ELEMENTWISE_UNARY("shift", shift_op, &shift_adjoint, a + X(c))
MAD_ELEMENTWISE_UNARY("exp", exp_op, &exp_adjoint, exp(a))
MAD_ELEMENTWISE_UNARY("log", log_op, &log_adjoint, log(a))
MAD_ELEMENTWISE_UNARY("sqrt", sqrt_op, &sqrt_adjoint, sqrt(a))
MAD_ELEMENTWISE_UNARY("square", square_op, &square_adjoint, a* a)
MAD_ELEMENTWISE_UNARY("sigmoid", sigmoid_op, &sigmoid_adjoint, X(1) / (X(1) + exp(-a)))
MAD_ELEMENTWISE_UNARY("tanh", tanh_op, &tanh_adjoint, tanh(a))
// log(1 + e^a), without overflow
MAD_ELEMENTWISE_UNARY("softplus", softplus_op, &softplus_adjoint, max(a, X(0)) + log1p(exp(-abs(a))))
MAD_ELEMENTWISE_UNARY("sin", sin_op, &sin_adjoint, sin(a))
MAD_ELEMENTWISE_UNARY("cos", cos_op, &cos_adjoint, cos(a))
MAD_ELEMENTWISE_UNARY("relu", relu_op, &relu_adjoint, max(a, X(0)))
MAD_ELEMENTWISE_UNARY("step", step_op, nullptr, step(a))
MAD_ELEMENTWISE_UNARY("abs", abs_op, &abs_adjoint, abs(a))
// a/2 (1 + erf(a / sqrt 2)) and its derivative Phi(a) + a phi(a)
MAD_ELEMENTWISE_UNARY("gelu", gelu_op, &gelu_adjoint, X(0.5) * a * (X(1) + erf(a * X(0.70710678118654752440))))
MAD_ELEMENTWISE_UNARY("gelu gradient", gelu_gradient_op, nullptr,
                      X(0.5) * (X(1) + erf(a * X(0.70710678118654752440))) +
                          a * X(0.39894228040143267794) * exp(X(-0.5) * a * a))

#undef MAD_ELEMENTWISE_UNARY
#undef MAD_ELEMENTWISE_FORMULA

}  // namespace ops

constexpr Value operator-(Value a, Value b) { return ops::elementwise(ops::subtract_op, a, b, 0); }
constexpr Value operator*(Value a, Value b) { return ops::elementwise(ops::multiply_op, a, b, 0); }
constexpr Value operator/(Value a, Value b) { return ops::elementwise(ops::divide_op, a, b, 0); }
constexpr Value operator*(Value a, double c) { return ops::elementwise(ops::scale_op, a, c); }
constexpr Value operator*(double c, Value a) { return a * c; }
constexpr Value operator+(Value a, double c) { return ops::elementwise(ops::shift_op, a, c); }
constexpr Value operator+(double c, Value a) { return a + c; }
constexpr Value operator-(Value a, double c) { return a + -c; }
constexpr Value operator-(double c, Value a) { return a * -1.0 + c; }
constexpr Value operator-(Value a) { return a * -1.0; }

constexpr Value exp(Value a) { return ops::elementwise(ops::exp_op, a); }
constexpr Value log(Value a) { return ops::elementwise(ops::log_op, a); }
constexpr Value sqrt(Value a) { return ops::elementwise(ops::sqrt_op, a); }
constexpr Value square(Value a) { return ops::elementwise(ops::square_op, a); }
constexpr Value sigmoid(Value a) { return ops::elementwise(ops::sigmoid_op, a); }
constexpr Value tanh(Value a) { return ops::elementwise(ops::tanh_op, a); }
constexpr Value softplus(Value a) { return ops::elementwise(ops::softplus_op, a); }
constexpr Value sin(Value a) { return ops::elementwise(ops::sin_op, a); }
constexpr Value cos(Value a) { return ops::elementwise(ops::cos_op, a); }
constexpr Value relu(Value a) { return ops::elementwise(ops::relu_op, a); }
constexpr Value abs(Value a) { return ops::elementwise(ops::abs_op, a); }
/// x sigmoid(x), also called swish (Elfwing et al. 2017).
constexpr Value silu(Value a) { return a * sigmoid(a); }
/// Exact Gaussian error linear unit, x/2 (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel 2016).
constexpr Value gelu(Value a) { return ops::elementwise(ops::gelu_op, a); }
/// Its tanh form, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
constexpr Value gelu_tanh(Value a) {
  Value inner = (a + a * square(a) * 0.044715) * 0.79788456080286535588;
  return a * (tanh(inner) + 1.0) * 0.5;
}

namespace ops {

constexpr void subtract_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node));
  if (d.wanted(d.node(node).operand[1])) d.add(d.node(node).operand[1], -d.adjoint(node));
}
constexpr void multiply_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  if (d.wanted(n.operand[0])) d.add(n.operand[0], d.adjoint(node) * d.operand(node, 1));
  if (d.wanted(n.operand[1])) d.add(n.operand[1], d.adjoint(node) * d.operand(node, 0));
}
constexpr void divide_adjoint(Differentiator& d, int node) {
  const Node n = d.node(node);
  const Value scaled = d.adjoint(node) / d.operand(node, 1);
  d.add(n.operand[0], scaled);
  if (d.wanted(n.operand[1])) d.add(n.operand[1], -(scaled * d.forward(node)));
}
constexpr void scale_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * d.node(node).number[0]);
}
constexpr void shift_adjoint(Differentiator& d, int node) { d.add(d.node(node).operand[0], d.adjoint(node)); }
constexpr void exp_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * d.forward(node));
}
constexpr void log_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) / d.operand(node, 0));
}
constexpr void sqrt_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * 0.5 / d.forward(node));
}
constexpr void square_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * d.operand(node, 0) * 2.0);
}
constexpr void sigmoid_adjoint(Differentiator& d, int node) {
  const Value y = d.forward(node);
  d.add(d.node(node).operand[0], d.adjoint(node) * y * (1.0 - y));
}
constexpr void tanh_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * (1.0 - square(d.forward(node))));
}
constexpr void softplus_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * sigmoid(d.operand(node, 0)));
}
constexpr void sin_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * cos(d.operand(node, 0)));
}
constexpr void cos_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], -(d.adjoint(node) * sin(d.operand(node, 0))));
}
constexpr void relu_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * elementwise(step_op, d.operand(node, 0)));
}
constexpr void abs_adjoint(Differentiator& d, int node) {
  const Value a = d.operand(node, 0);
  d.add(d.node(node).operand[0], d.adjoint(node) * (elementwise(step_op, a) - elementwise(step_op, -a)));
}
constexpr void gelu_adjoint(Differentiator& d, int node) {
  d.add(d.node(node).operand[0], d.adjoint(node) * elementwise(gelu_gradient_op, d.operand(node, 0)));
}

}  // namespace ops

}  // namespace mad
