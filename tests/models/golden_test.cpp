// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Whole models against the reference: logits, loss, every gradient, and twenty steps of training.
#include "golden_model.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/swiglu.hpp>

namespace mad::testing {

using Heads4 = Attention<AttentionOptions{.heads = 4}>;
using SmallHyena = HyenaLayer<HyenaOptions{.inner_factor = 2}>;

TEST_CASE("language models agree with the reference") {
  check_model<LanguageModel<Stack<Heads4, SwiGLU, SmallHyena, SwiGLU>, 16>>("lm_attention-swiglu-hyena-swiglu_d16_l24",
                                                                            {.vocab_size = 16, .max_length = 24});
  check_model<LanguageModel<Stack<Heads4, SwiGLU, SmallHyena, SwiGLU>, 16, Norm::rms_norm>>(
      "lm_attention-swiglu-hyena-swiglu_rms_maxlen32_d16_l7", {.vocab_size = 16, .max_length = 32});
  check_model<LanguageModel<Repeat<2, Mamba>, 32, Norm::rms_norm>>("lm_mamba-mamba_d32_l24",
                                                                   {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("position embeddings agree with the reference") {
  using M = LanguageModel<Stack<Heads4, SwiGLU>, 16>;
  check_model<M>("lm_learnedpos_d16_l7", {.vocab_size = 16, .max_length = 24, .positions = Positions::learned});
  check_model<M>("lm_sincospos_d16_l7", {.vocab_size = 16, .max_length = 24, .positions = Positions::sinusoidal});
}

TEST_CASE("auto-encoders agree with the reference") {
  using A = Stack<Heads4, SwiGLU>;
  using H = Stack<SmallHyena, SwiGLU>;
  check_model<AutoEncoder<A, 16, Norm::layer_norm>>("ae_attention-swiglu_avg_d16_l7",
                                                    {.vocab_size = 16, .max_length = 7, .pooling = Pooling::average});
  check_model<AutoEncoder<A, 16, Norm::layer_norm>>("ae_attention-swiglu_cls_d16_l24",
                                                    {.vocab_size = 16, .max_length = 24, .pooling = Pooling::cls});
  check_model<AutoEncoder<A, 32, Norm::rms_norm>>("ae_attention-swiglu_last_d32_l24",
                                                  {.vocab_size = 16, .max_length = 24});
  check_model<AutoEncoder<H, 16, Norm::rms_norm>>("ae_hyena-swiglu_cls_d16_l7",
                                                  {.vocab_size = 16, .max_length = 7, .pooling = Pooling::cls});
  check_model<AutoEncoder<H, 16, Norm::layer_norm>>("ae_hyena-swiglu_last_d16_l24",
                                                    {.vocab_size = 16, .max_length = 24});
}

TEST_CASE("twenty steps of training agree with the reference") {
  const train::OptimizerSettings adamw{.weight_decay = 0.1};
  check_trace<LanguageModel<Stack<Heads4, SwiGLU>, 32>>("trace_attention-swiglu_d32",
                                                        {.vocab_size = 16, .max_length = 12}, adamw, 5e-4);
  check_trace<LanguageModel<Stack<Hyena, Mamba>, 32>>("trace_hyena-mamba_d32", {.vocab_size = 16, .max_length = 12},
                                                      adamw, 5e-4);
}

}  // namespace mad::testing
