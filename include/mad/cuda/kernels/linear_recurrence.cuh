// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The linear recurrence with a matrix state and its gradients on the device.
#pragma once

#include <mad/cuda/kernels/linear_recurrence/chunks_gradient.cuh>
#include <mad/cuda/kernels/linear_recurrence/chunks_states.cuh>
#include <mad/cuda/kernels/linear_recurrence/gradient.cuh>
#include <mad/cuda/kernels/linear_recurrence/tiles_gradient.cuh>
#include <mad/cuda/kernels/sum.cuh>
#include <mad/ops/linear_recurrence.hpp>

namespace mad::cuda {

namespace recurrence_detail {

/// What is known of a call whose operands query, key, value, log decay and bonus begin with number `First`.
template <class C, int First>
struct Description {
  static constexpr Node node = C::node;
  static constexpr bool has_decay = node.attribute[ops::linear_recurrence::decay] != 0;
  static constexpr bool has_bonus = node.attribute[ops::linear_recurrence::bonus] != 0;
  static constexpr int heads = node.attribute[ops::linear_recurrence::heads];
  static constexpr int groups = node.attribute[ops::linear_recurrence::key_groups];
  static constexpr int key = node.attribute[ops::linear_recurrence::key_width];
  static constexpr int value = node.attribute[ops::linear_recurrence::value_width];

  using T = typename C::template In<First>;
  static auto decay_type() {
    if constexpr (has_decay)
      return typename C::template In<First + 3>{};
    else
      return float{};
  }
  static auto bonus_type() {
    if constexpr (has_bonus)
      return typename C::template In<First + 4>{};
    else
      return float{};
  }
  using W = decltype(decay_type());
  using B = decltype(bonus_type());

  static constexpr Decay decay() {
    if constexpr (!has_decay)
      return Decay::none;
    else
      return C::operand(First + 3).width == heads ? Decay::head : Decay::channel;
  }
  static constexpr bool decay_per_token() {
    if constexpr (!has_decay)
      return false;
    else
      return C::operand(First + 3).domain == Domain::tokens;
  }
  static constexpr int key_chunk() {
    constexpr int chunk = common_chunk<key, C::template in_chunk<First>(), C::template in_chunk<First + 1>()>();
    if constexpr (decay_per_token() && decay() == Decay::channel)
      return std::min(chunk, C::template in_chunk<First + 3>());
    else
      return chunk;
  }
  static constexpr int value_chunk() { return common_chunk<value, C::template in_chunk<First + 2>()>(); }
  static constexpr int output_chunk() {
    if constexpr (First == 1)
      return common_chunk<value, C::template in_chunk<0>()>();
    else
      return common_chunk<value, C::template out_chunk<0>()>();
  }
  static constexpr int key_gradient_chunk() {
    if constexpr (First == 1) {
      constexpr int chunk = common_chunk<key, C::template out_chunk<0>(), C::template out_chunk<1>()>();
      if constexpr (decay_per_token() && decay() == Decay::channel &&
                    node.attribute[ops::linear_recurrence::decay_gradient] != 0)
        return std::min(chunk, C::template out_chunk<3>());
      else
        return chunk;
    } else {
      return 1;
    }
  }
  static constexpr int value_gradient_chunk() {
    if constexpr (First == 1)
      return common_chunk<value, C::template out_chunk<2>()>();
    else
      return 1;
  }
  using S = Sizes<heads, groups, key, value, node.attribute[ops::linear_recurrence::normaliser] != 0, decay(),
                  decay_per_token(), has_bonus, key_chunk(), value_chunk(), output_chunk(), key_gradient_chunk(),
                  value_gradient_chunk()>;
  static_assert(!decay_per_token() || std::is_same_v<W, T>, "mad: decays of tokens are stored as keys are");

