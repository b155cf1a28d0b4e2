// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// The command line of a program with types of its own.
#include "cli/program.hpp"

#include <mad/cli/run.hpp>
#include <mad/layers/mlp.hpp>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;

namespace {

struct Shift {
  static constexpr std::string_view name = "shift";
  static constexpr std::string_view description = "a gate and nothing else";
  static constexpr Value forward(Value x) { return linear(silu(linear(x, 8, "gate")), x.width(), "out"); }
};
using Narrow = MlpLayer<MlpOptions{.inner = 12}>;
using Net = Stack<Shift, Mlp, Repeat<2, Shift>, Narrow>;

Said own(const std::filesystem::path& folder, Arguments arguments) {
  return Process(folder,
                 [&] {
                   arguments.insert(arguments.begin(), "own");
                   std::vector<char*> words;
                   for (std::string& argument : arguments) words.push_back(argument.data());
                   return run<Net, 16>(static_cast<int>(words.size()), words.data());
                 })
      .wait();
}

const Arguments tiny{"train", "--seq-len", "8", "--num-train-examples", "8",  "--num-test-examples",
                     "4",     "--epochs",  "1", "--log-path",           "run"};

}  // namespace

TEST_CASE("run<Net> makes the stack's types the layers of the program, and the stack its default") {
  const TemporaryFolder folder;
  const Said layers = own(folder.path(), {"layers"});
  CHECK(layers.status == 0);
  CHECK_THAT(layers.out, ContainsSubstring("shift ") && ContainsSubstring("a gate and nothing else"));
  // The same layer with other options has a name of its own.
  CHECK_THAT(layers.out, ContainsSubstring("mlp ") && ContainsSubstring("mlp-2 "));
  CHECK_THAT(layers.out, ContainsSubstring("Compiled for width 16"));

  const Said said = own(folder.path(), tiny);
  CHECK(said.status == 0);
  CHECK_THAT(said.out, ContainsSubstring("in-context-recall, shift-M-shift-shift-M-2: trained 1 epochs"));
  const auto record = train::read_record(folder / "run/run.json");
  CHECK(record["model"]["layers"] == nlohmann::json({"shift", "mlp", "shift", "shift", "mlp-2"}));
  CHECK(record["model"]["dim"] == 16);

  const Said composed = own(folder.path(), tiny + Arguments{"--layers", "mlp-2", "shift"});
  CHECK(composed.status == 2);  // the folder holds another run
  CHECK_THAT(composed.err, ContainsSubstring("model.id"));
  CHECK(own(folder.path(), with(tiny, "--log-path", "other") + Arguments{"--layers", "mlp-2", "shift"}).status == 0);
  CHECK(own(folder.path(), tiny + Arguments{"--layers", "hyena"}).status == 2);
}

TEST_CASE("a layer that was changed under its old name is another run") {
  const auto graph_of = [](auto forward) {
    Graph g;
    Node input;
    input.op = &ops::input_op;
    input.width = 16;
    g.append(input);
    forward(Value{&g, 0});
    g.forward_size = g.size;
    return g;
  };
  const auto print = [](const Graph& g) { return fingerprint_of(g); };
  const std::uint64_t before = print(graph_of([](Value x) { return linear(x * 0.5, 16, "w"); }));
  CHECK(print(graph_of([](Value x) { return linear(x * 0.5, 16, "w"); })) == before);
  CHECK(print(graph_of([](Value x) { return linear(x * 0.25, 16, "w"); })) != before);
  CHECK(print(graph_of([](Value x) { return linear(x * 0.5, 8, "w"); })) != before);
  CHECK(print(graph_of([](Value x) { return linear(x * 0.5, 16, "v"); })) != before);
  CHECK(print(graph_of([](Value x) { return linear(x * 0.5, 16, "w", {.bias = true}); })) != before);
  CHECK(print(graph_of([](Value x) { return linear(silu(x), 16, "w"); })) != before);
}

}  // namespace mad::testing
