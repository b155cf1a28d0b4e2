// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// `mad train` from the outside: what it leaves behind, what it takes up again, what it does with damaged files.
#include "cli/program.hpp"

#include <mad/train/checkpoint.hpp>
#include <mad/train/results.hpp>
#include <mad/train/safetensors.hpp>

#include <sstream>

namespace mad::testing {

using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

/// Everything of a checkpoint that must not depend on how the run was cut into sessions: all but the seconds.
void check_same_checkpoint(const fs::path& a, const fs::path& b) {
  const auto first = train::Safetensors::read(a);
  const auto second = train::Safetensors::read(b);
  REQUIRE(first.names() == second.names());
  REQUIRE(first.names().size() > 10);
  for (const std::string& name : first.names()) {
    INFO(name);
    REQUIRE(first.shape(name) == second.shape(name));
    if (name == "training.numbers" || name == "training.epochs") {
      const auto x = first.values<double>(name);
      const auto y = second.values<double>(name);
      const std::size_t columns = name == "training.numbers" ? 4 : 10;  // the last one is the time
      for (std::size_t i = 0; i < x.size(); ++i)
        if (i % columns != columns - 1) CHECK(x[i] == y[i]);
    } else if (name == "training.counters" || name == "training.batch_sequences") {
      CHECK(first.values<std::int64_t>(name) == second.values<std::int64_t>(name));
    } else if (name == "training.batches") {
      CHECK(first.values<double>(name) == second.values<double>(name));
    } else {
      CHECK(first.values<float>(name) == second.values<float>(name));
    }
  }
}

void check_same_run(const fs::path& a, const fs::path& b) {
  CHECK(!bytes_of(a / "results.csv").empty());
  CHECK(bytes_of(a / "results.csv") == bytes_of(b / "results.csv"));
  CHECK(bytes_of(a / "logs/metrics.csv") == bytes_of(b / "logs/metrics.csv"));
  check_same_checkpoint(a / "checkpoints/last.safetensors", b / "checkpoints/last.safetensors");
  check_same_checkpoint(a / "checkpoints/best.safetensors", b / "checkpoints/best.safetensors");
}

}  // namespace

TEST_CASE("mad train leaves the reference's files in the reference's folder") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), small_training);
  REQUIRE(said.status == 0);
  const fs::path run = only_entry(folder / "logs");
  CHECK(run.filename() ==
        "t-CR_vs-16_sl-16_ntr-64_nte-32_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_bs-32_e-2_lr-0#0005_wd-0#0_opt-adamw_"
        "sch-cosine_s-12345_model-mA-Sg_d-64");
  CHECK(only_entry(folder / "data").filename() ==
        "t-CR_vs-16_sl-16_ntr-64_nte-32_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_s-12345");

  const train::Results results = train::read_results(run / "results.csv");
  CHECK(results.test.accuracy > 0);
  CHECK(results.test.accuracy < 1);
  CHECK(results.test.perplexity > 1);
  CHECK_THAT(said.out, ContainsSubstring("in-context-recall, mA-Sg: trained 2 epochs"));
  CHECK_THAT(said.err, ContainsSubstring("epoch 1/2"));
  CHECK_THAT(said.err, ContainsSubstring("epoch 2/2"));

  const auto record = train::read_record(run / "run.json");
  CHECK(record["status"] == "finished");
  CHECK(record["fidelity"] == "published");
  CHECK(record["task"]["seq_len"] == 16);
  CHECK(record["model"]["layers"] == nlohmann::json({"mh-attention", "swiglu"}));
  CHECK(record["model"]["dim"] == 64);
  CHECK(record["model"]["max_length"] == 1280);
  CHECK(record["training"]["seed"] == 12345);
  CHECK(record["environment"].contains("compiler"));
  CHECK(record["environment"].contains("revision"));
  CHECK(record["test"]["accuracy"].get<double>() == results.test.accuracy);
  CHECK(train::MetricsLog::read_column(run / "logs/metrics.csv", "test/Accuracy_epoch").size() == 2);
}

