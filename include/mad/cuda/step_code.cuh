// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The steps of a plan as a table of functions and places. Steps that do the same, in one layer or in the forms that a
/// layer has with different norms, share their function and its kernels.
#pragma once

#include <mad/cuda/kernels.cuh>
#include <mad/cuda/kernels/channel_mixer.cuh>
#include <mad/cuda/kernels/elementwise.cuh>
#include <mad/cuda/kernels/put_off_products.cuh>
#include <mad/models/block.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace mad::cuda {

/// One step at run time: a run of elementwise nodes, a channel mixer, or a kernel.
template <class P>
struct StepCode {
  void (*run)(const Context<P>& context, const Place* places);
  /// Computes a product at once with the one that was put off last, of whose result it is made; false, and nothing has
  /// happened, where that cannot be. Null for what never can.
  bool (*follow)(const Context<P>& context, const Place* places);
  const Place* places;  ///< of what is read, then of what is written
  int reads;
  int writes;
  bool aside;         ///< nothing in its phase waits for it
  bool puts_off;      ///< a matrix product that may be put off and joins others, unless it is aside
  bool does_nothing;  ///< a concatenation whose parts are in place
};

namespace step_detail {

/// True if one node reads a value, as it is.
template <class Low>
constexpr bool is_read_once(int id) {
  int readers = Low::nodes.at[id].op->kind == Kind::view ? 2 : 0;
  for (const auto& node : Low::nodes.at)
    for (int k = 0; k < node.operands; ++k) readers += node.operand[k] == id ? 1 : 0;
  return readers == 1;
}

/// A step that is one node.
template <class Low, int Id, class P>
struct KernelStep {
  using C = Call<Low, Id, P>;
  static constexpr auto form = C::form;
  struct Places {
    Place at[std::size(form.value)];
    constexpr Places() {
      for (int k = 0; k < form.node.operands; ++k) at[k] = Place::of<Low, P>(Low::nodes.at[Id].operand[k]);
      for (int k = form.node.operands; k < static_cast<int>(std::size(form.value)); ++k)
        at[k] = Place::of<Low, P>(Id + k - form.node.operands);
      // What follows a product need not leave it in memory then.
      if (requires { Kernel<form.node.op>::template follows<C>(); })
        at[0].read_once = is_read_once<Low>(Low::nodes.at[Id].operand[0]);
    }
  };
  static constexpr Places places{};
  static constexpr int reads = form.node.operands;
  static constexpr int writes = static_cast<int>(std::size(form.value)) - reads;

