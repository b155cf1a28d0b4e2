// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the code of a channel mixer's kernel depends on: sizes, which product reads what, the run in the middle, a norm
/// in front, and the gradient of one behind.
#pragma once

#include <mad/cuda/call/context.hpp>
#include <mad/graph/run_table.hpp>
#include <mad/ops/norm.hpp>

#include <algorithm>
#include <iterator>

namespace mad::cuda {

/// A mixer's products without the nodes of one graph. `Run` is the form of the run of elementwise nodes, whose loads
/// are the products that lead in.
template <class Run, int Members>
struct MixerForm {
  /// A matrix between outside and inside.
  struct Weight {
    int outside;
    bool inside_rows;  ///< stored (inside, outside)
  };
  struct WayIn {
    int input, weight;
  };
  struct WayOut {
    int member, weight;
  };
  /// The gradient of a norm of whole rows, of what the mixer computes, in another step. It adds an input of the
  /// mixer's: the gradient that passes by.
  struct GradientBehind {
    bool there = false;
    int addend = 0;  ///< which input
    int x_stride = 0;
    int dx_stride = 0;
    int alignment = 16;
  };
  Run run{};
  int inside = 0;
  int inputs = 0;
  int input_width[channel_mixer::most_inputs]{};
  int input_stride[channel_mixer::most_inputs]{};
  int weights = 0;
  Weight weight[channel_mixer::most_weights]{};
  int ways_in = 0;
  WayIn in[channel_mixer::most_products]{};
  int ways_out = 0;
  WayOut out[channel_mixer::most_products]{};
  int result_width = 0;
  int result_stride = 0;
  bool has_addend = false;
  bool adds_x = false;  ///< the addend is the input, of which the products read the norm
  int addend_stride = 0;
  int stored_members = 0;
  int stored[Members]{};  ///< the members of the run that others read
  int member_stride[Members]{};
  bool has_norm = false;  ///< in front, of the only input
  bool is_centred = false;
  bool has_bias = false;
  double epsilon = 0;
  bool stores_norm = false;  ///< others read what the norm computes
  int norm_stride = 0;
  GradientBehind gradient{};
  int alignment = 16;    ///< in bytes, of all that is read and written by rows
  bool is_short = true;  ///< all of that is in the activation's type

  constexpr std::uint64_t print() const {
    Fingerprint print;
    print.add(run.print());
    for (const int fact : {inside,
                           inputs,
                           weights,
                           ways_in,
                           ways_out,
                           result_width,
                           result_stride,
                           has_addend ? 1 : 0,
                           adds_x ? 1 : 0,
                           addend_stride,
                           stored_members,
                           has_norm ? 1 : 0,
                           is_centred ? 1 : 0,
                           has_bias ? 1 : 0,
                           stores_norm ? 1 : 0,
                           norm_stride,
                           gradient.there ? 1 : 0,
                           gradient.addend,
                           gradient.x_stride,
                           gradient.dx_stride,
                           gradient.alignment,
                           alignment,
                           is_short ? 1 : 0})
      print.add(fact);
    print.add(epsilon);
    for (const int width : input_width) print.add(width);
    for (const int stride : input_stride) print.add(stride);
    for (const int stride : member_stride) print.add(stride);
    for (const Weight& w : weight) print.add(2 * w.outside + (w.inside_rows ? 1 : 0));
    for (const WayIn& w : in) print.add(channel_mixer::most_weights * w.input + w.weight);
    for (const WayOut& w : out) print.add(channel_mixer::most_weights * w.member + w.weight);
    return print.value();
  }
  constexpr bool has_operation_of(const MixerForm& other) const { return run.has_operation_of(other.run); }
};

/// Where the values of a mixer lie: inputs, weights, weight and bias of a norm in front, and the addend unless it is
/// the input; then stored members, what the norm computes, and the result.
struct MixerPlaces {
  Place at[channel_mixer::most_inputs + channel_mixer::most_weights + longest_run + 5];
  int reads = 0;
  int writes = 0;
};

/// Columns of rows of whose norm the kernel can compute the gradient along (gradient_behind.cuh).
inline constexpr int width_of_gradient = 128;

/// The node that is the gradient of a norm, of the result, and adds an input: the kernel can compute it along. Or -1.
constexpr int find_gradient_behind(const MixerTable& table, const Node* nodes, int count) {
  if (table.addend >= 0) return -1;
  for (int i = 0; i < count; ++i) {
    const Node& n = nodes[i];
    if (n.op != &ops::norm_gradient_op || n.operand[0] != table.result() || n.operands != 4 ||
        n.width != width_of_gradient || n.attribute[ops::norm::group_width] != n.width)
      continue;
    for (int k = 0; k < table.input_count; ++k)
      if (table.inputs[k] == n.operand[3]) return i;
  }
  return -1;
}

/// Works out form and places of a mixer's step; `Run` is its elementwise part (`elementwise::Run`).
template <class Low, int StepIndex, class P, class Run>
struct MixerMaker {
  static constexpr RunTable run = make_run_table(Low::nodes.at, Low::plan, StepIndex);
  static constexpr MixerTable table = make_mixer_table(Low::nodes.at, Low::plan.schedule, StepIndex, run);
  using Form = MixerForm<std::remove_const_t<decltype(Run::form)>, run.count>;