TEST_CASE("a finished run is shown and not repeated") {
  const TemporaryFolder folder;
  const Said first = mad(folder.path(), small_training);
  REQUIRE(first.status == 0);
  const fs::path run = only_entry(folder / "logs");
  const std::string results = bytes_of(run / "results.csv");
  const Said again = mad(folder.path(), small_training);
  CHECK(again.status == 0);
  CHECK_THAT(again.out, ContainsSubstring("finished already"));
  CHECK(again.err.find("epoch") == std::string::npos);
  CHECK(bytes_of(run / "results.csv") == results);
  // The numbers shown are those of the file, in both runs.
  const auto table = [](const std::string& out) {
    const std::size_t begin = out.find("\ntrain ");
    return out.substr(begin, out.find('\n', out.find("\ntest ", begin) + 1) - begin);
  };
  CHECK(table(first.out) == table(again.out));

  SECTION("but not if it was another run") {
    const Said other = mad(folder.path(), with(small_training + Arguments{"--log-path", run.string()}, "--lr", "0.1"));
    CHECK(other.status == 2);
    CHECK_THAT(other.err, ContainsSubstring("training.lr is 0.0005, must be 0.1"));
    const Said wider = mad(folder.path(), with(small_training + Arguments{"--log-path", run.string()}, "--dim", "128"));
    CHECK(wider.status == 2);
    CHECK_THAT(wider.err, ContainsSubstring("model.dim is 64, must be 128"));
    CHECK(bytes_of(run / "results.csv") == results);
  }
  SECTION("nor if the results cannot be read") {
    put_bytes(run / "results.csv", "train_acc,train_ppl\n1\n");
    const Said damaged = mad(folder.path(), small_training);
    CHECK(damaged.status == 1);
    CHECK_THAT(damaged.err, ContainsSubstring("results.csv"));
  }
  SECTION("nor if the record cannot be read") {
    put_bytes(run / "run.json", "{");
    const Said damaged = mad(folder.path(), small_training);
    CHECK(damaged.status == 1);
    CHECK_THAT(damaged.err, ContainsSubstring("run.json"));
  }
  SECTION("results of the reference, without a record, are taken") {
    fs::remove(run / "run.json");
    CHECK(mad(folder.path(), small_training).status == 0);
  }
  SECTION("results that are gone are computed again from the checkpoint") {
    fs::remove(run / "results.csv");
    const Said said = mad(folder.path(), small_training);
    CHECK(said.status == 0);
    CHECK(said.err.find("epoch 1/2") == std::string::npos);
    CHECK(bytes_of(run / "results.csv") == results);
  }
}

TEST_CASE("models that the reference's name does not tell apart get folders of their own") {
  const TemporaryFolder folder;
  for (const Arguments& variant :
       {Arguments{}, Arguments{"--norm", "rmsnorm"}, Arguments{"--max-length", "64"}, Arguments{"--no-multi-query"},
        Arguments{"--position-embeds", "learned"}, Arguments{"--fidelity", "intended"}, Arguments{"--early-stop"},
        Arguments{"--no-multi-query", "--backbone", "auto-encoder", "--pooling", "cls"}}) {
    INFO((variant.empty() ? "" : variant.front()));
    CHECK(mad(folder.path(), small_training + variant + Arguments{"--quiet"}).status == 0);
  }
  CHECK(std::distance(fs::directory_iterator(folder / "logs"), fs::directory_iterator()) == 8);
}

TEST_CASE("every task can be trained on") {
  const TemporaryFolder folder;
  for (const std::string task : {"NR", "FR", "M", "C", "SC", "copying"}) {
    INFO(task);
    const Said said = mad(folder.path(), with(small_training + Arguments{"--task", task, "--baseline", "--quiet"},
                                              "--seq-len", task == "FR" ? "64" : "40"));
    CHECK(said.status == 0);
    CHECK(said.err.empty());
  }
  const Said said = mad(folder.path(), with(small_training, "--task", "compression"));
  CHECK(said.status == 0);
  for (const auto& run : fs::directory_iterator(folder / "logs")) {
    const auto record = train::read_record(run.path() / "run.json");
    const bool encodes = record["task"]["task"] == "compression";
    CHECK(record["model"]["backbone"] == (encodes ? "auto-encoder" : "language-model"));
    if (encodes) CHECK(record["model"]["max_length"] == record["task"]["seq_len"]);
  }
}

