// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A training run on the device: the whole step, from the choice of the batch to the optimiser, is one CUDA graph.
#pragma once

#include <mad/cuda/device/graph.hpp>
#include <mad/cuda/model.cuh>

#include <map>

namespace mad::cuda {

/// A set of examples on the host: inputs and targets are (rows, columns) arrays of token ids.
struct Examples {
  std::span<const int> inputs;
  std::span<const int> targets;
  Index rows = 0;
  Index columns = 0;
};

/// What the optimiser keeps, in the order of the model's layout on the host.
struct Moments {
  std::vector<float> first;  ///< empty for SGD
  std::vector<float> second;
  Index steps = 0;
};

/// Trains a model on examples that stay on the device, batches in the model's micro-batches. `start_...` puts work into
/// the model's stream and returns; `finish` waits for it. Runs of several models go side by side if all are started
/// before one is waited for.
///
/// A training loss that is no finite number stops the optimiser: the parameters stay what they were before that step.
template <class P>
class Training {
public:
  using Activation = typename P::Activation;

  /// \throws UsageError or Error if the examples do not fit the model.
  Training(Model<P>& model, const Examples& train, const Examples& test, Index batch_size,
           const OptimizerSettings& settings)
      : model_(model), settings_(settings), batch_size_(batch_size), train_(model, train), test_(model, test) {
    if (batch_size < 1)
      throw UsageError("training: batch_size is " + std::to_string(batch_size) + "; it must be at least 1");
    if (train.columns != test.columns)
      throw UsageError("training: the training examples have " + std::to_string(train.columns) +
                       " columns, the test examples " + std::to_string(test.columns));
    const cudaStream_t stream = model.queue().stream();
    segments_ = make_segments(settings, model.device_layout().infos);
    const std::vector<Piece> pieces = make_pieces(segments_);
    device_segments_ = Buffer<Segment>(static_cast<Index>(segments_.size()), "the optimiser's segments");
    device_segments_.upload(segments_, stream);
    pieces_ = Buffer<Piece>(static_cast<Index>(pieces.size()), "the optimiser's pieces");
    pieces_.upload(pieces, stream);
    rates_ = Buffer<double>(static_cast<Index>(segments_.size()), "the learning rates");
    factors_ = Buffer<StepFactors>(static_cast<Index>(segments_.size()), "the optimiser's factors");
    progress_ = Buffer<Progress>(1, "the progress");
    order_ = Buffer<int>(train.rows, "the order of the examples");
    metrics_ = Buffer<StepMetrics>(train_batches() + test_batches(), "the metrics");
    const Index moments = settings.adamw ? model.device_layout().size : 0;
    first_moment_ = Buffer<float>(moments, "the optimiser's moments");
    second_moment_ = Buffer<float>(moments, "the optimiser's moments");
    for (const Buffer<float>* m : {&first_moment_, &second_moment_}) model.queue().zero(m->data(), m->bytes());
    model.queue().zero(progress_.data(), progress_.bytes());
    make_graphs();
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  Index batches(Index rows) const { return (rows + batch_size_ - 1) / batch_size_; }
  Index train_batches() const { return batches(train_.rows); }
  Index test_batches() const { return batches(test_.rows); }

  /// Starts an epoch over the training examples in the given order. `rate(own)` is the learning rate of parameters
  /// whose own rate is `own` (not positive: the run's).
  template <class Rate>
  void start_epoch(std::span<const Index> order, const Rate& rate) {
    begin_epoch(order, rate);
    for (Index b = 0; b < train_batches();) b += start_steps(b);
  }

  /// The same in parts: `begin_epoch`, then `start_steps` for all batches in order, from \p first on.
  template <class Rate>
  void begin_epoch(std::span<const Index> order, const Rate& rate, Index first = 0) {
    finish();
    if (static_cast<Index>(order.size()) != train_.rows)
      throw Error("training: the order names " + std::to_string(order.size()) + " examples, there are " +
                  std::to_string(train_.rows));
    host_order_.assign(order.begin(), order.end());
    host_rates_.clear();
    for (const Segment& s : segments_) host_rates_.push_back(rate(s.own_rate));
    host_position_ = static_cast<int>(first);
    copy_in(order_.data(), std::span<const int>(host_order_));
    copy_in(rates_.data(), std::span<const double>(host_rates_));
    copy_in(&progress_.data()->position, std::span<const int>(&host_position_, 1));
  }
  /// Starts some steps, the first of them with this batch; returns how many.
  Index start_steps(Index batch) {
    const Index started = launch(train_graphs_, train_.rows, batch);
    expect(batch, started);
    return started;
  }

  /// Starts an evaluation of the training or the test examples, in order. It may follow the steps of an epoch at once;
  /// metrics of an epoch and of the training examples must be fetched before the others are measured.
  void start_evaluation(bool of_test) {
    model_.device().use();
    if (!of_test) finish();
    model_.queue().zero(&progress_.data()->position, sizeof(int));
    const Index rows = of_test ? test_.rows : train_.rows;
    auto& graphs = of_test ? test_graphs_ : train_evaluation_graphs_;
    for (Index b = 0; b < batches(rows);) b += launch(graphs, rows, b);
    expect(of_test ? train_batches() : 0, batches(rows));
  }

  /// Waits for the work that was started and returns the metrics of its batches, in order.
  std::vector<StepMetrics> finish() {
    model_.device().use();
    std::vector<StepMetrics> metrics;
    for (const auto& [first, count] : std::exchange(expected_, {})) {
      const std::vector<StepMetrics> part = metrics_.download(model_.queue().stream(), first, count);
      metrics.insert(metrics.end(), part.begin(), part.end());
    }
    return metrics;
  }

  /// The optimiser's state, to go on from it bit for bit.
  Moments moments() {
    model_.device().use();
    const cudaStream_t stream = model_.queue().stream();
    const auto fetch = [&](const Buffer<float>& from) {
      if (from.size() == 0) return std::vector<float>{};
      return pack_together(from.download(stream), model_.layout(), model_.device_layout());
    };
    return {fetch(first_moment_), fetch(second_moment_), steps()};
  }
  /// \throws Error if the moments are another model's or another optimiser's.
  void set_moments(const Moments& moments) {
    finish();
    const cudaStream_t stream = model_.queue().stream();
    const auto put = [&](std::span<const float> values, Buffer<float>& to) {
      const Index expected = to.size() == 0 ? 0 : model_.layout().size;
      if (static_cast<Index>(values.size()) != expected)
        throw Error("training: the optimiser's moments have " + std::to_string(values.size()) + " elements, expected " +
                    std::to_string(expected));
      if (expected > 0) to.upload(spread_out(values, model_.layout(), model_.device_layout()), stream);
    };
    put(moments.first, first_moment_);
    put(moments.second, second_moment_);
    const Progress progress{.steps = moments.steps};
    progress_.upload(std::span(&progress, 1), stream);
  }

  /// Sequences in a batch: the last of a set may be smaller.
  Index sequences(Index rows, Index batch) const { return std::min(batch_size_, rows - batch * batch_size_); }

  /// Kernels, copies and the like in a recorded training step.
  std::size_t step_nodes() const { return train_graphs_.begin()->second.nodes(); }
  Index steps() const { return static_cast<Index>(progress_.download(model_.queue().stream())[0].steps); }

private:
  struct Data {
    Index rows;
    Index columns;
    Buffer<int> inputs;
    Buffer<int> targets;

    Data(Model<P>& model, const Examples& e)
        : rows(e.rows),
          columns(e.columns),
          inputs(e.rows * e.columns, "examples"),
          targets(e.rows * e.columns, "examples") {
      model.check_lengths(e.columns, e.columns);
      if (e.rows < 1) throw UsageError("training: a set of examples is empty; it needs at least 1");
      model.check_ids(e.inputs, false);
      model.check_ids(e.targets, true);
      inputs.upload(e.inputs, model.queue().stream());
      targets.upload(e.targets, model.queue().stream());
    }
  };
  using Graphs = std::map<Index, RecordedSteps>;  // by the number of sequences

  /// Starts steps from a batch on, as many as one call takes; returns how many.
  Index launch(const Graphs& graphs, Index rows, Index batch) {
    const Index full = rows / batch_size_;
    return graphs.at(sequences(rows, batch)).launch(model_.queue().stream(), std::max<Index>(full - batch, 1));
  }

  /// Every shape that occurs is rehearsed first, then captured.
  void make_graphs() {
    std::vector<Index> sizes;
    for (const Data* data : {&train_, &test_}) {
      sizes.push_back(sequences(data->rows, 0));
      sizes.push_back(sequences(data->rows, batches(data->rows) - 1));
    }
    Index bytes = 0;
    for (Index size : sizes) bytes = std::max(bytes, make_pass(size, Cutter{}).second);
    memory_ = Buffer<std::byte>(bytes, activations_of(model_.micro_batch(), batch_size_, train_.columns));
    for (Index size : sizes)
      if (!passes_.contains(size)) passes_.emplace(size, make_pass(size, Cutter(memory_.data())).first);
    Queue& queue = model_.queue();
    queue.begin_rehearsal();
    for (auto& [size, pass] : passes_) step(pass);
    queue.allocate_workspace();
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      Pass<P>& pass = passes_.at(sizes[i]);
      const bool of_test = i >= 2;
      const Data& data = of_test ? test_ : train_;
      const Index most = sizes[i] == batch_size_ ? data.rows / batch_size_ : 1;
      if (!of_test) capture(train_graphs_, sizes[i], most, [&] { step(pass); });
      capture(of_test ? test_graphs_ : train_evaluation_graphs_, sizes[i], most, [&] { evaluation(pass, data); });
    }
    queue.wait();
  }

