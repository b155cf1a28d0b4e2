// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What a model is trained on, as it was asked for.
#pragma once

#include <mad/cli/options.hpp>
#include <mad/core/error.hpp>
#include <mad/train/accelerator.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <optional>
#include <string>

namespace mad::cli {

/// `--device`, `--precision` and `--micro-batch`.
struct DeviceChoice {
  bool cuda = false;      ///< false: the CPU
  int index = 0;          ///< which GPU
  Index micro_batch = 0;  ///< sequences that go through the model at a time; 0: a whole batch
  std::optional<train::Precision> asked_precision = {};

  train::Precision precision() const {
    return asked_precision.value_or(cuda ? train::Precision::bf16 : train::Precision::fp32);
  }
  std::string name() const { return cuda ? "cuda:" + std::to_string(index) : "cpu"; }

  /// What is part of a run's description: nothing for the CPU, whose runs are older than this choice.
  void describe(nlohmann::ordered_json& run) const {
    if (!cuda) return;
    run["device"] = "cuda";
    run["precision"] = train::name(precision());
    if (micro_batch > 0) run["micro_batch"] = micro_batch;  // sums are formed in another order
  }
};

/// `cpu`, `cuda` or `cuda:N`. \throws UsageError
inline DeviceChoice parse_device(const std::string& given) {
  if (given == "cpu") return {};
  if (given == "cuda") return {.cuda = true};
  if (given.starts_with("cuda:"))
    return {.cuda = true,
            .index = OptionGroup::parse_number<int>("the number in --device", given.substr(5), 0,
                                                    std::numeric_limits<int>::max())};
  throw UsageError("--device is '" + given + "', must be cpu, cuda or cuda:N." + did_you_mean(given, {"cpu", "cuda"}));
}

/// \throws UsageError if the program or the device cannot do that, before any work and without touching the device.
inline void require_possible(const DeviceChoice& choice) {
  if (choice.cuda)
    train::require_accelerator();
  else if (choice.micro_batch > 0)
    throw UsageError("--micro-batch is for --device cuda; the CPU works in micro-batches by itself.");
  else if (choice.precision() != train::Precision::fp32)
    throw UsageError("--precision bf16 is for --device cuda; the CPU computes in fp32.");
}

/// The options of a device. `choice` must live as long as the command.
inline void add_device_options(CLI::App& command, DeviceChoice& choice) {
  OptionGroup group(command, "Device");
  group.text("--device", "cpu|cuda[:N]", choice.name(), "what to train on; N counts GPUs from 0",
             [&choice](const std::string& given) {
               const DeviceChoice device = parse_device(given);
               choice.cuda = device.cuda;
               choice.index = device.index;
             });
  group.text("--precision", "fp32|bf16", "cpu: fp32, cuda: bf16",
             "numbers to compute in; bf16 keeps parameters and sums in 32 bits", [&choice](const std::string& given) {
               for (const train::Precision p : {train::Precision::fp32, train::Precision::bf16})
                 if (given == train::name(p)) choice.asked_precision = p;
               if (!choice.asked_precision || given != train::name(*choice.asked_precision))
                 throw UsageError("--precision is '" + given + "', must be fp32 or bf16.");
             });
  group.number("--micro-batch", choice.micro_batch,
               "cuda: sequences of a batch that go through the model at a time, for less memory; 0: all", Index{0});
}

}  // namespace mad::cli