  static void run(const Context<P>& context, const Place* at) { Kernel<form.node.op>::run(C{context, at}); }
};

/// True if a kernel says that what it computes for such a call may be put off (put_off_products.cuh).
template <class Code>
constexpr bool puts_off() {
  if constexpr (requires { Kernel<Code::form.node.op>::template puts_off<typename Code::C>(); })
    return Kernel<Code::form.node.op>::template puts_off<typename Code::C>();
  else
    return false;
}

/// How a step follows the product that was put off last (put_off_products.cuh), or null.
template <class Code, class P>
constexpr auto follow() {
  bool (*found)(const Context<P>&, const Place*) = nullptr;
  if constexpr (requires { Kernel<Code::form.node.op>::template follows<typename Code::C>(); })
    if constexpr (Kernel<Code::form.node.op>::template follows<typename Code::C>())
      found = [](const Context<P>& context, const Place* at) {
        return Kernel<Code::form.node.op>::follow(typename Code::C{context, at});
      };
  return found;
}

/// True if a kernel says that there is nothing to do where values lie as they do.
template <class Code>
constexpr bool does_nothing() {
  if constexpr (requires { Kernel<Code::form.node.op>::template does_nothing<typename Code::C>(Code::places.at); })
    return Kernel<Code::form.node.op>::template does_nothing<typename Code::C>(Code::places.at);
  else
    return false;
}

template <class Low, int StepIndex, class P, bool IsRun = Low::steps.is_run[StepIndex],
          bool IsMixer = Low::steps.is_mixer[StepIndex]>
struct StepOf {
  using Code = KernelStep<Low, Low::steps.node[StepIndex], P>;
  static constexpr std::uint64_t print = Code::form.print();
};
template <class Low, int StepIndex, class P>
struct StepOf<Low, StepIndex, P, true, false> {
  using Code = elementwise::Run<Low, StepIndex, P>;
  static constexpr std::uint64_t print = Code::form.print();
};
template <class Low, int StepIndex, class P>
struct StepOf<Low, StepIndex, P, false, true> {
  using Code = Mixer<Low, StepIndex, P>;
  static constexpr std::uint64_t print = Code::form.print();
};

/// The layer whose code another one uses where it can.
template <class Low>
struct CodeSource {
  using type = Low;
};
template <class L, int Width, unsigned Passes>
struct CodeSource<Lowered<Residual<Norm::rms_norm, L>, Width, Passes>> {
  using type = Lowered<Residual<Norm::layer_norm, L>, Width, Passes>;
};
template <int Width, unsigned Passes>
struct CodeSource<Lowered<Decoder<Norm::rms_norm>, Width, Passes>> {
  using type = Lowered<Decoder<Norm::layer_norm>, Width, Passes>;
};

/// The forms of all steps of a layer, as numbers.
template <class Low, class P, class Indices = std::make_integer_sequence<int, Low::plan.schedule.step_count>>
struct Prints;
template <class Low, class P, int... S>
struct Prints<Low, P, std::integer_sequence<int, S...>> {
  static constexpr std::uint64_t of[] = {StepOf<Low, S, P>::print..., 0};

  /// The first step of a form, or -1.
  static constexpr int find(std::uint64_t print) {
    for (int s = 0; s < static_cast<int>(sizeof...(S)); ++s)
      if (of[s] == print) return s;
    return -1;
  }
};

/// The step whose code is compiled for a step of its form: one of the source's, or the first of its own layer.
template <class Low, int StepIndex, class P>
constexpr auto shared_step() {
  using M = typename CodeSource<Low>::type;
  constexpr int found = Prints<M, P>::find(StepOf<Low, StepIndex, P>::print);
  if constexpr (found >= 0)
    return StepOf<M, found, P>{};
  else
    return StepOf<Low, Prints<Low, P>::find(StepOf<Low, StepIndex, P>::print), P>{};
}

template <class Low, int StepIndex, class P>
constexpr StepCode<P> step_code() {
  using Own = StepOf<Low, StepIndex, P>;
  using Equal = decltype(shared_step<Low, StepIndex, P>());
  // Forms compare operations by their names, which nothing keeps from being given twice.
  using Shared = std::conditional_t<Own::Code::form.has_operation_of(Equal::Code::form), Equal, Own>;
  return {&Shared::Code::run,
          follow<typename Shared::Code, P>(),
          Own::Code::places.at,
          Own::Code::reads,
          Own::Code::writes,
          Low::steps.runs_aside[StepIndex],
          puts_off<typename Shared::Code>(),
          does_nothing<typename Own::Code>()};
}

template <class Low, class P, class Indices = std::make_integer_sequence<int, Low::plan.schedule.step_count>>
struct Steps;
template <class Low, class P, int... S>
struct Steps<Low, P, std::integer_sequence<int, S...>> {
  static constexpr StepCode<P> code[sizeof...(S) + 1] = {step_code<Low, S, P>()...};
};

}  // namespace step_detail

/// One step on its way into the queue: what it reads and writes, in this context.
template <class P>
struct PendingStep {
  const Context<P>& context;
  const StepCode<P>& step;