  static Operands<T, W, B> operands(const C& call) {
    Operands<T, W, B> o{};
    const auto set = [&](Side side, const auto& view) {
      o.side[static_cast<int>(side)] = view.data;
      o.stride[static_cast<int>(side)] = static_cast<unsigned>(view.stride);
    };
    set(Side::query, call.template in<First>());
    set(Side::key, call.template in<First + 1>());
    set(Side::value, call.template in<First + 2>());
    if constexpr (First == 1) set(Side::d_output, call.template in<0>());
    if constexpr (has_decay) {
      o.log_decay = call.template in<First + 3>().data;
      o.decay_stride = static_cast<unsigned>(call.template in<First + 3>().stride);
    }
    if constexpr (has_bonus) o.bonus = call.template in<First + 4>().data;
    return o;
  }
};

/// The rows of an output, or where several blocks add to it (slices of the summed side, and `Heads` heads that share
/// it), memory for their parts of `width` columns.
template <class Result, int Slices, int Heads, class T>
Destination<Result> destination(Queue& queue, View<T> rows, Index tokens, Index width) {
  if constexpr (std::is_same_v<Result, T> && Slices * Heads == 1) {
    return {rows.data, static_cast<unsigned>(rows.stride), 0, 0};
  } else {
    const auto part = static_cast<std::size_t>(tokens * width);
    return {queue.take<float>(Slices * Heads * tokens * width), static_cast<unsigned>(width), Heads * part, part};
  }
}
/// Adds up the parts of an output if there are some.
template <class Result, int Slices, int Heads, class T>
void add_up(Queue& queue, const Destination<Result>& parts, View<T> rows, Index tokens, Index width) {
  if constexpr (!(std::is_same_v<Result, T> && Slices * Heads == 1))
    queue.launch("a sum over parts of a state", add_parts<T>, sum_detail::blocks(tokens * width, 256), dim3(256), 0,
                 parts.data, Slices * Heads, parts.stride * static_cast<std::size_t>(tokens), parts.stride, 0, width,
                 rows.data, rows.stride, tokens * width);
}

}  // namespace recurrence_detail

template <>
struct Kernel<&ops::linear_recurrence_op> {
  template <class C>
  static void run(const C& call) {
    using D = recurrence_detail::Description<C, 0>;
    if constexpr (recurrence_tiles::fits<typename D::S, typename D::T>)
      in_tiles<D>(call);
    else if constexpr (recurrence_chunks::fits<typename D::S, typename D::T>)
      chunked<D>(call);
    else
      sweep<D>(call);
  }

private:
  template <class D, class C>
  static void in_tiles(const C& call) {
    namespace t = recurrence_tiles;
    using S = typename D::S;
    const Shape& shape = call.shape();
    const auto out = call.out();
    const auto operands = D::operands(call);
    call.queue().launch("the tiles of a linear recurrence", t::outputs<S, std::remove_const_t<decltype(operands)>>,
                        t::grid<S>(shape), dim3(t::threads), 0, operands,
                        t::Results{out.data, static_cast<std::size_t>(out.stride)},
                        static_cast<int>(shape.batch) * S::heads, static_cast<int>(shape.length),
                        C::node.number[ops::linear_recurrence::scale]);
  }

  template <class D, class C>
  static void chunked(const C& call) {
    namespace c = recurrence_chunks;
    using S = typename D::S;
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const auto out = call.out();
    BFloat16* states = c::take_states<S>(queue, shape);
    queue.launch("the states of a linear recurrence", c::walk_states<S, false>, c::states_grid<S>(shape, 1),
                 dim3(c::threads), c::states_bytes<S>(), D::operands(call), states, nullptr, shape.length);
    queue.launch("the chunks of a linear recurrence", c::outputs<S>, c::grid<S>(shape), dim3(c::threads),
                 sizeof(c::ForwardMemory<S>), D::operands(call), states,
                 c::Results{out.data, static_cast<std::size_t>(out.stride)}, shape.length,
                 C::node.number[ops::linear_recurrence::scale]);
  }

