// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "stepping.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/hyena_experts.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/models/topologies.hpp>

namespace mad {

using testing::check_steps;

TEST_CASE("the Hyenas by steps equal those of whole sequences") {
  check_steps<MultiHeadHyenaLayer<MultiHeadHyenaOptions{.head_width = 4}>, 8>();
  check_steps<HyenaExperts, 16>();
  check_steps<HyenaExpertsLayer<HyenaExpertsOptions{
                  .experts = 4, .order = 3, .outer_mixing = true, .routing = Routing::intended}>,
              8>();
  check_steps<
      HyenaLayer<HyenaOptions{.inner_factor = 2, .filter_kind = FilterKind::rational, .rational = {.state = 3}}>, 8>();
}

TEST_CASE("experts and branches by steps equal those of whole sequences") {
  check_steps<MoeMlp, 16>();
  check_steps<Parallel<Attn, Mamba>, 16>();
  check_steps<MixtureOfExperts<1, Routing::intended, Mamba, SlidingAttn>, 16>();
}

}  // namespace mad