  static constexpr bool stored(int m) { return Low::plan.location[run.members[m]].space != Space::registers; }

  static constexpr int stride_of(int id) { return Low::plan.location[id].stride; }

  static constexpr bool stores_norm = table.norm >= 0 && Low::plan.location[table.norm].space != Space::registers;
  static constexpr bool adds_x = table.norm >= 0 && table.addend == table.inputs[0];

  /// The node in another step that is the gradient of a norm behind, or -1.
  static constexpr int find_gradient() {
    const int found = find_gradient_behind(table, Low::nodes.at, static_cast<int>(std::size(Low::nodes.at)));
    if (found < 0) return found;
    const bool is_short = Layout<Low, P>::is_short(found) && Layout<Low, P>::is_short(Low::nodes.at[found].operand[1]);
    return is_short ? found : -1;
  }
  static constexpr int gradient = find_gradient();
  static constexpr typename Form::GradientBehind make_gradient() {
    typename Form::GradientBehind form;
    if constexpr (gradient >= 0) {
      const Node& n = Low::nodes.at[gradient];
      form.there = true;
      while (table.inputs[form.addend] != n.operand[3]) ++form.addend;
      form.x_stride = stride_of(n.operand[1]);
      form.dx_stride = stride_of(gradient);
      form.alignment = std::min(Layout<Low, P>::alignment(n.operand[1]), Layout<Low, P>::alignment(gradient));
    }
    return form;
  }

  static constexpr Form make_form() {
    Form form;
    form.run = Run::form;
    form.inside = table.inside;
    const auto by_rows = [&](int id) {
      form.alignment = std::min(form.alignment, Layout<Low, P>::alignment(id));
      form.is_short = form.is_short && Layout<Low, P>::is_short(id);
    };
    form.inputs = table.input_count;
    for (int i = 0; i < form.inputs; ++i) {
      form.input_width[i] = Low::nodes.at[table.inputs[i]].width;
      form.input_stride[i] = stride_of(table.inputs[i]);
      by_rows(table.inputs[i]);
    }
    form.weights = table.weight_count;
    const auto see = [&](int index, const Node& product, bool way_in) {
      form.weight[index] = {way_in ? Low::nodes.at[product.operand[0]].width : product.width, table.inside_rows[index]};
    };
    form.ways_in = table.in_count;
    for (int k = 0; k < form.ways_in; ++k) {
      form.in[k] = {table.in[k].from, table.in[k].weight};
      see(table.in[k].weight, Low::nodes.at[table.in[k].node], true);
    }
    form.ways_out = table.out_count;
    for (int k = 0; k < form.ways_out; ++k) {
      form.out[k] = {table.out[k].from, table.out[k].weight};
      see(table.out[k].weight, Low::nodes.at[table.out[k].node], false);
    }
    form.result_width = Low::nodes.at[table.result()].width;
    form.result_stride = stride_of(table.result());
    by_rows(table.result());
    form.has_addend = table.addend >= 0;
    form.adds_x = adds_x;
    if (form.has_addend) {
      form.addend_stride = stride_of(table.addend);
      by_rows(table.addend);
    }
    for (int m = 0; m < run.count; ++m) {
      if (!stored(m)) continue;
      form.member_stride[form.stored_members] = stride_of(run.members[m]);
      form.stored[form.stored_members++] = m;
      by_rows(run.members[m]);
    }
    if (table.norm >= 0) {
      const Node& n = Low::nodes.at[table.norm];
      form.has_norm = true;
      form.is_centred = n.attribute[1] != 0;
      form.has_bias = n.operands > 2;
      form.epsilon = n.number[0];
    }
    if (stores_norm) {
      form.stores_norm = true;
      form.norm_stride = stride_of(table.norm);
      by_rows(table.norm);
    }
    form.gradient = make_gradient();
    return form;
  }

  static constexpr MixerPlaces make_places() {
    MixerPlaces places;
    const auto read = [&](int id) { places.at[places.reads++] = Place::of<Low, P>(id); };
    for (int i = 0; i < table.input_count; ++i) read(table.inputs[i]);
    for (int w = 0; w < table.weight_count; ++w) read(table.weights[w]);
    if (table.norm >= 0)
      for (int k = 1; k < Low::nodes.at[table.norm].operands; ++k) read(Low::nodes.at[table.norm].operand[k]);
    if (table.addend >= 0 && !adds_x) read(table.addend);
    const auto write = [&](int id) { places.at[places.reads + places.writes++] = Place::of<Low, P>(id); };
    for (int m = 0; m < run.count; ++m)
      if (stored(m)) write(run.members[m]);
    if (stores_norm) write(table.norm);
    write(table.result());
    return places;
  }
};

}  // namespace mad::cuda
