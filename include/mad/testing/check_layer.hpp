// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The proof of a layer, in one line: gradients, causality, memory, and the planner's passes.
#pragma once

#include <mad/testing/laws.hpp>

namespace mad::testing {

/// Which plans of a layer are compared with the usual one. Each plan is generated and compiled by itself; kernels of
/// equal sizes are shared.
enum class PlannerProof {
  none,       ///< none: one plan is compiled
  whole,      ///< the one with all passes off: two plans
  each_pass,  ///< that one, and those with one pass off: seven plans. For new operations, and for this library's layers
};

namespace check_layer_detail {

template <class L, int Width, unsigned Passes>
void agrees_without(Laws& laws, const CheckOptions& options, const char* pass) {
  for (const Shape& shape : options.shapes)
    laws.agrees(shape, cpu::block<Lowered<L, Width, Passes>, double>,
                std::string("with the planner's ") + pass + " off");
}

}  // namespace check_layer_detail

/// Runs layer L at `Width` channels in double precision on random numbers and reports every law it breaks:
///
/// * gradients of the input and of every parameter equal central differences, at parameters off their initial values;
/// * changing token t changes no output before t and none of another sequence, bit for bit;
/// * gradients of parameters are added to what is there;
/// * memory that a layer writes before it reads is poisoned with nan, and no nan comes out; what it reads it leaves;
/// * two runs give the same bits;
/// * the plan without the planner's passes gives the same numbers, to 1e-12.
///
/// Output and gradients are those of one layer as `forward` describes it, without norm and residual.
template <Layer L, int Width = 16, PlannerProof Plans = PlannerProof::whole>
Report check_layer(const CheckOptions& options = {}) {
  using check_layer_detail::agrees_without;
  Report report;
  report.subject = std::string(L::name) + ", width " + std::to_string(Width);
  Laws laws(cpu::block<Lowered<L, Width>, double>, options, report);
  for (const Shape& shape : options.shapes) laws.prove(shape);
  if constexpr (Plans != PlannerProof::none) agrees_without<L, Width, 0u>(laws, options, "passes all");
  if constexpr (Plans == PlannerProof::each_pass) {
    agrees_without<L, Width, all_passes & ~recompute>(laws, options, "recomputation");
    agrees_without<L, Width, all_passes & ~fusion>(laws, options, "fusion");
    agrees_without<L, Width, all_passes & ~reuse>(laws, options, "reuse of buffers");
    agrees_without<L, Width, all_passes & ~in_place>(laws, options, "results in place");
    agrees_without<L, Width, all_passes & ~concat_views>(laws, options, "views into concats");
  }
  return report;
}

}  // namespace mad::testing
