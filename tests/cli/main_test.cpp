// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Help, version, and everything that is refused before any work starts: cli/main.hpp and cli/command_line.hpp.
#include "cli/program.hpp"

#include <mad/core/version.hpp>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("help names the commands, and each command's help its options with their defaults") {
  const TemporaryFolder folder;
  const Said all = mad(folder.path(), {"--help"});
  CHECK(all.status == 0);
  CHECK(all.err.empty());
  for (const std::string command : {"train", "benchmark", "data", "cost", "layers", "tasks"}) {
    CHECK_THAT(all.out, ContainsSubstring("\n  " + command + " "));
    const Said one = mad(folder.path(), {command, "--help"});
    CHECK(one.status == 0);
    CHECK_THAT(one.out, ContainsSubstring("Example:\n  mad " + command));
  }
  const Said train = mad(folder.path(), {"train", "-h"});
  for (const char* text : {"Task:",
                           "Model:",
                           "Training:",
                           "Files:",
                           "Running:",
                           "--task",
                           "[in-context-recall]",
                           "--layers",
                           "[mh-attention swiglu mh-attention swiglu]",
                           "--vocab-size",
                           "[16]",
                           "--seq-len",
                           "[128]",
                           "--num-train-examples",
                           "[12800]",
                           "--num-test-examples",
                           "[1280]",
                           "--frac-noise",
                           "--noise-vocab-size",
                           "--num-tokens-to-copy",
                           "--k-motif-size",
                           "--v-motif-size",
                           "--multi-query",
                           "--no-multi-query",
                           "--epochs",
                           "[200]",
                           "--batch-size",
                           "--lr",
                           "[5e-04]",
                           "--weight-decay",
                           "--optimizer",
                           "[adamw]",
                           "--scheduler",
                           "[cosine]",
                           "--min-lr",
                           "--early-stop",
                           "--stop-patience",
                           "[20]",
                           "--seed",
                           "[12345]",
                           "--data-path",
                           "--log-base-path",
                           "--log-path",
                           "--dim",
                           "--max-length",
                           "1280",
                           "--norm",
                           "[layernorm]",
                           "--backbone",
                           "--position-embeds",
                           "--pooling",
                           "--fidelity",
                           "[published]",
                           "--threads",
                           "--no-cache",
                           "--quiet"})
    CHECK_THAT(train.out, ContainsSubstring(text));
}

TEST_CASE("the version is the library's") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), {"--version"});
  CHECK(said.status == 0);
  CHECK_THAT(said.out, ContainsSubstring("mad " + std::string(version)));
}

TEST_CASE("without a command the help goes to standard error") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), {});
  CHECK(said.status == 2);
  CHECK(said.out.empty());
  CHECK_THAT(said.err, ContainsSubstring("train one model"));
}