TEST_CASE("--no-cache and --log-path write exactly where they are told to") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), small_training + Arguments{"--no-cache", "--log-path", "here/run"});
  CHECK(said.status == 0);
  CHECK(only_entry(folder.path()) == folder / "here");
  CHECK(fs::exists(folder / "here/run/results.csv"));
}

TEST_CASE("the number of threads changes nothing") {
  const TemporaryFolder folder;
  const Arguments training = with(small_training, "--num-train-examples", "256");
  REQUIRE(mad(folder.path(), training + Arguments{"--threads", "1", "--log-path", "one"}).status == 0);
  REQUIRE(mad(folder.path(), training + Arguments{"--threads", "2", "--log-path", "two"}).status == 0);
  check_same_run(folder / "one", folder / "two");
  REQUIRE(mad(folder.path(), training + Arguments{"--seed", "1", "--log-path", "other"}).status == 0);
  CHECK(bytes_of(folder / "one/results.csv") != bytes_of(folder / "other/results.csv"));
}

TEST_CASE("a run that was interrupted or killed goes on bit for bit") {
  const TemporaryFolder folder;
  const Arguments training = with(with(small_training, "--epochs", "40"), "--num-train-examples", "640");
  REQUIRE(mad(folder.path(), training + Arguments{"--log-path", "whole"}).status == 0);

  const Arguments again = training + Arguments{"--log-path", "cut", "--threads", "1"};
  Process interrupted(folder.path(), again);
  interrupted.kill_when("epoch 2/40", SIGINT);
  const Said stopped = interrupted.wait();
  REQUIRE(stopped.status == 130);
  CHECK_THAT(stopped.err, ContainsSubstring("mad: interrupted in epoch"));
  CHECK_THAT(stopped.err, ContainsSubstring("The same command goes on from there."));
  CHECK(!fs::exists(folder / "cut/results.csv"));
  CHECK(train::read_record(folder / "cut/run.json")["status"] == "interrupted");

  Process terminated(folder.path(), again);
  terminated.kill_when("epoch 12/40", SIGTERM);
  CHECK(terminated.wait().status == 143);

  Process killed(folder.path(), again);
  killed.kill_when("epoch 22/40", SIGKILL);
  CHECK(killed.wait().status == 128 + SIGKILL);
  CHECK(!fs::exists(folder / "cut/results.csv"));

  const Said rest = mad(folder.path(), again);
  CHECK(rest.status == 0);
  CHECK(rest.err.find("epoch 21/40") == std::string::npos);
  check_same_run(folder / "whole", folder / "cut");
}

TEST_CASE("a damaged or foreign checkpoint is an error that names it") {
  const TemporaryFolder folder;
  REQUIRE(mad(folder.path(), small_training + Arguments{"--log-path", "run"}).status == 0);
  fs::remove(folder / "run/results.csv");
  const fs::path last = folder / "run/checkpoints/last.safetensors";
  const std::string whole = bytes_of(last);

  for (const std::size_t size : {std::size_t{0}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
    put_bytes(last, whole.substr(0, size));
    const Said said = mad(folder.path(), small_training + Arguments{"--log-path", "run"});
    CHECK(said.status == 1);
    CHECK(said.err.find("last.safetensors") != std::string::npos);
    CHECK(bytes_of(last).size() == size);
  }
  put_bytes(last, whole);
  const Said foreign = mad(folder.path(), with(small_training + Arguments{"--log-path", "run"}, "--lr", "0.1"));
  CHECK(foreign.status == 1);
  CHECK_THAT(foreign.err, ContainsSubstring("last.safetensors"));
  CHECK(bytes_of(last) == whole);
}

TEST_CASE("a run that diverges says so, leaves a record and fails") {
  const TemporaryFolder folder;
  const Said said = mad(folder.path(), small_training + Arguments{"--lr", "1e30", "--log-path", "run"});
  CHECK(said.status == 1);
  CHECK(said.out.empty());
  CHECK_THAT(said.err, ContainsSubstring("mad: training diverged"));
  CHECK_THAT(said.err, ContainsSubstring("--lr"));
  CHECK(train::read_record(folder / "run/run.json")["status"] == "diverged");
  CHECK(!fs::exists(folder / "run/results.csv"));
}

}  // namespace mad::testing
