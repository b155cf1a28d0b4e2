// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// `mad cost`, `mad layers`, `mad tasks` against the reference's counts and the compile-time ones.
#include "cli/program.hpp"

#include <mad/layers/attention.hpp>
#include <mad/layers/hyena.hpp>
#include <mad/models/model.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <sstream>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("mad cost counts as the compile-time constants do") {
  using Model = LanguageModel<Stack<Hyena, SlidingAttn>, 64, Norm::rms_norm>;
  const ModelOptions options{.vocab_size = 20, .max_length = 200};
  const TemporaryFolder folder;
  const Said said =
      mad(folder.path(), {"cost", "--layers", "hyena", "mh-sliding-attention", "--dim", "64", "--seq-len", "100",
                          "--max-length", "200", "--vocab-size", "20", "--norm", "rmsnorm", "--json"});
  REQUIRE(said.status == 0);
  const auto json = nlohmann::json::parse(said.out);
  CHECK(json["id"] == "H-mAs");
  CHECK(json["total"]["parameters"] == Model::parameters(options));
  CHECK(json["total"]["flops_per_token"].get<double>() == Approx(Model::flops_per_token(options, 100)));
  CHECK(json["total"]["state"] == Model::state(100));
  CHECK(json["parts"].size() == 4);
  CHECK(json["parts"][1]["name"] == "hyena");
}

TEST_CASE("mad cost counts at widths that are not compiled in") {
  const TemporaryFolder folder;
  // By hand: embedding 10 x 32; two layer norms 2 x 32 each; MLP 2 x 4 x 32^2; head 10 x 32 + 10.
  const Said said = mad(folder.path(), {"cost", "--layers", "M", "--dim", "32", "--vocab-size", "10", "--json"});
  REQUIRE(said.status == 0);
  CHECK(nlohmann::json::parse(said.out)["total"]["parameters"] == 320 + 2 * 64 + 8192 + 330);
  const Said table = mad(folder.path(), {"cost", "--layers", "M", "--dim", "32", "--vocab-size", "10"});
  CHECK_THAT(table.out, ContainsSubstring("M: width 32, layernorm, vocabulary 10, sequences of 128"));
  CHECK_THAT(table.out, ContainsSubstring("8,970"));
}

TEST_CASE("mad layers lists every layer with the reference's parameter count") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), {"layers"});
  REQUIRE(said.status == 0);
  const std::vector<std::vector<std::string>> expected{{"attention", "A", "66,048"},
                                                       {"mh-attention", "mA", "66,048"},
                                                       {"sliding-attention", "As", "66,048"},
                                                       {"mh-sliding-attention", "mAs", "66,048"},
                                                       {"linear-attention", "Al", "131,584"},
                                                       {"mh-linear-attention", "mAl", "65,824"},
                                                       {"gated-linear-attention", "Alg", "86,272"},
                                                       {"mh-gated-linear-attention", "mAlg", "86,160"},
                                                       {"hyena", "H", "124,348"},
                                                       {"mh-hyena", "mH", "30,862"},
                                                       {"hyena-experts", "He", "57,464"},
                                                       {"mamba", "Mb", "107,264"},
                                                       {"rwkv5-time-mixer", "R5t", "82,944"},
                                                       {"rwkv5-channel-mixer", "R5c", "147,712"},
                                                       {"rwkv6-time-mixer", "R6t", "140,544"},
                                                       {"rwkv6-channel-mixer", "R6c", "147,712"},
                                                       {"mlp", "M", "131,072"},
                                                       {"swiglu", "Sg", "135,168"},
                                                       {"moe-mlp", "MoE", "165,000"}};
  std::map<std::string, std::vector<std::string>> listed;
  std::istringstream lines(said.out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream cells(line);
    std::vector<std::string> row(3);
    for (std::string& cell : row) cells >> cell;
    listed.try_emplace(row[0], row);
  }
  for (const auto& row : expected) CHECK(listed[row[0]] == row);
  CHECK_THAT(said.out, ContainsSubstring("striped-mh-hyena-moe"));
  CHECK_THAT(said.out, ContainsSubstring("Compiled for width 64 and 128"));
}

TEST_CASE("mad tasks lists every task with its baseline") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), {"tasks"});
  REQUIRE(said.status == 0);
  CHECK_THAT(said.out, ContainsSubstring("in-context-recall (CR)\n"));
  CHECK_THAT(said.out, ContainsSubstring("noisy-in-context-recall (NR)\n"));
  CHECK_THAT(said.out, ContainsSubstring("--vocab-size 32 --frac-noise 0.2 --noise-vocab-size 16\n"));
  CHECK_THAT(said.out, ContainsSubstring("fuzzy-in-context-recall (FR)\n"));
  CHECK_THAT(said.out, ContainsSubstring("--k-motif-size 3 --v-motif-size 3\n"));
  CHECK_THAT(said.out, ContainsSubstring("memorization (M)\n"));
  CHECK_THAT(said.out, ContainsSubstring("--vocab-size 256 --seq-len 32 --num-train-examples 256\n"));
  CHECK_THAT(said.out, ContainsSubstring("compression (C)\n"));
  CHECK_THAT(said.out, ContainsSubstring("selective-copying (SC)\n"));
  CHECK_THAT(said.out, ContainsSubstring("--seq-len 256 --num-tokens-to-copy 16\n"));
  CHECK_THAT(said.out, ContainsSubstring("copying\n"));
}

}  // namespace mad::testing
