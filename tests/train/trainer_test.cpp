// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/cpu/model.hpp>
#include <mad/layers/attention.hpp>
#include <mad/layers/swiglu.hpp>
#include <mad/tasks/registry.hpp>
#include <mad/train/run_folder.hpp>
#include <mad/train/trainer.hpp>

#include <unistd.h>

#include <catch.hpp>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

namespace mad {

namespace {

using Model = cpu::Model<float>;
using Net = LanguageModel<Stack<Attn, SwiGLU>, 16>;

struct Data {
  tasks::CompactExamples train;
  tasks::CompactExamples test;
};

Data data() {
  const tasks::Dataset d =
      tasks::generate(tasks::Setting{.seq_len = 16, .num_train_examples = 40, .num_test_examples = 20});
  return {tasks::compact(d.train), tasks::compact(d.test)};
}

Model model(const Data& d, cpu::Threads& threads) {
  return Model(cpu::architecture<Net, float>(), {.vocab_size = 16, .max_length = d.train.columns}, 5, threads);
}

class Folder {
public:
  explicit Folder(const std::string& name)
      : path(std::filesystem::temp_directory_path() / ("mad-trainer-test-" + name + "-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  const std::filesystem::path path;
};

struct Trained {
  train::RunReport report;
  std::vector<float> parameters;
};

Trained trained(const train::TrainSettings& settings, int threads, const std::filesystem::path& folder = {},
                const train::InterruptGuard* interrupt = nullptr) {
  const Data d = data();
  cpu::Threads workers(threads);
  Model m = model(d, workers);
  train::RunFolder<float> store({folder, {{"test", "trainer"}}, {}}, settings, m.layout().infos);
  Trained t;
  t.report =
      train::Trainer<Model>(m, d.train, d.test, settings, folder.empty() ? nullptr : &store).run(nullptr, interrupt);
  t.parameters.assign(m.parameters(), m.parameters() + m.layout().size);
  return t;
}

constexpr train::TrainSettings short_run{.epochs = 4, .batch_size = 16, .learning_rate = 3e-3};

/// Delivers Ctrl-C once the trainer has asked `after` times whether it should stop.
struct InterruptAfter : train::RunStore<float> {
  explicit InterruptAfter(train::RunStore<float>& inner, Index epochs) : inner_(inner), left_(epochs) {}
  bool restore(const View& run) override { return inner_.restore(run); }
  void end_epoch(const View& run, bool better, const train::Metrics& last) override {
    inner_.end_epoch(run, better, last);
    if (--left_ == 0) std::raise(SIGINT);
  }
  std::string interrupted(const View& run, const train::RunReport& report) override {
    return inner_.interrupted(run, report);
  }
  void ended(const train::RunReport& report) override { inner_.ended(report); }

private:
  train::RunStore<float>& inner_;
  Index left_;
};

}  // namespace

TEST_CASE("training learns, and gives the same numbers on any number of threads") {
  const Trained one = trained(short_run, 1);
  const Trained three = trained(short_run, 3);
  CHECK(one.parameters == three.parameters);
  CHECK(one.report.results.test.loss == three.report.results.test.loss);
  REQUIRE(one.report.epochs.size() == 4);
  CHECK(one.report.epochs.back().train.loss < one.report.epochs.front().train.loss);
  CHECK(one.report.steps == 12);
}

TEST_CASE("a run that is interrupted and resumed equals one that was not") {
  const Folder whole("whole");
  const Folder parts("parts");
  const Trained expected = trained(short_run, 2, whole.path);
  {
    const Data d = data();
    cpu::Threads workers(2);
    Model m = model(d, workers);
    train::RunFolder<float> folder({parts.path, {{"test", "trainer"}}, {}}, short_run, m.layout().infos);
    InterruptAfter store(folder, 2);
    const train::InterruptGuard guard;
    const auto report = train::Trainer<Model>(m, d.train, d.test, short_run, &store).run(nullptr, &guard);
    CHECK(report.outcome == train::Outcome::interrupted);
    CHECK(report.epochs.size() == 2);
    CHECK_FALSE(std::filesystem::exists(train::results_file(parts.path)));
  }
  const Trained resumed = trained(short_run, 1, parts.path);
  CHECK(resumed.report.outcome == train::Outcome::finished);
  CHECK(resumed.parameters == expected.parameters);
  CHECK(resumed.report.results.test.perplexity == expected.report.results.test.perplexity);
  CHECK(resumed.report.epochs.size() == 4);
  CHECK(read_file(train::results_file(parts.path)) == read_file(train::results_file(whole.path)));
  CHECK(read_file(train::metrics_file(parts.path)) == read_file(train::metrics_file(whole.path)));
  CHECK(read_file(train::checkpoint_folder(parts.path) / "best.safetensors") ==
        read_file(train::checkpoint_folder(whole.path) / "best.safetensors"));
}

TEST_CASE("a checkpoint of another run is refused, and nothing is lost") {
  const Folder folder("other");
  trained(short_run, 1, folder.path);
  const std::string before = read_file(train::checkpoint_folder(folder.path) / "last.safetensors");
  train::TrainSettings other = short_run;
  other.learning_rate = 1e-4;
  CHECK_THROWS_WITH(trained(other, 1, folder.path), Catch::Matchers::ContainsSubstring("other settings"));
  CHECK(read_file(train::checkpoint_folder(folder.path) / "last.safetensors") == before);
}

TEST_CASE("a loss that is no finite number stops the run with a record") {
  const Folder folder("diverged");
  train::TrainSettings settings = short_run;
  settings.learning_rate = 1e30;
  settings.optimizer = train::OptimizerKind::sgd;
  const Trained t = trained(settings, 1, folder.path);
  CHECK(t.report.outcome == train::Outcome::diverged);
  CHECK(t.report.stop == train::StopReason::not_finite);
  CHECK(train::read_record(train::record_file(folder.path))["status"] == "diverged");
  CHECK_FALSE(std::filesystem::exists(train::results_file(folder.path)));
}

TEST_CASE("the final numbers are those of the weights with the smallest test perplexity") {
  train::TrainSettings settings = short_run;
  settings.epochs = 8;
  settings.learning_rate = 0.05;  // too large: the last epoch is not the best
  const Trained t = trained(settings, 1);
  double best = INFINITY;
  for (const train::EpochRecord& e : t.report.epochs) best = std::min(best, e.test.perplexity);
  CHECK(t.report.results.test.perplexity == best);
  CHECK(t.report.epochs[static_cast<std::size_t>(t.report.best_epoch)].test.perplexity == best);
}

TEST_CASE("published ignores the schedule, intended follows it") {
  train::TrainSettings settings = short_run;
  settings.schedule = train::ScheduleKind::cosine;
  const Trained published = trained(settings, 1);
  for (const train::EpochRecord& e : published.report.epochs) CHECK(e.rate == settings.learning_rate);
  settings.fidelity = train::Fidelity::intended;
  const Trained intended = trained(settings, 1);
  CHECK(intended.report.epochs[0].rate == settings.learning_rate);
  CHECK(intended.report.epochs[2].rate == Approx((settings.learning_rate + settings.min_learning_rate) / 2));
  CHECK(published.parameters != intended.parameters);
}

TEST_CASE("a run keeps the learning curve in its record and its logs") {
  const Folder folder("record");
  const Trained t = trained(short_run, 1, folder.path);
  const auto record = train::read_record(train::record_file(folder.path));
  CHECK(record["status"] == "finished");
  CHECK(record["fidelity"] == "published");
  CHECK(record["training"]["lr"] == short_run.learning_rate);
  const auto curve = train::MetricsLog::read_column(train::metrics_file(folder.path), "test/Accuracy_epoch");
  REQUIRE(curve.size() == 4);
  CHECK(curve[3].second == t.report.epochs[3].test.accuracy);
}

}  // namespace mad