  template <class D, class C>
  static void sweep(const C& call) {
    namespace d = recurrence_detail;
    using S = typename D::S;
    using T = typename D::T;
    using Job = d::Sweep<S, d::Task::output, 32, T>;
    using P = typename Job::P;
    const Index tokens = call.shape().tokens();
    const auto to = d::destination<typename Job::Result, P::slices, 1>(call.queue(), call.out(), tokens, C::node.width);
    call.queue().launch("a linear recurrence", d::forward<S, T, typename D::W, typename D::B>,
                        dim3(static_cast<unsigned>(P::blocks(call.shape().batch))), dim3(P::threads), 0,
                        D::operands(call), to, call.shape().length, C::node.number[ops::linear_recurrence::scale]);
    d::add_up<typename Job::Result, P::slices, 1>(call.queue(), to, call.out(), tokens, C::node.width);
  }
};

template <>
struct Kernel<&ops::linear_recurrence_gradient_op> {
  template <class C>
  static void run(const C& call) {
    using D = recurrence_detail::Description<C, 1>;
    if constexpr (recurrence_tiles::fits<typename D::S, typename D::T>)
      in_tiles<D>(call);
    else if constexpr (recurrence_chunks::fits<typename D::S, typename D::T>)
      chunked<D>(call);
    else
      sweeps<D>(call);
  }

private:
  template <class C>
  using WantedOf = recurrence_detail::Wanted<C::node.attribute[ops::linear_recurrence::decay_gradient] != 0,
                                             C::node.attribute[ops::linear_recurrence::bonus_gradient] != 0>;

  template <class D, class C>
  static void in_tiles(const C& call) {
    namespace t = recurrence_tiles;
    using S = typename D::S;
    using W = WantedOf<C>;
    constexpr int all_keys = S::heads * S::key;
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const auto operands = D::operands(call);
    const auto rows = [](const auto& view) { return t::Results{view.data, static_cast<std::size_t>(view.stride)}; };
    t::Gradients to{rows(call.template out<0>()), rows(call.template out<1>()), rows(call.template out<2>()), {}};
    t::SharedGradients shared{};
    if constexpr (W::decay && S::decay_per_token) to.decay = rows(call.template out<3>());
    if constexpr (W::decay && !S::decay_per_token) shared.decay = queue.take_for_aside<float>(shape.batch * all_keys);
    if constexpr (W::bonus) shared.bonus = queue.take_for_aside<float>(shape.batch * all_keys);
    const int heads = static_cast<int>(shape.batch) * S::heads;
    const int states = t::tiles(shape.length) - 1;
    queue.launch("the gradients of the tiles of a linear recurrence",
                 t::gradients<S, W, std::remove_const_t<decltype(operands)>>, t::grid<S>(shape), dim3(t::threads), 0,
                 operands, t::States{queue.take<uint4>(Index{heads} * states * 32), states}, to, shared, heads,
                 static_cast<int>(shape.length), C::node.number[ops::linear_recurrence::scale]);
    add_shared<S, W>(call, shape.batch, shared.decay, shared.bonus);
  }

  template <class D, class C>
  static void chunked(const C& call) {
    namespace c = recurrence_chunks;
    namespace a = ops::linear_recurrence;
    using S = typename D::S;
    constexpr bool with_decay = C::node.attribute[a::decay_gradient] != 0;
    Queue& queue = call.queue();
    const Shape& shape = call.shape();
    const auto rows = [](const auto& view) { return c::Results{view.data, static_cast<std::size_t>(view.stride)}; };
    c::Gradients to{rows(call.template out<0>()), rows(call.template out<1>()), rows(call.template out<2>()), {}};
    if constexpr (with_decay) to.decay = rows(call.template out<3>());
    BFloat16* states = c::take_states<S>(queue, shape);
    BFloat16* state_gradients = c::take_states<S>(queue, shape);
    queue.launch("the states of a linear recurrence and their gradients", c::walk_states<S, true>,
                 c::states_grid<S>(shape, 2), dim3(c::threads), c::states_bytes<S>(), D::operands(call), states,
                 state_gradients, shape.length);
    queue.launch("the gradients of the chunks of a linear recurrence", c::gradients<S, with_decay>, c::grid<S>(shape),
                 dim3(c::threads), sizeof(c::GradientMemory<S>), D::operands(call), states, state_gradients, to,
                 shape.length, C::node.number[a::scale]);
  }

