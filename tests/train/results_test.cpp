// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/results.hpp>

#include "catch.hpp"
#include "core/temporary_folder.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using namespace mad::train;

TEST_CASE("results.csv has the reference's header and one row") {
  const mad::testing::TemporaryFolder folder;
  const auto file = results_file(folder.path());
  write_results(file, {.train = {.loss = 0.25, .accuracy = 0.5, .perplexity = 1e-5, .micro_accuracy = 0},
                       .test = {.loss = 3, .accuracy = 0.1, .perplexity = 1e22, .micro_accuracy = 0}});
  CHECK(mad::read_file(folder / "results.csv") ==
        "train_acc,train_ppl,train_loss,test_acc,test_ppl,test_loss\n0.5,1e-05,0.25,0.1,1e+22,3\n");
  const Results back = read_results(file);
  CHECK(back.train.accuracy == 0.5);
  CHECK(back.train.perplexity == 1e-5);
  CHECK(back.train.loss == 0.25);
  CHECK(back.test.accuracy == 0.1);
  CHECK(back.test.perplexity == 1e22);
  CHECK(back.test.loss == 3);
  CHECK(std::isnan(back.test.micro_accuracy));
}

TEST_CASE("values that are not finite survive, also as the reference's tools write them") {
  const mad::testing::TemporaryFolder folder;
  Results results;
  results.test.loss = std::numeric_limits<double>::quiet_NaN();
  results.test.perplexity = std::numeric_limits<double>::infinity();
  write_results(folder / "a", results);
  CHECK(std::isnan(read_results(folder / "a").test.loss));
  CHECK(std::isinf(read_results(folder / "a").test.perplexity));
  mad::write_file(folder / "b", std::string(results_header) + "\r\n0.5,1.0,0.25,0.75,inf,\r\n");
  CHECK(read_results(folder / "b").test.accuracy == 0.75);
  CHECK(std::isnan(read_results(folder / "b").test.loss));
}

TEST_CASE("a results.csv that is none says so") {
  const mad::testing::TemporaryFolder folder;
  const auto error_of = [&](const std::string& text) {
    mad::write_file(folder / "results.csv", text);
    try {
      read_results(folder / "results.csv");
    } catch (const mad::Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string header = std::string(results_header) + "\n";
  CHECK(error_of(header + "1,2,3,4,5,6\n").empty());  // sound: the control
  CHECK_THAT(error_of(""), ContainsSubstring("results.csv'") && ContainsSubstring("expected the header"));
  CHECK_THAT(error_of(header), ContainsSubstring("expected the header"));
  CHECK_THAT(error_of("train_acc,test_acc\n1,2\n"), ContainsSubstring("expected the header"));
  CHECK_THAT(error_of(header + "1,2,3,4,5\n"), ContainsSubstring("has 5 values, expected 6"));
  CHECK_THAT(error_of(header + "1,2,3,high,5,6\n"), ContainsSubstring("'test_acc' is 'high', expected a number"));
  CHECK_THROWS_WITH(read_results(folder / "absent"), ContainsSubstring("No such file"));
}

TEST_CASE("metrics.csv has one header and blank cells") {
  const mad::testing::TemporaryFolder folder;
  const auto file = metrics_file(folder.path());
  MetricsLog log = MetricsLog::create(file);
  const Metrics metrics{.loss = 2, .accuracy = 0.5, .perplexity = 8, .micro_accuracy = 0};
  log.add({.epoch = 0, .step = 49, .train_step = metrics});
  log.add({.epoch = 0, .step = 99, .test_epoch = metrics, .train_epoch = Metrics{.loss = 1, .accuracy = 0.25}});
  CHECK(mad::read_file(folder / "logs/metrics.csv") ==
        std::string(MetricsLog::header) + "\n0,49,,,,,,,,0.5,,2,,8\n0,99,0.5,,2,,8,,0.25,,1,,0,\n");
}

TEST_CASE("a resumed metrics.csv loses the rows that the checkpoint has not seen, and what was cut short") {
  const mad::testing::TemporaryFolder folder;
  const auto file = folder / "metrics.csv";
  {
    MetricsLog log = MetricsLog::create(file);
    for (Index epoch = 0; epoch < 4; ++epoch) {
      Metrics metrics;
      metrics.accuracy = static_cast<double>(epoch) / 8;
      log.add({.epoch = epoch, .step = epoch, .test_epoch = metrics});
    }
  }
  mad::write_file(file, mad::read_file(file) + "4,4,0.9");  // killed while writing
  using Column = std::vector<std::pair<Index, double>>;
  CHECK(MetricsLog::read_column(file, "test/Accuracy_epoch") == Column{{0, 0}, {1, 0.125}, {2, 0.25}, {3, 0.375}});
  MetricsLog log = MetricsLog::resume(file, 2);
  Metrics metrics;
  metrics.accuracy = 0.75;
  log.add({.epoch = 2, .step = 2, .test_epoch = metrics});
  CHECK(MetricsLog::read_column(file, "test/Accuracy_epoch") == Column{{0, 0}, {1, 0.125}, {2, 0.75}});
  CHECK(MetricsLog::read_column(file, "train/Loss_step").empty());
  CHECK_THROWS_WITH(MetricsLog::read_column(file, "test/Recall"), ContainsSubstring("has no column 'test/Recall'"));
  CHECK_NOTHROW(MetricsLog::resume(folder / "new.csv", 3));
  CHECK(mad::read_file(folder / "new.csv") == std::string(MetricsLog::header) + "\n");
  mad::write_file(file, "a,b\n");
  CHECK_THROWS_WITH(MetricsLog::resume(file, 1), ContainsSubstring("cannot read the line 'a,b'"));
  std::filesystem::remove(file);
  CHECK_THROWS_WITH(log.add({}), ContainsSubstring("cannot append to"));
}

TEST_CASE("run.json keeps its order and comes back") {
  const mad::testing::TemporaryFolder folder;
  nlohmann::ordered_json record;
  record["seed"] = 12345;
  record["fidelity"] = "published";
  write_record(record_file(folder.path()), record);
  CHECK(mad::read_file(folder / "run.json") == "{\n  \"seed\": 12345,\n  \"fidelity\": \"published\"\n}\n");
  CHECK(read_record(folder / "run.json") == record);
  mad::write_file(folder / "run.json", "{");
  CHECK_THROWS_WITH(read_record(folder / "run.json"), ContainsSubstring("run.json' is not JSON"));
}