  std::span<const Place> read() const { return {step.places, static_cast<std::size_t>(step.reads)}; }
  std::span<const Place> written() const { return {step.places + step.reads, static_cast<std::size_t>(step.writes)}; }
  /// The last group of work aside that the context's queue must wait for before the step can run in it, or -1.
  int must_wait_for() const { return step.aside ? -1 : group_in_the_way(context, read(), written()); }
  /// Products that were put off need not wait with it.
  void wait() const {
    const int group = must_wait_for();
    if (group < 0) return;
    context.queue->start_products();
    context.queue->wait_for_group(group);
  }
  /// True if it is a product that joins those that were put off, or starts them where it cannot.
  bool puts_off() const { return step.puts_off && !step.aside; }
  /// True if it must come behind products that were put off.
  bool needs_products() const { return !puts_off() && cuda::needs_products(context, read(), written()); }
  /// Computes it at once with the product that was put off last if it can be.
  bool follow() const { return step.follow != nullptr && !step.aside && step.follow(context, step.places); }
  void run() const {
    if (needs_products()) context.queue->start_products();
    context.queue->release();
    if (step.aside) {
      Context<P> aside = context;
      aside.queue = &queue_aside(context, read(), written());
      step.run(aside, step.places);
    } else {
      step.run(context, step.places);
    }
  }
};

namespace step_detail {

/// True if the order of two steps matters.
template <class P>
bool order_matters(const PendingStep<P>& a, const PendingStep<P>& b) {
  const auto meet = [&](std::span<const Place> some, std::span<const Place> others) {
    for (const Place& s : some)
      for (const Place& o : others)
        if (s.space != Space::registers && o.space != Space::registers &&
            put_off_detail::meet(bytes_of(a.context, s), bytes_of(a.context, o)))
          return true;
    return false;
  };
  return meet(a.written(), b.read()) || meet(a.read(), b.written()) || meet(a.written(), b.written());
}

/// Before step `next` starts what was put off: puts off what may come before it of the products behind it, too. One
/// that is made of the result of what was put off is computed with it if it may come before all steps that do anything.
template <class P>
void bring_products_forward(const Context<P>& context, const StepCode<P>* code, int next, int end,
                            std::vector<bool>& done) {
  for (int s = next + 1; s < end; ++s) {
    const PendingStep<P> product{context, code[s]};
    const bool may_follow = product.step.follow != nullptr && !product.step.aside;
    if (done[static_cast<std::size_t>(s)] || !(product.puts_off() || may_follow) || product.must_wait_for() >= 0)
      continue;
    const bool follows = cuda::needs_products(context, product.read(), product.written());
    if (follows ? !may_follow : !product.puts_off()) continue;
    bool comes_before = true;
    for (int other = next; other < s; ++other)
      comes_before = comes_before && (done[static_cast<std::size_t>(other)] || (follows && code[other].does_nothing) ||
                                      !order_matters(PendingStep<P>{context, code[other]}, product));
    if (!comes_before) continue;
    if (!follows) product.run();
    done[static_cast<std::size_t>(s)] = !follows || product.follow();
  }
}

/// The step before which the epilogue starts: the first after all that add to what it reads, or where a later one must
/// wait for all that is in the second queue by then, this one, since the epilogue may have to go there.
template <class P>
int epilogue_begin(const Context<P>& context, const StepCode<P>* code, int next, int end) {
  for (int s = next; s < end; ++s)
    for (int k = 0; k < code[s].writes; ++k)
      if (code[s].places[code[s].reads + k].space == Space::accumulator) return end;  // not yet
  for (int s = next; s < end; ++s)
    if (PendingStep<P>{context, code[s]}.must_wait_for() == context.queue->group()) return s;
  return next;
}

/// True if steps [first, behind) of an epilogue have nothing to do with what is aside, but for what it adds to
/// accumulators, nor write what steps [next, end) of the backward phase write, which are still to come.
template <class P>
bool is_apart(const Context<P>& context, const StepCode<P>* code, int first, int behind, int next, int end) {
  for (int e = first; e < behind; ++e) {
    const PendingStep<P> step{context, code[e]};
    for (const Place& place : step.read())
      if (place.space != Space::registers && place.space != Space::accumulator &&
          context.queue->reserving_group(bytes_of(context, place), false) >= 0)
        return false;
    for (const Place& place : step.written()) {
      if (place.space == Space::registers) continue;
      const Bytes bytes = bytes_of(context, place);
      if (context.queue->reserving_group(bytes, true) >= 0) return false;
      for (int s = next; s < end; ++s)
        for (const Place& other : PendingStep<P>{context, code[s]}.written())
          if (other.space != Space::registers && put_off_detail::meet(bytes, bytes_of(context, other))) return false;
    }
  }
  return true;
}

}  // namespace step_detail