  template <class D, class C>
  static void sweeps(const C& call) {
    namespace d = recurrence_detail;
    namespace a = ops::linear_recurrence;
    using S = typename D::S;
    using T = typename D::T;
    using W = WantedOf<C>;
    using G = d::GradientGrid<S, W, T>;
    using Pair = typename G::Pair;
    using P = typename Pair::P;
    using ValueResult = typename G::Value::Result;
    constexpr int value_slices = G::ValuePlan::slices;
    constexpr int shared = Pair::R::together == S::group ? 1 : S::group;
    constexpr int key_width = S::groups * S::key;
    constexpr int all_keys = S::heads * S::key;
    Queue& queue = call.queue();
    const Index batch = call.shape().batch;
    const Index length = call.shape().length;
    const Index tokens = call.shape().tokens();
    const auto d_query = call.template out<0>();
    const auto d_key = call.template out<1>();
    const auto d_value = call.template out<2>();

    typename Pair::Gradients to{};
    to.query = d::destination<typename Pair::Result, P::slices, shared>(queue, d_query, tokens, key_width);
    to.key = d::destination<typename Pair::Result, P::slices, shared>(queue, d_key, tokens, key_width);
    const auto value_to = d::destination<ValueResult, value_slices, 1>(queue, d_value, tokens, S::heads * S::value);
    constexpr int decay_parts = P::slices * (S::decay == d::Decay::head ? P::free_tiles : 1);
    const Index rows = batch * P::slices;
    if constexpr (Pair::decay_rows)
      to.log_decay = d::destination<typename Pair::DecayResult, decay_parts, 1>(queue, call.template out<3>(), tokens,
                                                                                C::template output<3>().width);
    else if constexpr (W::decay)
      to.all_decays = queue.take_for_aside<float>(rows * all_keys);
    if constexpr (W::bonus) to.bonus = queue.take_for_aside<float>(rows * all_keys);

    const Index key_blocks = P::blocks(batch);
    const Index value_blocks = G::ValuePlan::blocks(batch);
    Checkpoints checkpoints{};
    if constexpr (G::paired) {
      const Index stretches = (length + Pair::stretch - 1) / Pair::stretch;
      checkpoints = {queue.take<float>(stretches * P::tile * key_blocks * G::threads),
                     static_cast<unsigned>(key_blocks * G::threads)};
    }
    queue.launch("the gradient of a linear recurrence", d::backward<S, W, T, typename D::W, typename D::B>,
                 dim3(static_cast<unsigned>(G::blocks(batch)), G::tasks), dim3(G::threads), 0, D::operands(call), to,
                 value_to, checkpoints, key_blocks, value_blocks, length, C::node.number[a::scale]);

    add_shared<S, W>(call, rows, to.all_decays, to.bonus);
    d::add_up<typename Pair::Result, P::slices, shared>(queue, to.query, d_query, tokens, key_width);
    d::add_up<typename Pair::Result, P::slices, shared>(queue, to.key, d_key, tokens, key_width);
    d::add_up<ValueResult, value_slices, 1>(queue, value_to, d_value, tokens, S::heads * S::value);
    if constexpr (Pair::decay_rows)
      d::add_up<typename Pair::DecayResult, decay_parts, 1>(queue, to.log_decay, call.template out<3>(), tokens,
                                                            C::template output<3>().width);
  }

  /// Adds up the gradients of what all tokens share: `rows` of (heads, key channels).
  template <class S, class W, class C>
  static void add_shared(const C& call, Index rows, const float* decays, const float* bonus) {
    constexpr int all_keys = S::heads * S::key;
    if constexpr (W::decay && !S::decay_per_token)
      add_decays<S>(sums_aside(call, 3), {decays, all_keys}, rows, call.template out<3>().data);
    if constexpr (W::bonus)
      add_row_sums<float>(sums_aside(call, W::decay ? 4 : 3), {bonus, all_keys}, rows, all_keys,
                          call.template out<(W::decay ? 4 : 3)>().data);
  }

  /// Gradients of decays that all tokens share: sums over sequences, and over the channels of a head.
  template <class S>
  static void add_decays(Queue& queue, View<const float> from, Index rows, float* to) {
    constexpr int all_keys = S::heads * S::key;
    if constexpr (S::decay == recurrence_detail::Decay::channel) {
      add_row_sums<float>(queue, from, rows, all_keys, to);
    } else {
      float* sums = queue.take<float>(all_keys);
      queue.zero(sums, all_keys * sizeof(float));
      add_row_sums<float>(queue, from, rows, all_keys, sums);
      queue.launch("a sum over channels", sum_detail::fold<all_keys, S::heads, Fold::spread, true, float, float>,
                   sum_detail::blocks(S::heads, 128), dim3(128), 0, sums, 0, sum_detail::Rows{1, 0, 0}, to, 0,
                   S::heads);
    }
  }
};

}  // namespace mad::cuda
