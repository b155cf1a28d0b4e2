// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/metrics.hpp>
#include <mad/train/safetensors.hpp>

#include "catch.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using namespace mad::train;

namespace {

template <class T>
BatchTally tally_of(const Safetensors& file, const std::string& suffix = "") {
  const auto logits = file.values<T>("logits" + suffix);
  const auto targets = file.view<std::int64_t>("targets" + suffix);
  const Index classes = file.shape("logits" + suffix).back();
  BatchTally tally(classes);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    tally.add_logits(logits.data() + static_cast<Index>(i) * classes, targets[i]);
  }
  return tally;
}

double scalar(const Safetensors& file, const std::string& name) { return file.view<double>(name)[0]; }

}  // namespace

TEST_CASE("the metrics of a batch are the reference's") {
  for (const char* name : {"metrics_dense_v16", "metrics_sparse_v32"}) {
    const Safetensors file = Safetensors::read(MAD_GOLDEN_DIR "/layers/" + std::string(name) + ".safetensors");
    const Metrics exact = tally_of<double>(file).metrics();
    CHECK(exact.accuracy == Approx(scalar(file, "accuracy_macro")).epsilon(1e-14));
    CHECK(exact.micro_accuracy == Approx(scalar(file, "accuracy_micro")).epsilon(1e-14));
    CHECK(exact.loss == Approx(scalar(file, "loss")).epsilon(1e-12));
    CHECK(exact.perplexity == Approx(scalar(file, "perplexity")).epsilon(1e-12));
    const Metrics rounded = tally_of<float>(file).metrics();
    CHECK(rounded.accuracy == Approx(scalar(file, "accuracy_macro")).epsilon(1e-14));
    CHECK(rounded.loss == Approx(scalar(file, "loss")).epsilon(1e-5));
  }
}

TEST_CASE("an epoch is the mean of its batches, weighted by sequences") {
  const Safetensors file = Safetensors::read(MAD_GOLDEN_DIR "/layers/metrics_epoch_v8.safetensors");
  EpochMean epoch;
  BatchTally pooled(8);
  for (std::size_t batch = 0; batch < 3; ++batch) {
    const std::string suffix = "." + std::to_string(batch);
    const BatchTally tally = tally_of<double>(file, suffix);
    CHECK(tally.metrics().accuracy == Approx(file.view<double>("batch_accuracy_macro")[batch]));
    CHECK(tally.metrics().perplexity == Approx(file.view<double>("batch_perplexity")[batch]));
    CHECK(tally.metrics().loss == Approx(file.view<double>("batch_loss")[batch]));
    epoch.add(tally.metrics(), file.shape("targets" + suffix)[0]);
    pooled.merge(tally);
  }
  CHECK(epoch.mean().accuracy == Approx(scalar(file, "epoch_accuracy_macro")).epsilon(1e-12));
  CHECK(epoch.mean().perplexity == Approx(scalar(file, "epoch_perplexity")).epsilon(1e-12));
  CHECK(epoch.mean().loss == Approx(scalar(file, "epoch_loss")).epsilon(1e-12));
  CHECK(pooled.metrics().accuracy == Approx(scalar(file, "pooled_accuracy_macro")).epsilon(1e-12));
  CHECK(pooled.metrics().micro_accuracy == Approx(scalar(file, "pooled_accuracy_micro")).epsilon(1e-12));
  CHECK(pooled.metrics().loss == Approx(scalar(file, "pooled_loss")).epsilon(1e-12));
  CHECK(pooled.metrics().perplexity == Approx(scalar(file, "pooled_perplexity")).epsilon(1e-12));
}

TEST_CASE("a class that is only predicted counts as 0, one that is neither is left out") {
  BatchTally tally(10);
  tally.add(0, 0, 0.5);
  tally.add(0, 0, 0.5);
  tally.add(1, 2, 1.0);  // class 1 is only predicted, class 2 only expected
  const Metrics metrics = tally.metrics();
  CHECK(metrics.accuracy == Approx(1.0 / 3));
  CHECK(metrics.micro_accuracy == Approx(2.0 / 3));
  CHECK(metrics.loss == Approx(2.0 / 3));
  CHECK(tally.counted() == 3);
}

TEST_CASE("with nothing counted the accuracy is 0 and the loss is not a number") {
  BatchTally tally(4);
  tally.add(1, ignored_target, 3.0);
  const double logits[4] = {1, 2, 3, 4};
  tally.add_logits(logits, ignored_target);
  CHECK(tally.counted() == 0);
  CHECK(tally.metrics().accuracy == 0);
  CHECK(tally.metrics().micro_accuracy == 0);
  CHECK(std::isnan(tally.metrics().loss));
  tally.add(1, 1, 1.0);
  tally.clear();
  CHECK(tally.counted() == 0);
  CHECK(tally.metrics().accuracy == 0);
  CHECK(tally.classes() == 4);
}

TEST_CASE("large logits do not overflow, damaged ones show") {
  BatchTally tally(2);
  const float large[2] = {3e38f, -3e38f};
  tally.add_logits(large, 0);
  CHECK(tally.metrics().loss == 0);
  CHECK(tally.metrics().accuracy == 1);
  const float damaged[2] = {std::numeric_limits<float>::quiet_NaN(), 0};
  tally.add_logits(damaged, 0);
  CHECK(std::isnan(tally.metrics().loss));
}

TEST_CASE("a target outside the vocabulary is an error") {
  BatchTally tally(4);
  CHECK_THROWS_WITH(tally.add(0, 4, 0.0), ContainsSubstring("target 4 is not a class: expected 0 to 3"));
  CHECK_THROWS_AS(tally.add(0, -1, 0.0), mad::Error);
}
