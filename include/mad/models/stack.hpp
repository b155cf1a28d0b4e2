// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Stacks of layers: types that list what comes after what.
#pragma once

#include <mad/graph/cost.hpp>
#include <mad/graph/layer.hpp>
#include <mad/models/block.hpp>

#include <type_traits>

namespace mad {

/// A list of layer types.
template <class... Layers>
struct LayerList {
  static constexpr int size = sizeof...(Layers);
};

template <class... Items>
struct Stack;
template <int Times, class... Items>
struct Repeat;

namespace stack_detail {

template <class A, class B>
struct Join;
template <class... A, class... B>
struct Join<LayerList<A...>, LayerList<B...>> {
  using type = LayerList<A..., B...>;
};

/// The layers of one item of a stack, in order. A type that is neither a layer nor a stack is kept as it is, so that
/// the stack can say where it stands.
template <class Item>
struct Flat {
  using type = LayerList<Item>;
};
template <class... Items>
struct FlatAll {
  using type = LayerList<>;
};
template <class First, class... Rest>
struct FlatAll<First, Rest...> {
  using type = typename Join<typename Flat<First>::type, typename FlatAll<Rest...>::type>::type;
};
template <class... Items>
struct Flat<Stack<Items...>> : FlatAll<Items...> {};
template <class... Items>
struct Flat<Repeat<0, Items...>> {
  using type = LayerList<>;
};
template <int Times, class... Items>
struct Flat<Repeat<Times, Items...>> {
  static_assert(Times > 0, "mad: Repeat<N, ...> needs N >= 0.");
  using type = typename Join<typename FlatAll<Items...>::type,
                             typename Flat<Repeat<(Times > 0 ? Times - 1 : 0), Items...>>::type>::type;
};

/// Width that a layer gives back, from its forward pass alone.
template <class L, int Width>
constexpr int width_given() {
  Graph g;
  Node in;
  in.op = &ops::input_op;
  in.width = Width;
  g.append(in);
  return L::forward(Value{&g, 0}).width();
}

/// Place `Position` of a stack, counted from 0: `Item` must be a layer.
template <int Position, class Item>
struct IsALayer {
  static_assert(Layer<Item>,
                "mad: this item of the stack is not a layer: a layer has a static 'name' and a static constexpr "
                "'mad::Value forward(mad::Value)'; the lines around name the item and its Position, counted from 0.");
  static constexpr bool value = true;  // the words above are the only error
};

/// A joint of the residual stream: the layer at `Position` gets `Wants` columns and must give as many back.
template <int Position, class Item, int Wants, int Gives>
struct FitsTheStream {
  static_assert(Wants == Gives,
                "mad: this layer of the stack does not fit: the residual stream has Wants columns, the layer gives "
                "Gives; let its forward end in linear(..., x.width(), ...).");
  static constexpr bool value = true;
};

template <int Width, class List>
struct Check;
template <int Width, class... L>
struct Check<Width, LayerList<L...>> {
  template <int Position, class Item>
  static constexpr bool one() {
    if constexpr (IsALayer<Position, Item>::value && Layer<Item>)
      return FitsTheStream<Position, Item, Width, width_given<Item, Width>()>::value;
    return true;
  }
  template <int... Position>
  static constexpr bool all(std::integer_sequence<int, Position...>) {
    return (one<Position, L>() && ... && true);
  }
  static constexpr bool value = all(std::make_integer_sequence<int, sizeof...(L)>{});
};

}  // namespace stack_detail

/// What a stack or a model costs, as constant expressions. Norms and residuals are included, embeddings and head are
/// not (they depend on the vocabulary; see LanguageModel).
template <class List, int Width, Norm N>
struct Cost;
template <class... L, int Width, Norm N>
struct Cost<LayerList<L...>, Width, N> {
  static_assert(stack_detail::Check<Width, LayerList<L...>>::value);

  /// Trained numbers; filters of Hyena have some per position of `max_length`.
  static constexpr Index parameters(Index max_length) {
    return (parameter_count(Lowered<Residual<N, L>, Width>::graph, max_length) + ... + 0);
  }
  /// Of the forward pass, for sequences of `length` tokens.
  static constexpr double flops_per_token(Index length) {
    return (forward_flops_per_token(Lowered<Residual<N, L>, Width>::graph, length) + ... + 0.0);
  }
  /// Numbers that step-by-step inference keeps for one sequence after `length` tokens.
  static constexpr Index state(Index length) {
    return (state_size(Lowered<Residual<N, L>, Width>::graph, length) + ... + 0);
  }
};

/// Layers one after the other, each in a pre-norm residual block: x <- x + layer(norm(x)). Items are layers, stacks or
/// repetitions; `Stack<Hyena, Attn, SwiGLU, Mamba>` is a whole architecture. Width, maximum length, number type and
/// device come from where the stack is used.
template <class... Items>
struct Stack {
  using Layers = typename stack_detail::FlatAll<Items...>::type;
  static constexpr int depth = Layers::size;

  template <int Width, Norm N = Norm::layer_norm>
  using Cost = mad::Cost<Layers, Width, N>;
};

/// The items in order, `Times` times.
template <int Times, class... Items>
struct Repeat {
  using Layers = typename stack_detail::Flat<Repeat>::type;
  static constexpr int depth = Layers::size;
};

/// Any item as a list of layers: a single layer is a stack of one.
template <class Net>
using LayersOf = typename stack_detail::Flat<Net>::type;

}  // namespace mad
