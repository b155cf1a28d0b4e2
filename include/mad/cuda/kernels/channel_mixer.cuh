// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The step of a channel mixer: starts its kernel (channel_mixer/kernel.cuh), at once or, where rows are many, when it
/// is known whether the gradient of the norm in front comes next, which that kernel then computes along.
#pragma once

#include <mad/cuda/kernels/channel_mixer/kernel.cuh>
#include <mad/cuda/kernels/put_off_products.cuh>

#include <algorithm>

namespace mad::cuda {

namespace channel_mixer_detail {
/// Rows from which on a mixer's kernel computes the gradient behind it: where blocks have few rows, the straight code
/// of that takes longer to be fetched than it saves.
inline constexpr Index least_rows_of_gradient = Index{1} << 16;

/// Threads of a block. The host does not know which code the device has: that for four warps together wants more of
/// them, and its blocks stay until there are no more rows.
template <class Memory>
int threads_of(void (*kernel)(Memory)) {
  return Queue::facts_of(reinterpret_cast<const void*>(kernel), "a channel mixer").maxThreadsPerBlock;
}
}  // namespace channel_mixer_detail

template <class Low, int StepIndex, class P, bool HasGradient>
auto Mixer<Low, StepIndex, P, HasGradient>::locate_all(const Context<P>& context, const Place* at) -> Memory {
  Memory memory{};
  const auto next = [&] { return locate(context, *at++); };
  const auto next_rows = [&] { return reinterpret_cast<BFloat16*>(next()); };
  for (int i = 0; i < form.inputs; ++i) memory.input[i] = next_rows();
  for (int w = 0; w < form.weights; ++w) memory.weight[w] = locate_factor(context, *at++);
  if (form.has_norm) memory.norm_weight = reinterpret_cast<const float*>(next());
  if (form.has_bias) memory.norm_bias = reinterpret_cast<const float*>(next());
  if (reads_addend) memory.late = next_rows();
  for (int m = 0; m < stored_members; ++m) memory.member[m] = next_rows();
  if (form.stores_norm) memory.normed = next_rows();
  memory.result = next_rows();
  memory.rows = static_cast<unsigned>(rows_of(Domain::tokens, context.shape));
  return memory;
}

template <class Low, int StepIndex, class P, bool HasGradient>
void Mixer<Low, StepIndex, P, HasGradient>::launch(Queue& queue, const Memory& located) {
  Memory memory = located;
  const auto kernel = mixer_kernel<Low, StepIndex, P, HasGradient>;
  const int threads = channel_mixer_detail::threads_of(kernel);
  unsigned blocks = channel_mixer_detail::blocks_of(memory.rows);
  int bytes = channel_mixer_detail::WarpProducts<Mixer>::shared_bytes;
  if (threads > channel_mixer_detail::threads) {
    channel_mixer_detail::describe_boxes<Mixer>(memory);
    blocks = std::min(blocks, static_cast<unsigned>(queue.multiprocessors()));
    bytes = channel_mixer_detail::PanelMemory<Mixer>::bytes;
  }
  queue.launch("a channel mixer", kernel, dim3(blocks), dim3(static_cast<unsigned>(threads)), bytes, memory);
}

template <class Low, int StepIndex, class P, bool HasGradient>
void Mixer<Low, StepIndex, P, HasGradient>::run(const Context<P>& context, const Place* at) {
  if constexpr (form.gradient.there)
    if (put_off_for_gradient(context, at)) return;
  if (!context.queue->rehearsing()) launch(*context.queue, locate_all(context, at));
}

/// Notes the step for the gradient of the norm in front of it, if its kernel is to compute that.
template <class Low, int StepIndex, class P, bool HasGradient>
bool Mixer<Low, StepIndex, P, HasGradient>::put_off_for_gradient(const Context<P>& context, const Place* at) {
  const Index rows = rows_of(Domain::tokens, context.shape);
  if (rows < channel_mixer_detail::least_rows_of_gradient ||
      channel_mixer_detail::threads_of(mixer_kernel<Low, StepIndex, P, true>) <= channel_mixer_detail::threads)
    return false;
  const unsigned blocks = std::min(channel_mixer_detail::blocks_of(static_cast<unsigned>(rows)),
                                   static_cast<unsigned>(context.queue->multiprocessors()));
  return put_off(*context.queue, rows,
                 PutOffStep{.context = &context,
                            .places = at,
                            .reads = reads,
                            .writes = writes,
                            .blocks = static_cast<int>(blocks),
                            .takes = &takes,
                            .start = &start});
}

/// A row is read before its dx is written, which may lie in its place; but not where other rows are, or members.
template <class Low, int StepIndex, class P, bool HasGradient>
bool Mixer<Low, StepIndex, P, HasGradient>::takes(const PutOffStep& step, const BFloat16* dy, std::size_t dy_stride,
                                                  const NormGradient& n) {
  const auto& context = *static_cast<const Context<P>*>(step.context);
  const Memory memory = locate_all(context, step.places);
  constexpr auto& gradient = form.gradient;
  if (dy != memory.result || dy_stride != form.result_stride || n.x_stride != gradient.x_stride ||
      n.dx_stride != gradient.dx_stride || n.addend != memory.input[gradient.addend] ||
      n.addend_stride != form.input_stride[gradient.addend])
    return false;
  const put_off_detail::Columns dx{n.dx, n.dx_stride, result_width};
  const auto meets = [&](const BFloat16* rows, int stride, int width) {
    return put_off_detail::meet({rows, static_cast<std::size_t>(stride), width}, dx, memory.rows);
  };
  const auto is_in_the_way = [&](const BFloat16* rows, int stride, int width) {
    return (rows != n.dx || stride != gradient.dx_stride || width != result_width) && meets(rows, stride, width);
  };
  for (int m = 0; m < stored_members; ++m)
    if (meets(memory.member[m], form.member_stride[m], inside)) return false;
  for (int i = 0; i < form.inputs; ++i)
    if (is_in_the_way(memory.input[i], form.input_stride[i], form.input_width[i])) return false;
  return !is_in_the_way(n.x, gradient.x_stride, result_width);
}

template <class Low, int StepIndex, class P, bool HasGradient>
void Mixer<Low, StepIndex, P, HasGradient>::start(const PutOffStep& step, const NormGradient* norm, float* partial) {
  const auto& context = *static_cast<const Context<P>*>(step.context);
  if (context.queue->rehearsing()) return;
  if (norm == nullptr) return launch(*context.queue, locate_all(context, step.places));
  using WithGradient = Mixer<Low, StepIndex, P, true>;
  auto memory = WithGradient::locate_all(context, step.places);
  memory.late = norm->x;
  memory.result = norm->dx;
  memory.norm_weight = norm->weight;
  memory.norm_epsilon = norm->epsilon;
  memory.norm_is_centred = norm->centred;
  memory.partial = partial;
  WithGradient::launch(*context.queue, memory);
}

}  // namespace mad::cuda
