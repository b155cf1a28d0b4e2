// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The paper's architectures by name: four layers each, as they are scored on the synthetic tasks (MAD, arXiv
/// 2403.17844, sections 3 and 4). Striped hybrids exchange one of two mixers for attention.
#pragma once

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/models/topologies.hpp>

#include <array>
#include <string_view>

namespace mad {

using TransformerPlusPlus = Repeat<2, Attn, SwiGLU>;
using TransformerMoE = Repeat<2, Attn, MoeMlp>;
using HyenaSwiGLU = Repeat<2, Hyena, SwiGLU>;
using MultiHeadHyenaSwiGLU = Repeat<2, MultiHeadHyena, SwiGLU>;
using MambaStack = Repeat<4, Mamba>;
using StripedHyena = Striped<Stack<Hyena, SwiGLU>, Stack<Attn, SwiGLU>, 2>;
using StripedHyenaMoE = Striped<Stack<Hyena, MoeMlp>, Stack<Attn, MoeMlp>, 2>;
using StripedMultiHeadHyena = Striped<Stack<MultiHeadHyena, SwiGLU>, Stack<Attn, SwiGLU>, 2>;
using StripedMultiHeadHyenaMoE = Striped<Stack<MultiHeadHyena, MoeMlp>, Stack<Attn, MoeMlp>, 2>;
using StripedHyenaExperts = Striped<Stack<HyenaExperts, SwiGLU>, Stack<Attn, SwiGLU>, 2>;
using StripedHyenaExpertsMoE = Striped<Stack<HyenaExperts, MoeMlp>, Stack<Attn, MoeMlp>, 2>;
/// A Mamba layer mixes channels too, so that two take the place of a mixer and its SwiGLU.
using StripedMamba = Striped<Stack<Mamba, Mamba>, Stack<Attn, SwiGLU>, 2>;

/// An architecture that can be asked for by name.
struct NamedArchitecture {
  std::string_view name;
  std::array<std::string_view, 4> layers;  ///< names of the layers in order
};

namespace hybrids_detail {

template <class A, class B, class C, class D>
constexpr std::array<std::string_view, 4> names(LayerList<A, B, C, D>) {
  return {A::name, B::name, C::name, D::name};
}
template <class Net>
constexpr NamedArchitecture named(std::string_view name) {
  return {name, names(LayersOf<Net>{})};
}

}  // namespace hybrids_detail

inline constexpr std::array named_architectures{
    hybrids_detail::named<TransformerPlusPlus>("transformer++"),
    hybrids_detail::named<TransformerMoE>("transformer-moe"),
    hybrids_detail::named<HyenaSwiGLU>("hyena-swiglu"),
    hybrids_detail::named<MultiHeadHyenaSwiGLU>("mh-hyena-swiglu"),
    hybrids_detail::named<MambaStack>("mamba-stack"),
    hybrids_detail::named<StripedHyena>("striped-hyena"),
    hybrids_detail::named<StripedHyenaMoE>("striped-hyena-moe"),
    hybrids_detail::named<StripedMultiHeadHyena>("striped-mh-hyena"),
    hybrids_detail::named<StripedMultiHeadHyenaMoE>("striped-mh-hyena-moe"),
    hybrids_detail::named<StripedHyenaExperts>("striped-hyena-experts"),
    hybrids_detail::named<StripedHyenaExpertsMoE>("striped-hyena-experts-moe"),
    hybrids_detail::named<StripedMamba>("striped-mamba"),
};

}  // namespace mad
