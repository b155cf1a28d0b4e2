// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Language models token by token against the parallel form, and against the reference.
#include <mad/cpu/generation.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/layers/mamba.hpp>
#include <mad/layers/mlp.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/train/safetensors.hpp>

#include <array>
#include <catch.hpp>
#include <cmath>
#include <numeric>
#include <string>

namespace mad {

namespace {

using Catch::Matchers::ContainsSubstring;

using Grouped = Attention<AttentionOptions{.heads = 4, .kv_heads = 2, .window = 5}>;
using Attentions = LanguageModel<Stack<Attn, SwiGLU, SlidingAttn, Grouped>, 16>;
using Convolutions = LanguageModel<Stack<Hyena, Mamba, Mlp>, 8, Norm::rms_norm>;

constexpr Index vocabulary = 11;

/// Random token ids, (sequences, length).
std::vector<int> draw_tokens(Index count, std::uint64_t seed) {
  random::Generator generator(seed);
  std::vector<int> ids(static_cast<std::size_t>(count));
  for (int& id : ids) id = static_cast<int>(generator.below(vocabulary));
  return ids;
}

/// Parameters off their initial values, so that no bias is zero and no two layers agree.
void disturb(cpu::Model<double>& model) {
  random::Generator generator(5);
  NormalSource normal(generator);
  for (Index i = 0; i < model.layout().size; ++i) model.parameters()[i] += 0.2 * normal();
}

std::vector<double> parallel_logits(cpu::Model<double>& model, const std::vector<int>& ids, Index length) {
  std::vector<Index> rows(ids.size() / static_cast<std::size_t>(length));
  std::iota(rows.begin(), rows.end(), Index{0});
  return model.logits({ids.data(), ids.data(), length, length, rows});
}

/// Column t of ids, one token of each sequence.
std::vector<int> column(const std::vector<int>& ids, Index length, Index t) {
  std::vector<int> tokens;
  for (std::size_t i = static_cast<std::size_t>(t); i < ids.size(); i += static_cast<std::size_t>(length))
    tokens.push_back(ids[i]);
  return tokens;
}

/// Logits of every step against those of whole sequences; twice, with a reset between.
template <class M>
void check_steps(const ModelOptions& options, Index sequences, Index length, Index longest) {
  INFO("positions " << static_cast<int>(options.positions) << ", " << sequences << " sequences of " << length);
  cpu::Threads threads(1);
  cpu::Model<double> model(cpu::architecture<M, double>(), options, 3, threads);
  disturb(model);
  const std::vector<int> ids = draw_tokens(sequences * length, 9);
  const std::vector<double> expected = parallel_logits(model, ids, length);
  double largest = 0;
  for (const double v : expected) largest = std::max(largest, std::abs(v));

  cpu::Inference<M, double> inference(model, sequences, longest);
  CHECK(inference.state_bytes() == M::state(longest) * sequences * static_cast<Index>(sizeof(double)));
  for (int round = 0; round < 2; ++round) {
    inference.reset();
    double error = 0;
    for (Index t = 0; t < length; ++t) {
      CHECK(inference.position() == t);
      const auto logits = inference.step(column(ids, length, t));
      for (Index b = 0; b < sequences; ++b)
        for (Index v = 0; v < vocabulary; ++v) {
          const double found = logits.row(b)[v];
          const double off = found - expected[static_cast<std::size_t>((b * length + t) * vocabulary + v)];
          error = std::isfinite(found) ? std::max(error, std::abs(off)) : INFINITY;
        }
    }
    CHECK(error < 1e-9 * largest);
  }
}

}  // namespace

TEST_CASE("logits of steps are those of whole sequences") {
  check_steps<Attentions>({.vocab_size = vocabulary, .max_length = 80}, 3, 80, 80);
  check_steps<Attentions>({.vocab_size = vocabulary, .max_length = 9}, 1, 7, 40);  // longer than max_length
  check_steps<Convolutions>({.vocab_size = vocabulary, .max_length = 70}, 2, 66, 67);
}

TEST_CASE("position embeddings are added at the position of the step") {
  for (const Positions positions : {Positions::learned, Positions::sinusoidal})
    check_steps<Convolutions>({.vocab_size = vocabulary, .max_length = 12, .positions = positions}, 2, 12, 12);
}

TEST_CASE("steps agree with the reference's language model") {
  using M = LanguageModel<
      Stack<Attention<AttentionOptions{.heads = 4}>, SwiGLU, HyenaLayer<HyenaOptions{.inner_factor = 2}>, SwiGLU>, 16>;
  const auto file = train::Safetensors::read(std::string(MAD_GOLDEN_DIR) +
                                             "/layers/lm_attention-swiglu-hyena-swiglu_d16_l24.safetensors");
  const ModelOptions options{.vocab_size = 16, .max_length = 24};
  const auto layout = cpu::Inference<M, double>::layout(options);
  std::vector<double> parameters(static_cast<std::size_t>(layout.size));
  for (const ParameterInfo& p : layout.infos) file.copy_to("param." + p.name, p.shape, parameters.data() + p.offset);
  const auto inputs = file.view<std::int64_t>("inputs");
  const std::vector<int> ids(inputs.begin(), inputs.end());
  const Index sequences = file.shape("inputs")[0];
  const Index length = file.shape("inputs")[1];
  const auto expected = file.values<double>("logits");
  cpu::Inference<M, double> inference(options, parameters, sequences, length);
  double error = 0;
  for (Index t = 0; t < length; ++t) {
    const auto logits = inference.step(column(ids, length, t));
    for (Index b = 0; b < sequences; ++b)
      for (Index v = 0; v < 16; ++v)
        error =
            std::max(error, std::abs(logits.row(b)[v] - expected[static_cast<std::size_t>((b * length + t) * 16 + v)]));
  }
  CHECK(error < 1e-9);
}

TEST_CASE("greedy generation takes the largest of the parallel logits") {
  cpu::Threads threads(1);
  cpu::Model<double> model(cpu::architecture<Convolutions, double>(), {.vocab_size = vocabulary, .max_length = 30}, 3,
                           threads);
  disturb(model);
  constexpr Index given = 4, count = 12, sequences = 3;
  const std::vector<int> prompt = draw_tokens(sequences * given, 2);
  cpu::Inference<Convolutions, double> inference(model, sequences, given + count - 1);
  const std::vector<int> found = inference.generate(prompt, count);
  REQUIRE(found.size() == sequences * count);
  for (Index b = 0; b < sequences; ++b) {
    std::vector<int> text(prompt.begin() + b * given, prompt.begin() + (b + 1) * given);
    for (Index i = 0; i < count; ++i) {
      const auto length = static_cast<Index>(text.size());
      const std::vector<double> logits = parallel_logits(model, text, length);
      const auto last = logits.end() - vocabulary;
      text.push_back(static_cast<int>(std::max_element(last, logits.end()) - last));
      CHECK(found[static_cast<std::size_t>(b * count + i)] == text.back());
    }
  }
}

TEST_CASE("generation follows from the seed, sequence by sequence") {
  cpu::Threads threads(1);
  cpu::Model<double> model(cpu::architecture<Attentions, double>(), {.vocab_size = vocabulary}, 3, threads);
  const std::vector<int> prompt = draw_tokens(2 * 5, 2);
  cpu::Inference<Attentions, double> two(model, 2, 40);
  const Sampling sampling{.temperature = 2, .seed = 17};
  const std::vector<int> first = two.generate(prompt, 30, sampling);
  CHECK(two.generate(prompt, 30, sampling) == first);
  CHECK(two.generate(prompt, 30, {.temperature = 2, .seed = 18}) != first);
  CHECK(two.generate(prompt, 30, {.temperature = 2, .top_k = 1, .seed = 17}) == two.generate(prompt, 30));
  // The first sequence alone, in a memory of its own.
  cpu::Inference<Attentions, double> one(model, 1, 34);
  CHECK(one.generate({prompt.data(), 5}, 30, sampling) == std::vector<int>(first.begin(), first.begin() + 30));
  // Equal prompts draw different numbers.
  std::vector<int> same(prompt.begin(), prompt.begin() + 5);
  same.insert(same.end(), prompt.begin(), prompt.begin() + 5);
  const std::vector<int> both = two.generate(same, 30, sampling);
  CHECK(std::vector<int>(both.begin(), both.begin() + 30) != std::vector<int>(both.begin() + 30, both.end()));
}

TEST_CASE("generation says what is wrong, and nothing has changed then") {
  cpu::Threads threads(1);
  const ModelOptions options{.vocab_size = vocabulary, .max_length = 8};
  cpu::Model<double> model(cpu::architecture<Convolutions, double>(), options, 3, threads);
  const auto make = [&](Index sequences, Index length) {
    cpu::Inference<Convolutions, double> inference(model, sequences, length);
  };
  CHECK_THROWS_WITH(make(1, 9), ContainsSubstring("layer 0 (hyena) has filters") && ContainsSubstring("max_length 8"));
  CHECK_THROWS_WITH(make(0, 8), ContainsSubstring("0 sequences"));
  CHECK_THROWS_WITH((cpu::Inference<Attentions, double>(model, 1, 8)), ContainsSubstring("H-Mb-M of width 8"));
  const std::vector<double> few(5);
  CHECK_THROWS_WITH((cpu::Inference<Convolutions, double>(options, few, 1, 8)),
                    ContainsSubstring("found 5 parameters"));
  cpu::Model<double> positioned(cpu::architecture<Attentions, double>(),
                                {.vocab_size = vocabulary, .max_length = 8, .positions = Positions::sinusoidal}, 3,
                                threads);
  CHECK_THROWS_WITH((cpu::Inference<Attentions, double>(positioned, 1, 9)), ContainsSubstring("position embeddings"));

  cpu::Inference<Convolutions, double> inference(model, 2, 3);
  const auto first = inference.step(std::array{1, 2});
  const std::vector<double> logits(first.data, first.data + 2 * vocabulary);
  CHECK_THROWS_WITH(inference.step(std::array{1}), ContainsSubstring("found 1 tokens, expected 2"));
  CHECK_THROWS_WITH(inference.step(std::array{1, 11}),
                    ContainsSubstring("position 1 of sequence 1 is 11") && ContainsSubstring("from 0 to 10"));
  CHECK_THROWS_AS(inference.step(std::array{-1, 0}), UsageError);
  CHECK_THROWS_WITH(inference.generate(std::array{1, 2, 3}, 1), ContainsSubstring("3 tokens"));
  CHECK_THROWS_WITH(inference.generate(std::array{1, 2, 3, 4}, 3), ContainsSubstring("need a length of 4"));
  CHECK_THROWS_WITH(inference.generate(std::array{1, 2}, 0), ContainsSubstring("0 tokens"));
  CHECK_THROWS_WITH(inference.generate(std::array{1, 2, 3, 44}, 1), ContainsSubstring("position 1 of sequence 1"));
  CHECK(inference.position() == 1);
  inference.step(std::array{3, 4});
  inference.step(std::array{3, 4});
  CHECK_THROWS_WITH(inference.step(std::array{3, 4}), ContainsSubstring("position 3 is beyond the length of 3"));
  inference.reset();
  const auto again = inference.step(std::array{1, 2});
  CHECK(std::vector<double>(again.data, again.data + 2 * vocabulary) == logits);
}

}  // namespace mad