  std::pair<Pass<P>, Index> make_pass(Index size, Cutter cutter) {
    Pass<P> pass(model_.architecture(), model_.options(), model_.device_layout(), size, model_.micro_batch(),
                 train_.columns, cutter);
    return {std::move(pass), cutter.used()};
  }

  template <class Work>
  void capture(Graphs& graphs, Index size, Index most, const Work& work) {
    if (graphs.contains(size)) return;
    try {
      graphs.try_emplace(size, model_.queue().stream(), most, work);
    } catch (...) {
      model_.queue().forget();
      throw;
    }
  }

  /// Selects a batch, and embeds it if the pass takes it as a whole; returns whether it does.
  template <bool Train>
  bool select(Pass<P>& pass, const Data& data) {
    Queue& queue = model_.queue();
    queue.release();
    pass.begin(queue, model_.weights());
    const Selection<Train> selection{.data = {data.inputs.data(), data.targets.data(), Train ? order_.data() : nullptr},
                                     .batch = pass.batch(),
                                     .batch_size = static_cast<int>(batch_size_),
                                     .sequences = static_cast<int>(pass.shape().batch),
                                     .length = static_cast<int>(data.columns),
                                     .target_length = static_cast<int>(data.columns),
                                     .progress = progress_.data(),
                                     .settings = settings_,
                                     .segments = device_segments_.data(),
                                     .rates = rates_.data(),
                                     .segment_count = static_cast<int>(segments_.size()),
                                     .factors = factors_.data()};
    if (pass.is_whole())
      pass.embed(queue, model_.weights(), selection);
    else
      cuda::select(queue, selection);
    return pass.is_whole();
  }

