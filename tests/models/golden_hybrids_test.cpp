// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Whole models of the reference with multi-head Hyena, mixtures of experts and RWKV.
#include "golden_model.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/mh_hyena.hpp>
#include <mad/layers/moe_mlp.hpp>
#include <mad/layers/rwkv6.hpp>

namespace mad::testing {

using Heads4 = Attention<AttentionOptions{.heads = 4}>;
using MoE = MoeMlpLayer<MoeMlpOptions{.inner = 4}>;

TEST_CASE("a hybrid of multi-head Hyena, attention and experts agrees with the reference") {
  using MultiHead = MultiHeadHyenaLayer<MultiHeadHyenaOptions{.head_width = 4}>;
  check_model<LanguageModel<Stack<MultiHead, MoE, Heads4, MoE>, 16>>("lm_mh-hyena-moe-attention-moe_d16_l24",
                                                                     {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("a language model of RWKV-6 agrees with the reference") {
  using Time = RWKV6TimeMixerLayer<RWKVTimeMixerOptions{.head_dim = 8}>;
  check_model<LanguageModel<Stack<Time, RWKV6ChannelMixer>, 16>>("lm_rwkv6_d16_l24",
                                                                 {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("twenty steps of SGD agree with the reference, and leave alone what has no gradient") {
  const train::OptimizerSettings sgd{.kind = train::OptimizerKind::sgd, .weight_decay = 0.01};
  check_trace<LanguageModel<Stack<Heads4, MoE>, 16>>("trace_sgd_attention-moe_d16",
                                                     {.vocab_size = 16, .max_length = 12}, sgd, 0.05);
}

}  // namespace mad::testing
