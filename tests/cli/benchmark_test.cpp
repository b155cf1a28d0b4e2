// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// `mad benchmark` from the outside: the runs it lists, the files it leaves, and how it goes on.
#include "cli/program.hpp"

#include <nlohmann/json.hpp>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

long lines_with(const std::string& text, const std::string& word) {
  long count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("the list shows all runs and trains nothing") {
  const TemporaryFolder folder;
  const Said quick = mad(folder.path(), {"benchmark", "--list"});
  CHECK(quick.status == 0);
  CHECK(lines_with(quick.out, "to do") == 6);
  const Said full = mad(folder.path(), {"benchmark", "--preset", "full", "--list"});
  CHECK(full.status == 0);
  CHECK(lines_with(full.out, "to do") == 396);
  const Said part = mad(folder.path(), {"benchmark", "--preset", "full", "--list", "--tasks", "M", "C"});
  CHECK(lines_with(part.out, "to do") == 6 * 6 + 11 * 6);
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a benchmark leaves scores and a report, and what is finished is not trained again") {
  const TemporaryFolder folder;
  const Arguments benchmark{"benchmark", "--tasks", "memorization", "--layers", "mlp", "--out", "out"};

  Process interrupted(folder.path(), benchmark);
  interrupted.kill_when("epoch 2/", SIGINT);
  const Said stopped = interrupted.wait();
  CHECK(stopped.status == 130);
  CHECK_THAT(stopped.err, ContainsSubstring("the same command goes on from here"));
  CHECK(nlohmann::json::parse(bytes_of(folder / "out/scores.json"))["complete"] == false);

  const Said first = mad(folder.path(), benchmark);
  REQUIRE(first.status == 0);
  CHECK(first.err.find("epoch 1/") == std::string::npos);
  const auto scores = nlohmann::json::parse(bytes_of(folder / "out/scores.json"));
  CHECK(scores["complete"] == true);
  CHECK(scores["model"] == "M");
  CHECK(scores["norm"] == "rmsnorm");
  const double accuracy = scores["tasks"]["memorization"]["accuracy"].get<double>();
  CHECK(accuracy >= 0);
  CHECK(accuracy <= 1);
  CHECK_THAT(bytes_of(folder / "out/report.html"), ContainsSubstring("<svg") && ContainsSubstring("memorization"));

  const Said again = mad(folder.path(), benchmark);
  CHECK(again.status == 0);
  CHECK(again.err.find("epoch") == std::string::npos);
  CHECK_THAT(again.out, ContainsSubstring("1 runs were finished before"));
  const Said list = mad(folder.path(), benchmark + Arguments{"--list"});
  CHECK(lines_with(list.out, "finished") == 1);
}

}  // namespace mad::testing
