// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Topologies beside the plain stack: striped, parallel, mixture of experts (MAD, arXiv 2403.17844, section 2.3).
#pragma once

#include <mad/models/stack.hpp>
#include <mad/ops/elementwise.hpp>
#include <mad/ops/expert_weights.hpp>
#include <mad/ops/linear.hpp>

#include <initializer_list>
#include <string_view>

namespace mad {

/// One `Rare` in every `Period` items, the last one: `Striped<Hyena, Attn, 4>` is Hyena, Hyena, Hyena, Attn. Items may
/// be stacks, such as a mixer with its channel mixer. A stack itself, to be put where a stack goes.
template <class Frequent, class Rare, int Period>
struct Striped {
  static_assert(Period >= 1, "mad: Striped<Frequent, Rare, Period> needs a Period of at least 1.");
  using Layers = LayersOf<Stack<Repeat<(Period > 0 ? Period - 1 : 0), Frequent>, Rare>>;
  static constexpr int depth = Layers::size;
};

namespace stack_detail {

template <class Frequent, class Rare, int Period>
struct Flat<Striped<Frequent, Rare, Period>> {
  using type = typename Striped<Frequent, Rare, Period>::Layers;
};

/// "first+second+..." of the names of layers.
constexpr FixedString<63> joined_names(std::string_view prefix, std::initializer_list<std::string_view> names,
                                       std::string_view suffix) {
  FixedString<63> text;
  text.append(prefix);
  bool first = true;
  for (const std::string_view name : names) {
    if (!first) text.append("+");
    text.append(name);
    first = false;
  }
  text.append(suffix);
  return text;
}

template <class L>
constexpr std::string_view shorthand_or_name() {
  if constexpr (requires { L::shorthand; })
    return L::shorthand;
  else
    return L::name;
}

/// Parameters of branch `index` are called `index.*`.
template <class L>
constexpr Value branch(Value x, int index) {
  const char digits[3] = {index < 10 ? static_cast<char>('0' + index) : '1',
                          index < 10 ? '\0' : static_cast<char>('0' + index - 10), '\0'};
  Scope scope(x, digits);
  return L::forward(x);
}

}  // namespace stack_detail

/// Branches side by side on the same input, summed: y = L0(x) + L1(x) + ... In a stack they share the norm and the
/// residual. Parameters `0.*`, `1.*`, ...
template <Layer... Branches>
struct Parallel {
  static_assert(sizeof...(Branches) >= 2 && sizeof...(Branches) <= 16, "mad: Parallel<...> needs 2 to 16 branches.");
  static constexpr auto name_ = stack_detail::joined_names("", {Branches::name...}, "");
  static constexpr auto shorthand_ =
      stack_detail::joined_names("", {stack_detail::shorthand_or_name<Branches>()...}, "");
  static_assert(!name_.overflow, "mad: the names of the branches of this Parallel are longer than 63 characters.");
  static constexpr std::string_view name = name_.view();
  static constexpr std::string_view shorthand = shorthand_.view();

  static constexpr Value forward(Value x) {
    Value sum;
    int index = 0;
    ((sum = index == 0 ? stack_detail::branch<Branches>(x, index) : sum + stack_detail::branch<Branches>(x, index),
      ++index),
     ...);
    return sum;
  }
};

/// Experts that are whole layers: y = sum_e p_e(x) L_e(x) with p = `expert_weights(router(x))`, the `Active` largest
/// scores kept. `Routing::published` is the reference's rule for its own experts (the others keep the score 0, and with
/// it some weight), `Routing::intended` gives them none. All experts are computed. Parameters `router.weight` (E, D),
/// `router.bias` (E), and those of the experts under `0.*`, `1.*`, ...
template <int Active, Routing R, Layer... Experts>
struct MixtureOfExperts {
  static constexpr int experts = sizeof...(Experts);
  static_assert(experts >= 2 && experts <= 16, "mad: MixtureOfExperts<...> needs 2 to 16 experts.");
  static_assert(Active >= 1 && Active <= experts,
                "mad: MixtureOfExperts<Active, ...> needs 1 <= Active <= number of experts.");
  static constexpr auto name_ = stack_detail::joined_names("moe(", {Experts::name...}, ")");
  static constexpr auto shorthand_ =
      stack_detail::joined_names("moe(", {stack_detail::shorthand_or_name<Experts>()...}, ")");
  static_assert(!name_.overflow, "mad: the names of these experts are together longer than 63 characters.");
  static constexpr std::string_view name = name_.view();
  static constexpr std::string_view shorthand = shorthand_.view();

  static constexpr Value forward(Value x) {
    const Value weights = expert_weights(linear(x, experts, "router", {.bias = true}), Active, R);
    Value sum;
    int index = 0;
    ((sum = index == 0 ? weighted<Experts>(x, weights, index) : sum + weighted<Experts>(x, weights, index), ++index),
     ...);
    return sum;
  }

private:
  template <class L>
  static constexpr Value weighted(Value x, Value weights, int index) {
    return stack_detail::branch<L>(x, index) * slice(weights, index, 1);
  }
};

}  // namespace mad