TEST_CASE("what cannot be done is refused in words, with status 2, before anything is written") {
  struct Refused {
    Arguments arguments;
    const char* words;
  };
  const std::vector<Refused> refused{
      {{"tarin"}, "unknown command 'tarin'. Did you mean 'train'?"},
      {{"--foo"}, "unknown option '--foo'"},
      {{"train", "--epoch", "3"}, "unknown option '--epoch'. Did you mean '--epochs'?"},
      {{"train", "--sequence-len=3"}, "unknown option '--sequence-len'. Did you mean '--seq-len'?"},
      {{"train", "extra"}, "unexpected argument 'extra'"},
      {{"layers", "extra"}, "unexpected argument 'extra'"},
      {{"train", "--epochs"}, "--epochs"},
      {{"train", "--layers"}, "--layers"},
      {{"train", "--epochs", "1", "--epochs", "2"}, "--epochs"},
      {{"train", "--epochs", "0"}, "--epochs is '0', must be an integer of at least 1"},
      {{"train", "--epochs", "1.5"}, "--epochs is '1.5', must be an integer"},
      {{"train", "--epochs", "many"}, "--epochs is 'many', must be an integer"},
      {{"train", "--epochs", "99999999999999999999"}, "--epochs is '99999999999999999999', must be an integer"},
      {{"train", "--batch-size", "-1"}, "--batch-size is '-1', must be an integer of at least 1"},
      {{"train", "--lr", "0"}, "--lr is '0', must be above 0"},
      {{"train", "--lr", "nan"}, "--lr is 'nan', must be a number"},
      {{"train", "--lr", "inf"}, "--lr is 'inf', must be a number"},
      {{"train", "--lr", "1e-3x"}, "--lr is '1e-3x', must be a number"},
      {{"train", "--weight-decay", "-0.1"}, "--weight-decay is '-0.1', must be a number of at least 0"},
      {{"train", "--min-lr", "-1"}, "--min-lr is '-1', must be a number of at least 0"},
      {{"train", "--stop-patience", "0"}, "--stop-patience is '0', must be an integer of at least 1"},
      {{"train", "--optimizer", "adam"}, "--optimizer is 'adam', must be one of adamw, sgd. Did you mean 'adamw'?"},
      {{"train", "--scheduler", "cos"}, "must be one of none, cosine, plateau. Did you mean 'cosine'?"},
      {{"train", "--fidelity", "exact"}, "must be one of published, intended"},
      {{"train", "--norm", "rms"}, "must be one of layernorm, rmsnorm. Did you mean 'rmsnorm'?"},
      {{"train", "--position-embeds", "rotary"}, "must be one of none, learned, sinusoidal"},
      {{"train", "--backbone", "rnn"}, "--backbone is 'rnn', must be language-model or auto-encoder"},
      {{"train", "--frac-noise", "2"}, "--frac-noise is '2', must be a number of at least 0 and at most 1"},
      {{"train", "--seed", "-1"}, "--seed is '-1', must be an integer of at least 0 and at most 4294967295"},
      {{"train", "--seed", "4294967296"}, "--seed is '4294967296'"},
      {{"train", "--threads", "-1"}, "--threads is '-1'"},
      {{"train", "--multi-query", "--no-multi-query"}, "--multi-query and --no-multi-query were both given"},
      {{"train", "--task", "recal"}, "unknown task 'recal'. Did you mean 'in-context-recall'?"},
      {{"data", "--task", "memorisation"}, "Did you mean 'memorization'?"},
      {{"train", "--layers", "attn"}, "unknown layer 'attn'. Did you mean 'attention'?"},
      {{"train", "--layers", "SwiGLU"}, "unknown layer 'SwiGLU'. Did you mean 'swiglu'?"},
      {{"cost", "--layers", "mamba", "hyenna"}, "unknown layer 'hyenna'. Did you mean 'hyena'?"},
      {{"cost", "--layers", "mh-attention", "--dim", "28"}, "layer 'mh-attention' cannot be made at width 28"},
      {{"train", "--dim", "96"}, "not compiled for width 96 with layernorm; compiled for 64 and 128"},
      {{"train", "--seq-len", "15"}, "seq_len is 15, must be an even number"},
      {{"train", "--seq-len", "15"}, "The option is --seq-len; the baseline of this task has 128"},
      {{"train", "--task", "selective-copying"},
       "The option is --num-tokens-to-copy; the baseline of this task has 16"},
      {{"train", "--vocab-size", "1"}, "vocab_size is 1"},
      {{"train", "--max-length", "100"}, "--max-length is 100, but the rows of 'in-context-recall' have 127 positions"},
      {{"train", "--task", "compression", "--backbone", "language-model"}, "--backbone language-model cannot do that"},
      {{"train", "--task", "compression", "--max-length", "1280"}, "an auto-encoder decodes exactly the 128 positions"},
      {{"train", "--pooling", "avg"}, "--pooling avg is for auto-encoders"},
      {{"train", "--log-path", "a-file/run"}, "'a-file/run' cannot be written to"},
      {{"train", "--log-base-path", "a-file"}, "cannot be written to"},
      {{"train", "--data-path", "a-file"}, "'a-file' cannot be written to"},
      {{"data", "--data-path", "a-file"}, "'a-file' cannot be written to"},
      {{"benchmark", "--preset", "fast"}, "--preset is 'fast', must be quick or full"},
      {{"benchmark", "--tasks", "recal"}, "Did you mean 'in-context-recall'?"},
      {{"benchmark", "--tasks", "copying"}, "'copying' is not part of the benchmark"},
      {{"benchmark", "--out", "a-file/out"}, "cannot be written to"},
  };
  for (const Refused& each : refused) {
    const TemporaryFolder folder;
    put_bytes(folder / "a-file", "");
    std::string line = "mad";
    for (const std::string& argument : each.arguments) line += " " + argument;
    INFO(line);
    const Said said = mad(folder.path(), each.arguments);
    CHECK(said.status == 2);
    CHECK(said.out.empty());
    CHECK(said.err.rfind("mad: ", 0) == 0);
    CHECK_THAT(said.err, ContainsSubstring(each.words));
    CHECK(only_entry(folder.path()) == folder / "a-file");
    CHECK(bytes_of(folder / "a-file").empty());
  }
}

TEST_CASE("results that cannot be written are a failure") {
  const TemporaryFolder folder;
  Process process(folder.path(), [] {
    const int full = ::open("/dev/full", O_WRONLY);
    if (full < 0 || ::dup2(full, 1) != 1) return 125;
    ::execl(MAD_PROGRAM, "mad", "layers", static_cast<char*>(nullptr));
    return 127;
  });
  const Said said = process.wait();
  CHECK(said.status == 1);
  CHECK_THAT(said.err, ContainsSubstring("cannot write to the standard output"));
}

}  // namespace mad::testing