  /// Metrics of the test batches lie behind those of the training batches.
  CrossEntropy<Activation> metrics_place(const Data& data) {
    CrossEntropy<Activation> n{};
    n.metrics = metrics_.data() + (&data == &test_ ? train_batches() : 0);
    n.position = &progress_.data()->position;
    return n;
  }

  void step(Pass<P>& pass) {
    Queue& queue = model_.queue();
    const bool is_embedded = select<true>(pass, train_);
    CrossEntropy<Activation> place = metrics_place(train_);
    place.diverged = &progress_.data()->diverged;
    pass.run(queue, model_.weights(), place, true, is_embedded);
    queue.release();
    queue.launch(
        "the optimiser",
        settings_.adamw ? optimizer_detail::update<true, Activation> : optimizer_detail::update<false, Activation>,
        dim3(static_cast<unsigned>(pieces_.size())), dim3(optimizer_detail::threads), 0, settings_, pieces_.data(),
        factors_.data(), model_.parameter_data(), model_.factors(), pass.gradients(), first_moment_.data(),
        second_moment_.data(), progress_.data());
  }

  void evaluation(Pass<P>& pass, const Data& data) {
    const bool is_embedded = select<false>(pass, data);
    pass.run(model_.queue(), model_.weights(), metrics_place(data), false, is_embedded);
  }

  /// Notes that `count` batches leave metrics from place `first` on.
  void expect(Index first, Index count) {
    if (!expected_.empty() && expected_.back().first + expected_.back().second == first)
      expected_.back().second += count;
    else
      expected_.emplace_back(first, count);
  }

  template <class T>
  void copy_in(T* to, std::span<const T> values) {
    check(cudaMemcpyAsync(to, values.data(), values.size_bytes(), cudaMemcpyHostToDevice, model_.queue().stream()),
          "copy to the device");
  }

  Model<P>& model_;
  OptimizerSettings settings_;
  Index batch_size_;
  Data train_;
  Data test_;
  std::vector<Segment> segments_;
  std::vector<int> host_order_;
  std::vector<double> host_rates_;
  int host_position_ = 0;
  Buffer<Segment> device_segments_;
  Buffer<Piece> pieces_;
  Buffer<double> rates_;
  Buffer<StepFactors> factors_;
  Buffer<Progress> progress_;
  Buffer<int> order_;
  Buffer<StepMetrics> metrics_;
  Buffer<float> first_moment_;
  Buffer<float> second_moment_;
  Buffer<std::byte> memory_;
  std::map<Index, Pass<P>> passes_;
  Graphs train_graphs_;
  Graphs train_evaluation_graphs_;
  Graphs test_graphs_;
  std::vector<std::pair<Index, Index>> expected_;  ///< places of metrics that are on their way: first, count
};

}  // namespace mad::cuda