/// Puts the epilogue of a layer into the queue for parameters, or if it cannot be told apart from what is aside, into
/// the side queue. Steps [next, end) of the backward phase are still to come.
template <class Low, class P>
void start_epilogue(const Context<P>& context, int next, int end) {
  constexpr int first = Low::steps.phase_begin[static_cast<int>(Phase::epilogue)];
  constexpr int behind = Low::steps.phase_begin[static_cast<int>(Phase::epilogue) + 1];
  const StepCode<P>* code = step_detail::Steps<Low, P>::code;
  Queue& queue = *context.queue;
  queue.start_products();
  const bool is_apart = step_detail::is_apart(context, code, first, behind, next, end);
  Context<P> aside = context;
  if (is_apart) {
    aside.queue = &queue.begin_for_parameters();
    aside.queue->wait_for_accumulated(queue.side());
  } else {
    queue.start_deferred();
    aside.queue = &queue.begin_aside();
  }
  for (int s = first; s < behind; ++s) PendingStep<P>{aside, code[s]}.run();
  aside.queue->start_deferred();
  // Little comes behind the first layer: what gradients are known by now start ahead of the others.
  if (next < end) queue.start_deferred();
  if (is_apart) return;
  // Gradients that it adds to may be added to here, too.
  for (int s = first; s < behind; ++s)
    for (const Place& place : PendingStep<P>{context, code[s]}.written())
      if (place.space == Space::parameter_gradient) queue.reserve_aside(bytes_of(context, place), true);
}

/// Puts a phase of a layer into the queue.
template <class Low, Phase Which, class P>
void run_phase(const Context<P>& context) {
  constexpr int begin = Low::steps.phase_begin[static_cast<int>(Which)];
  constexpr int end = Low::steps.phase_begin[static_cast<int>(Which) + 1];
  if constexpr (Which == Phase::epilogue) return start_epilogue<Low>(context, begin, begin);
  const StepCode<P>* code = step_detail::Steps<Low, P>::code;
  // Gradients that were put off start when the last of them is known, ahead of what else goes aside.
  int last_aside = begin - 1;
  for (int s = begin; s < end; ++s)
    if (code[s].aside) last_aside = s;
  bool pending = Which == Phase::backward && context.with_epilogue;
  std::vector<bool> done(static_cast<std::size_t>(end));
  for (int s = begin; s < end; ++s) {
    if (done[static_cast<std::size_t>(s)]) continue;
    const PendingStep<P> step{context, code[s]};
    const bool now = pending && step_detail::epilogue_begin(context, code, s, end) == s;
    step.wait();
    if (now) start_epilogue<Low>(context, s, end);
    if (now) pending = false;
    if (step.follow()) continue;
    if (step.needs_products()) step_detail::bring_products_forward(context, code, s, end, done);
    step.run();
    if (s == last_aside) context.queue->start_deferred();
  }
  if (!context.leaves_norm || !is_norm_put_off(*context.queue)) context.queue->start_products();
  if (pending) start_epilogue<Low>(context, end, end);
}

}  // namespace mad::cuda
