// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// The CUDA device as the tests see it: nothing of CUDA, so that they compile with the CPU's kernels and not with nvcc.
#pragma once

#include <mad/models/model.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace mad::testing {

enum class Precision { exact, mixed };

/// What the device says of a batch. All arrays are in the order of the host's.
struct DeviceResult {
  double loss = 0;
  double accuracy = 0;
  double micro_accuracy = 0;
  std::vector<float> logits;
  std::vector<float> gradients;
  std::vector<float> negative_log_likelihood;
  std::vector<int> predictions;
};

/// Token ids of (rows, length) inputs and targets; an auto-encoder's targets may have another length.
struct TokenRows {
  Index rows = 0;
  Index length = 0;
  std::vector<int> inputs;
  std::vector<int> targets;

  Index target_length() const { return static_cast<Index>(targets.size()) / rows; }
};

struct TrainingRecipe {
  Index batch_size = 1;
  double learning_rate = 1e-3;
  double weight_decay = 0;
  Index micro_batch = 0;
  bool adamw = true;
  bool honour_marks = false;
};

/// A model on the device.
class DeviceModel {
public:
  virtual ~DeviceModel() = default;
  virtual std::vector<float> parameters() const = 0;
  virtual void set_parameters(std::span<const float> values) = 0;
  /// Memory that must be written before it is read holds NaN before each pass.
  virtual void poison(bool on) = 0;
  /// Sequences that go through the model at a time; 0: all. Logits are then the last part's.
  virtual void use_micro_batches(Index sequences) = 0;
  virtual DeviceResult gradient(const TokenRows& rows) = 0;
  /// Epochs over the training rows, each in its order; losses step by step, then those of the test rows.
  virtual std::vector<double> train(const TokenRows& train, const TokenRows& test, const TrainingRecipe& recipe,
                                    const std::vector<std::vector<Index>>& orders) = 0;
};

/// GPUs that tests can use.
int device_count();
/// The message of what is thrown when GPU number `index` is asked for; empty if it can be used.
std::string refusal_of_device(int index);

/// A language model. Compiled in one .cu file per net.
template <class Net, int Width, Norm N>
std::unique_ptr<DeviceModel> make_device_model(Precision precision, const ModelOptions& options, std::uint64_t seed);
/// The same for any backbone, such as `AutoEncoder<Net, Width>`.
template <class Type>
std::unique_ptr<DeviceModel> make_device_model_of(Precision precision, const ModelOptions& options, std::uint64_t seed);

}  // namespace mad::testing
