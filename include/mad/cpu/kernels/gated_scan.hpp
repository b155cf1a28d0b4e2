// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The selective scan of Mamba with an output that is multiplied by silu of a gate, and gradients of what the time
/// steps are softplus of.
#pragma once

#include <mad/cpu/kernels/selective_scan.hpp>
#include <mad/cpu/kernels/silu.hpp>
#include <mad/cpu/kernels/time_step.hpp>
#include <mad/cpu/packets/pack.hpp>

namespace mad::cpu {

/// What a gated scan reads. Rows are tokens.
template <class T>
struct GatedScanOperands {
  ScanOperands<T> scan;
  View<const T> gate;  ///< (tokens, channels)
};

template <class T>
struct GatedScanGradients {
  ScanGradients<T> scan;  ///< `dt` is that of what the time steps are softplus of
  View<T> gate;           ///< overwritten
};

namespace detail {

/// The operands of sequence \p b alone.
template <class T>
ScanOperands<T> sequence_of(const ScanOperands<T>& in, const Shape& shape, const ScanSizes& sizes, Index b) {
  const Index row = b * shape.length;
  ScanOperands<T> one = in;
  one.u = in.u.rows_from(row);
  one.dt = in.dt.rows_from(row);
  one.b = in.b.rows_from(row);
  one.c = in.c.rows_from(row);
  if (in.initial_state) one.initial_state = in.initial_state + b * sizes.channels * sizes.states;
  return one;
}

/// The share of sequence \p b.
template <class T>
KeptStates<T> sequence_of(KeptStates<T> kept, const Shape& shape, Index b) {
  const Index share = kept.size / shape.batch;
  return {kept.data + b * share, share};
}

}  // namespace detail

/// `out = y silu(gate)` with y of `selective_scan_forward`.
template <int States = 0, class T>
void gated_scan_forward(const Shape& shape, const ScanSizes& sizes, const GatedScanOperands<T>& in, View<T> out,
                        Workspace& workspace, T* final_state = nullptr, KeptStates<T> keep = {}) {
  for (Index b = 0; b < shape.batch; ++b) {
    const View<T> y = out.rows_from(b * shape.length);
    const View<const T> gate = in.gate.rows_from(b * shape.length);
    const ScanOperands<T> one = detail::sequence_of(in.scan, shape, sizes, b);
    T* const last = final_state ? final_state + b * sizes.channels * sizes.states : nullptr;
    selective_scan_forward<States, T>({1, shape.length, shape.max_length}, sizes, one, y, workspace, last,
                                      detail::sequence_of(keep, shape, b));
    for (Index r = 0; r < shape.length; ++r)
      for_packs<T>(sizes.channels, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
        const Silu<X> gate_of(load_pack<X>(gate.row(r) + c));
        store_pack(y.row(r) + c, load_pack<X>(y.row(r) + c) * gate_of.value());
      });
  }
}

/// The same for one token of each of \p batch sequences; \p state (batch, channels, states) goes from before the token
/// to after it.
template <int States = 0, class T>
void gated_scan_step(Index batch, const ScanSizes& sizes, GatedScanOperands<T> in, View<T> out, T* state,
                     Workspace& workspace) {
  in.scan.initial_state = state;
  gated_scan_forward<States, T>({batch, 1, 1}, sizes, in, out, workspace, state);
}

/// Gradients of `gated_scan_forward`; y is computed again, and states but those before chunks that were kept. With
/// dt = softplus(step): d_step = d_dt softplus'(step) = d_dt (1 - exp(-dt)).
template <int States = 0, class T>
void gated_scan_backward(const Shape& shape, const ScanSizes& sizes, const GatedScanOperands<T>& in,
                         View<const T> d_out, const GatedScanGradients<T>& gradients, Workspace& workspace,
                         KeptStates<const T> kept = {}) {
  Workspace::Frame frame(workspace);
  const Index size = shape.length * sizes.channels;
  const View<T> d_y{frame.template take<T>(size), sizes.channels};
  const View<T> y{frame.template take<T>(size), sizes.channels};
  for (Index b = 0; b < shape.batch; ++b) {
    const Index first = b * shape.length;
    const View<const T> gate = in.gate.rows_from(first), d = d_out.rows_from(first);
    const View<T> d_gate = gradients.gate.rows_from(first);
    const ScanOperands<T> one = detail::sequence_of(in.scan, shape, sizes, b);
    // dy = d_out silu(z), and d_out silu'(z)
    for (Index r = 0; r < shape.length; ++r)
      for_packs<T>(sizes.channels, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
        const Silu<X> gate_of(load_pack<X>(gate.row(r) + c));
        const X d_o = load_pack<X>(d.row(r) + c);
        store_pack(d_y.row(r) + c, d_o * gate_of.value());
        store_pack(d_gate.row(r) + c, d_o * gate_of.slope());
      });
    ScanGradients<T> out = gradients.scan;
    out.u = out.u.rows_from(first);
    out.dt = out.dt.rows_from(first);
    out.b = out.b.rows_from(first);
    out.c = out.c.rows_from(first);
    if (out.initial_state) out.initial_state += b * sizes.channels * sizes.states;
    out.y = y;
    selective_scan_backward<States, T>({1, shape.length, shape.max_length}, sizes, one, d_y, out, workspace, nullptr,
                                       detail::sequence_of(kept, shape, b));
    for (Index r = 0; r < shape.length; ++r)
      for_packs<T>(sizes.channels, [&]<class X>(X, Index c) MAD_ALWAYS_INLINE {
        T* const d_z = d_gate.row(r) + c;
        T* const d_step = out.dt.row(r) + c;
        store_pack(d_z, load_pack<X>(d_z) * load_pack<X>(y.row(r) + c));
        store_pack(d_step, load_pack<X>(d_step) * softplus_slope(load_pack<X>(one.dt.row(r) + c)));
      });
  }
}

}  // namespace mad::cpu
