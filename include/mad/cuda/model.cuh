// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A model on the device: parameters, and what can be asked of it batch by batch. Training runs are in training.cuh.
#pragma once

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/pass.cuh>

#include <memory>

namespace mad::cuda {

/// Rows of a dataset that form a batch. Inputs and targets are (rows, length) and (rows, target_length) arrays of token
/// ids on the host; `rows` picks some of them, in order.
struct Batch {
  const int* inputs = nullptr;
  const int* targets = nullptr;
  Index length = 0;
  Index target_length = 0;
  std::span<const Index> rows;
};

/// What a model says of a batch, row by row.
struct BatchOutput {
  double loss = 0;                             ///< mean cross entropy over the positions that count, in nats
  Index counted = 0;                           ///< positions that count
  StepMetrics metrics;                         ///< as they are formed on the device
  std::vector<float> negative_log_likelihood;  ///< (rows, target_length), 0 where ignored
  std::vector<int> predictions;                ///< (rows, target_length), the first of the largest logits
};

/// A language model or an auto-encoder on one GPU, computing in the numbers of P (`Exact` or `Mixed`). Models share
/// nothing: each has its own stream.
template <class P>
class Model {
public:
  using Precision = P;
  using Activation = typename P::Activation;

  /// \throws UsageError if the options do not fit the architecture or the device cannot be used.
  Model(Architecture<P> architecture, const ModelOptions& options, std::uint64_t seed, int device = 0)
      : device_(Device::open(device)),
        architecture_(std::move(architecture)),
        options_(options),
        layout_(make_layout(architecture_, options)),
        device_layout_(align(layout_)) {
    queue_ = std::make_unique<Queue>(device_.multiprocessors());
    parameters_ = Buffer<float>(device_layout_.size, "the parameters");
    if constexpr (!std::is_same_v<Activation, float>)
      rounded_ = Buffer<Activation>(device_layout_.size, "the parameters");
    constants_ = Buffer<float>(layout_.constants, "the constants");
    std::vector<float> parameters(static_cast<std::size_t>(layout_.size));
    std::vector<float> constants(static_cast<std::size_t>(layout_.constants));
    initialize(architecture_, options_, layout_, seed, parameters.data(), constants.data());
    constants_.upload(constants, queue_->stream());
    set_parameters(parameters);
    if (architecture_.backbone == Backbone::auto_encoder || options_.positions == Positions::sinusoidal) {
      const std::vector<float> table = sinusoidal_table<float>(options_.max_length, architecture_.width);
      sinusoids_ = Buffer<float>(static_cast<Index>(table.size()), "the position table");
      sinusoids_.upload(table, queue_->stream());
    }
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Architecture<P>& architecture() const { return architecture_; }
  const ModelOptions& options() const { return options_; }
  /// Where parameters lie on the host, and on the device.
  const ParameterLayout& layout() const { return layout_; }
  const ParameterLayout& device_layout() const { return device_layout_; }
  const Device& device() const { return device_; }
  Queue& queue() { return *queue_; }

  /// All parameters, in the order of `layout()`.
  std::vector<float> parameters() const {
    device_.use();
    return pack_together(parameters_.download(queue_->stream()), layout_, device_layout_);
  }
  void set_parameters(std::span<const float> values) {
    if (static_cast<Index>(values.size()) != layout_.size)
      throw Error("model: " + std::to_string(values.size()) + " parameters were given, the model has " +
                  std::to_string(layout_.size));
    device_.use();
    parameters_.upload(spread_out(values, layout_, device_layout_), queue_->stream());
    round_parameters();
  }
  /// Lets the factors of matrix products follow parameters that were changed in place.
  void round_parameters() {
    if constexpr (!std::is_same_v<Activation, float>) {
      constexpr Index block = optimizer_detail::threads;
      queue_->launch("rounding the parameters", optimizer_detail::round_all<Activation>,
                     dim3(static_cast<unsigned>((device_layout_.size + block - 1) / block)), dim3(block), 0,
                     parameters_.data(), rounded_.data(), device_layout_.size);
    }
  }

  /// Memory on the device that kernels read and write.
  Weights<P> weights() const { return {parameters_.data(), factors(), constants_.data(), sinusoids_.data()}; }
  float* parameter_data() const { return parameters_.data(); }
  Activation* factors() const {
    if constexpr (std::is_same_v<Activation, float>)
      return parameters_.data();
    else
      return rounded_.data();
  }

  /// Batches go through the model in parts of so many sequences, which takes less memory and more time; 0: whole.
  /// Holds for what is begun afterwards.
  void use_micro_batches(Index sequences) {
    if (sequences < 0) throw UsageError("model: micro-batches of " + std::to_string(sequences) + " sequences; 0: none");
    micro_batch_ = sequences;
    single_.reset();
  }
  Index micro_batch() const { return micro_batch_; }

  /// Loss, predictions and, in `gradients()`, the gradient of the mean loss of a batch. A batch in which nothing counts
  /// has gradient 0.
  void gradient(const Batch& batch, BatchOutput& out) { go(batch, out, true); }
  /// Loss and predictions of a batch.
  void evaluate(const Batch& batch, BatchOutput& out) { go(batch, out, false); }

  /// The gradient of the last `gradient`, in the order of `layout()`.
  std::vector<float> gradients() const {
    if (single_ == nullptr) throw Error("model: there is no gradient yet; call gradient first");
    return pack_together(Single::copy(single_->pass.gradients(), device_layout_.size, queue_->stream()), layout_,
                         device_layout_);
  }
  /// The logits (rows, positions, vocab_size) of the last `gradient` or `evaluate`; of the last micro-batch if there
  /// are several.
  std::vector<float> logits() const {
    if (single_ == nullptr) throw Error("model: there are no logits yet; call gradient or evaluate first");
    const Pass<P>& pass = single_->pass;
    const Index count = pass.logit_sequences() * pass.head_shape().length * options_.vocab_size;
    return Single::copy(single_->pass.logits(), count, queue_->stream());
  }

  /// For proofs: fills all memory that a correct pass writes before it reads with NaN before each pass.
  void poison(bool on) { poison_ = on; }

  /// \throws UsageError if sequences of that shape do not fit the model.
  void check_lengths(Index length, Index target_length) const {
    if (length > options_.max_length)
      throw UsageError("model: the inputs have " + std::to_string(length) +
                       " positions, the model was made for max_length " + std::to_string(options_.max_length) +
                       "; make it with a larger max_length");
    const bool encoder = architecture_.backbone == Backbone::auto_encoder;
    const Index expected = encoder ? options_.max_length : length;
    if (target_length != expected)
      throw UsageError("model: the targets have " + std::to_string(target_length) + " positions, expected " +
                       std::to_string(expected) +
                       (encoder ? " (an auto-encoder decodes max_length positions)" : " (as many as the inputs)"));
  }
  /// \throws Error unless all ids lie in the vocabulary (targets may be ignored_target).
  void check_ids(std::span<const int> ids, bool targets) const {
    for (int id : ids)
      if ((id < 0 || id >= options_.vocab_size) && !(targets && id == ignored_target))
        throw Error(std::string("model: the ") + (targets ? "target" : "token") + " id " + std::to_string(id) +
                    " is not in the vocabulary; expected 0 to " + std::to_string(options_.vocab_size - 1) +
                    (targets ? ", or " + std::to_string(ignored_target) + " where nothing is expected" : "") +
                    ". Check that the data were made for this vocabulary size.");
  }

private:
  /// Memory for batches that come one at a time.
  struct Single {
    Index input_length;
    Index bytes;
    Buffer<std::byte> memory;
    Cutter cutter;
    Pass<P> pass;
    Buffer<float> negative_log_likelihood;
    Buffer<int> prediction;
    Buffer<StepMetrics> metrics;
    Buffer<int> position;

    Single(const Model& m, Index batch, Index length)
        : input_length(length),
          bytes(measure(m, batch, length)),
          memory(bytes, activations_of(m.micro_batch_, batch, length)),
          cutter(memory.data()),
          pass(m.architecture_, m.options_, m.device_layout_, batch, m.micro_batch_, length, cutter),
          negative_log_likelihood(pass.head_shape().tokens(), "losses"),
          prediction(pass.head_shape().tokens(), "predictions"),
          metrics(1, "metrics"),
          position(1, "metrics") {}

    static Index measure(const Model& m, Index batch, Index length) {
      Cutter cutter;
      const Pass<P> pass(m.architecture_, m.options_, m.device_layout_, batch, m.micro_batch_, length, cutter);
      return cutter.used();
    }
    static std::vector<float> copy(const float* from, Index count, cudaStream_t stream) {
      std::vector<float> values(static_cast<std::size_t>(count));
      check(cudaMemcpyAsync(values.data(), from, values.size() * sizeof(float), cudaMemcpyDeviceToHost, stream),
            "copy from the device");
      check(cudaStreamSynchronize(stream), "wait for a copy from the device");
      return values;
    }
  };

  void go(const Batch& batch, BatchOutput& out, bool train) {
    device_.use();
    check_lengths(batch.length, batch.target_length);
    const auto rows = static_cast<Index>(batch.rows.size());
    std::vector<int> inputs;
    std::vector<int> targets;
    for (Index row : batch.rows) {
      const std::span ids(batch.inputs + row * batch.length, static_cast<std::size_t>(batch.length));
      check_ids(ids, false);
      inputs.insert(inputs.end(), ids.begin(), ids.end());
      if (layout_.cls_token >= 0) inputs.push_back(class_token);
      targets.insert(targets.end(), batch.targets + row * batch.target_length,
                     batch.targets + (row + 1) * batch.target_length);
    }
    check_ids(targets, true);
    if (single_ == nullptr || single_->pass.shape().batch != rows || single_->input_length != batch.length) {
      single_.reset();
      single_ = std::make_unique<Single>(*this, rows, batch.length);
      queue_->begin_rehearsal();
      single_->pass.begin(*queue_, weights());
      enqueue(true);  // a gradient may be wanted next
      queue_->allocate_workspace();
    }
    if (poison_)
      check(cudaMemsetAsync(single_->memory.data(), 0xff, single_->memory.bytes(), queue_->stream()), "poison memory");
    single_->pass.begin(*queue_, weights());
    const Tally tally{
        static_cast<int>(std::count_if(targets.begin(), targets.end(), [](int id) { return id != ignored_target; }))};
    const int position = 0;
    const DeviceBatch& to = single_->pass.batch();
    copy_in(to.inputs, inputs);
    copy_in(to.targets, targets);
    copy_in(to.tally, std::span(&tally, 1));
    copy_in(single_->position.data(), std::span(&position, 1));
    enqueue(train);
    out.negative_log_likelihood = single_->negative_log_likelihood.download(queue_->stream());
    out.predictions = single_->prediction.download(queue_->stream());
    out.metrics = single_->metrics.download(queue_->stream())[0];
    out.counted = tally.counted;
    out.loss = tally.counted > 0 ? out.metrics.loss : 0.0;
  }

  void enqueue(bool train) {
    CrossEntropy<Activation> n{};
    n.negative_log_likelihood = single_->negative_log_likelihood.data();
    n.prediction = single_->prediction.data();
    n.metrics = single_->metrics.data();
    n.position = single_->position.data();
    single_->pass.run(*queue_, weights(), n, train);
  }

  template <class Values>
  void copy_in(auto* to, const Values& values) {
    const std::span from(values);
    check(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyHostToDevice, queue_->stream()),
          "copy a batch to the device");
  }

  Device device_;
  Architecture<P> architecture_;
  ModelOptions options_;
  ParameterLayout layout_;
  ParameterLayout device_layout_;
  std::unique_ptr<Queue> queue_;
  Buffer<float> parameters_;
  Buffer<Activation> rounded_;
  Buffer<float> constants_;
  Buffer<float> sinusoids_;
  std::unique_ptr<Single> single_;
  Index micro_batch_ = 0;
  bool poison_ = false;
};

}  // namespace mad::cuda
