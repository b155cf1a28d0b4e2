// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "normed_head.hpp"
#include "operands.hpp"

#include <mad/core/error.hpp>
#include <mad/cuda/device/device.hpp>
#include <mad/cuda/kernels/normed_output_head.cuh>

#include <algorithm>
#include <cstring>

namespace mad::testing {

namespace {

constexpr Index width = 128;

/// A result in the device's memory and on the host.
template <class T>
class Result {
public:
  using Host = std::vector<typename Operands<T>::Host>;

  Result(Operands<T>& operands, Host& host)
      : operands_(operands), host_(host), data_(operands.upload(host)), number_(operands.last()) {}

  /// Null where it is not wanted.
  T* from(Index i) const { return data_ != nullptr ? data_ + i : nullptr; }
  void fetch() const {
    if (data_ != nullptr) host_ = operands_.download(number_);
  }

private:
  Operands<T>& operands_;
  Host& host_;
  T* data_;
  std::size_t number_;
};

struct Part {
  Index begin;
  Index rows;
  float* partial;
};

}  // namespace

void normed_head_on_device(NormedHeadCase& c, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<cuda::BFloat16> operands(queue);
  Operands<float> numbers(queue);
  Operands<int> integers(queue);
  Operands<std::byte> memory(queue);
  Operands<cuda::StepMetrics> of_batches(queue);
  const cuda::BFloat16* x = operands.upload(c.x);
  const float* norm_weight = numbers.upload(c.norm_weight);
  const float* norm_bias = numbers.upload(c.norm_bias);
  const cuda::BFloat16* weight = operands.upload(c.weight);
  const float* bias = numbers.upload(c.bias);
  const int* targets = integers.upload(c.targets);
  const Result y(operands, c.y), d_logits(operands, c.d_logits), dx(operands, c.dx);
  const Result logits(numbers, c.logits), negative_log_likelihood(numbers, c.negative_log_likelihood);
  const Result prediction(integers, c.prediction);
  std::vector<int> position{c.position}, diverged{c.diverged};
  const Result at(integers, position), has_diverged(integers, diverged);
  std::vector<cuda::StepMetrics> metrics;
  for (const NormedHeadCase::Metrics& m : c.metrics)
    metrics.push_back({m.loss, m.accuracy, m.perplexity, m.micro_accuracy, m.counted});
  const Result batches(of_batches, metrics);
  const auto ignored = std::count(c.targets.begin(), c.targets.begin() + rows, cuda::ignored_target);
  const cuda::Tally begin{static_cast<int>(rows - ignored)};
  std::vector<std::byte> tally(sizeof(begin) + c.hits.size() * sizeof(int));
  std::memcpy(tally.data(), &begin, sizeof(begin));
  std::memcpy(tally.data() + sizeof(begin), c.hits.data(), c.hits.size() * sizeof(int));
  const Result counts(memory, tally);

  std::vector<Part> parts;
  if (c.first_rows > 0) parts.push_back({0, c.first_rows, nullptr});
  parts.push_back({c.first_rows, rows - c.first_rows, nullptr});
  std::vector<Result<float>> sums;
  c.partial.assign(c.dx.empty() ? 0 : parts.size(), {});
  for (std::size_t i = 0; i < c.partial.size(); ++i) {
    const Index blocks = cuda::normed_head_blocks(queue, parts[i].rows);
    c.partial[i].assign(static_cast<std::size_t>((blocks + 1) * 2 * width), NormedHeadCase::untouched);
    sums.emplace_back(numbers, c.partial[i]);
    parts[i].partial = sums.back().from(0);
  }
  const auto run = [&] {
    for (const Part& part : parts) {
      const cuda::NormOfRows norm{.x = x + part.begin * c.x_stride,
                                  .x_stride = static_cast<std::size_t>(c.x_stride),
                                  .y = y.from(part.begin * c.y_stride),
                                  .y_stride = static_cast<std::size_t>(c.y_stride),
                                  .width = width,
                                  .weight = norm_weight,
                                  .bias = norm_bias,
                                  .epsilon = c.epsilon,
                                  .centred = c.centred};
      const cuda::OutputHead head{.x = nullptr,
                                  .weight = weight,
                                  .bias = bias,
                                  .logits = logits.from(part.begin * c.classes),
                                  .dx = dx.from(part.begin * width)};
      cuda::CrossEntropy<cuda::BFloat16> n{};
      n.targets = targets + part.begin;
      n.tally = reinterpret_cast<cuda::Tally*>(counts.from(0));
      n.hits = reinterpret_cast<int*>(n.tally + 1);
      n.d_logits = d_logits.from(part.begin * c.classes);
      n.negative_log_likelihood = negative_log_likelihood.from(part.begin);
      n.prediction = prediction.from(part.begin);
      n.metrics = batches.from(0);
      n.position = at.from(0);
      n.diverged = has_diverged.from(0);
      n.is_last = part.begin + part.rows == rows;
      if (!cuda::takes_normed_head(norm, c.classes, head.weight, head.dx))
        throw UsageError("the kernel does not take this head");
      queue.release();
      cuda::normed_output_head(queue, norm, head, n, part.rows, c.classes, part.partial);
      queue.wait_for(queue.side());
    }
  };
  queue.begin_rehearsal();
  run();
  queue.allocate_workspace();
  run();
  queue.wait();
  for (const Result<cuda::BFloat16>* r : {&y, &d_logits, &dx}) r->fetch();
  for (const Result<float>* r : {&logits, &negative_log_likelihood}) r->fetch();
  for (const Result<int>* r : {&prediction, &at, &has_diverged}) r->fetch();
  for (const Result<float>& r : sums) r.fetch();
  counts.fetch();
  batches.fetch();
  std::memcpy(c.hits.data(), tally.data() + sizeof(begin), c.hits.size() * sizeof(int));
  c.position = position[0];
  c.diverged = diverged[0];
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    const cuda::StepMetrics& m = metrics[i];
    c.metrics[i] = {m.loss, m.accuracy, m.perplexity, m.micro_accuracy, m.counted};
  }
}

bool takes_normed_head_on_device(int columns, int classes, std::size_t stride, Late late) {
  alignas(16) static cuda::BFloat16 rows[16];
  const auto begin = [&](Late operand) { return rows + (late == operand ? 4 : 0); };
  const cuda::NormOfRows norm{
      .x = begin(Late::x), .x_stride = stride, .y = begin(Late::y), .y_stride = stride, .width = columns};
  return cuda::takes_normed_head(norm, classes, begin(Late::weight), begin(Late::dx));
}

}  // namespace mad::testing
