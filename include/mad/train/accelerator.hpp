// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Devices besides the CPU as training sees them. Names nothing of CUDA: a program is compiled the same with a device
/// and without, and has it if the files that compile its kernels are linked in.
#pragma once

#include <mad/core/error.hpp>
#include <mad/models/parameter_layout.hpp>
#include <mad/train/epoch_mean.hpp>
#include <mad/train/optimizer_settings.hpp>
#include <mad/train/schedule.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mad::train {

/// The numbers that a device computes in.
enum class Precision {
  fp32,  ///< 32 bits throughout
  bf16,  ///< values in 16 bits; parameters, their gradients and all sums in 32
};

constexpr std::string_view name(Precision precision) { return precision == Precision::fp32 ? "fp32" : "bf16"; }

/// The two halves of a dataset.
enum class Half { train, test };

/// One half on the host: inputs and targets are (rows, columns) arrays of token ids.
struct ExampleSpan {
  std::span<const int> inputs;
  std::span<const int> targets;
  Index rows = 0;
  Index columns = 0;
};

/// What a device says of one batch.
struct BatchResult {
  Metrics metrics;
  Index counted = 0;  ///< positions that count
  Index sequences = 0;
  double milliseconds = 0;  ///< of the device for a training step, the mean of those started together; 0 unless timed
};

/// All numbers of a run that training changes, in the order of the model's layout.
struct RunNumbers {
  Index steps = 0;  ///< of the optimiser
  std::vector<float> parameters;
  std::vector<float> best;
  std::vector<float> first_moment;  ///< empty without moments
  std::vector<float> second_moment;
};

/// A training on a device that keeps examples, parameters and moments to itself and takes an epoch's work at once:
/// `start_...` puts work into the device's queue and returns. All calls come from one thread; runs of several threads
/// share a device and change nothing in each other's numbers.
class DeviceRun {
public:
  virtual ~DeviceRun() = default;

  /// An epoch over the training examples in this order, at the schedule's rates; batches before `first` are done.
  virtual void begin_epoch(std::span<const Index> order, const Schedule& schedule, Index first) = 0;
  /// The next training steps of the epoch, as many as the device takes at once; returns how many. A loss that is no
  /// finite number stops the run: the parameters keep their values.
  virtual Index start_steps() = 0;
  virtual void start_evaluation(Half half) = 0;
  /// From now on the device times the training steps: from the end of the steps before, or for the first after a
  /// `finish` from when it could have begun.
  virtual void time_steps() = 0;
  /// Waits for what was started. Returns what was measured of its batches, in order.
  virtual std::vector<BatchResult> finish() = 0;

  /// Lets the best parameters be the present ones, or the other way round.
  virtual void keep_best() = 0;
  virtual void return_to_best() = 0;

  virtual void read(RunNumbers& to) = 0;
  virtual void write(const RunNumbers& from) = 0;
};

/// A model on a device.
class DeviceModel {
public:
  virtual ~DeviceModel() = default;
  virtual const ParameterLayout& layout() const = 0;
  virtual std::vector<float> parameters() const = 0;
  virtual void set_parameters(std::span<const float> values) = 0;
  /// A training from the model's present parameters; the model must outlive it. \throws UsageError or Error if the
  /// examples do not fit the model, Error if the device has not enough memory.
  virtual std::unique_ptr<DeviceRun> begin(const ExampleSpan& train, const ExampleSpan& test, Index batch_size,
                                           const OptimizerSettings& settings) = 0;
};

/// A model as it is asked for. Blocks go by name and fingerprint: what a device trains is what was described.
struct ModelRequest {
  struct Block {
    std::string name;
    std::uint64_t fingerprint = 0;
  };
  Backbone backbone = Backbone::language_model;
  Norm norm = Norm::layer_norm;
  Index width = 0;
  std::vector<Block> blocks;
  Block head_norm;
  Block decoder;  ///< of an auto-encoder
  ModelOptions options;
  std::uint64_t seed = 0;  ///< of the initial parameters
  Index micro_batch = 0;   ///< sequences of a batch that go through the model at a time; 0: all
};

/// The request for a model as a CPU or a device has it put together.
template <class A>
ModelRequest request_for(const A& architecture, const ModelOptions& options, std::uint64_t seed) {
  const auto block = [](const auto& b) { return ModelRequest::Block{std::string(b.name), b.fingerprint}; };
  ModelRequest r;
  r.backbone = architecture.backbone;
  r.norm = architecture.norm;
  r.width = architecture.width;
  for (const auto* b : architecture.blocks) r.blocks.push_back(block(*b));
  r.head_norm = block(*architecture.head_norm);
  if (architecture.decoder != nullptr) r.decoder = block(*architecture.decoder);
  r.options = options;
  r.seed = seed;
  return r;
}

/// What the record of a run says of its device.
struct DeviceFacts {
  std::string device;  ///< such as `cuda:0`
  std::string name;    ///< the maker's
  std::string driver;
  std::string runtime;
};

/// A kind of device that a program was compiled for.
class Accelerator {
public:
  virtual ~Accelerator() = default;
  /// \throws UsageError if the program has not all blocks of the model for this device and precision.
  virtual void check(const ModelRequest& request, Precision precision) const = 0;
  /// \throws UsageError, one sentence, if device number `index` cannot be used.
  virtual DeviceFacts open(int index) const = 0;
  /// Memory of the device that is taken, by whatever program.
  virtual Index bytes_in_use(int index) const = 0;
  /// \throws UsageError as above, or if the options do not fit the model; Error if the device has not enough memory.
  virtual std::unique_ptr<DeviceModel> make(const ModelRequest& request, Precision precision, int index) const = 0;
};

namespace detail {
inline constinit const Accelerator* compiled_accelerator = nullptr;
}

/// The accelerator that this program was compiled for; null if there is none.
inline const Accelerator* accelerator() { return detail::compiled_accelerator; }

/// The same. \throws UsageError where there is none.
inline const Accelerator& require_accelerator() {
  if (accelerator() == nullptr)
    throw UsageError(
        "device cuda: this program was built without CUDA; build it where CMake finds nvcc, or use the device cpu");
  return *accelerator();
}

/// Called before `main` by the files that compile an accelerator's kernels.
inline bool install(const Accelerator& compiled) {
  detail::compiled_accelerator = &compiled;
  return true;
}

}  // namespace mad::train
