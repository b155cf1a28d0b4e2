// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A layer on random numbers: one forward and one backward pass, and derivatives by central differences.
#pragma once

#include <mad/cpu/single_layer.hpp>
#include <mad/models/initial_values.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace mad::testing {

/// A layer in double precision at one shape, with random input, output gradient and parameters that all follow from
/// the seed. The objective whose gradients are meant everywhere is sum(dy * y).
class Trial {
public:
  /// The first tensor is the input, the others are the trained parameters.
  struct Tensor {
    std::string name;
    int parameter = -1;  ///< index in the graph, or -1 for the input
    double* value = nullptr;
    Index count = 0;
    std::vector<double> gradient;  ///< as the backward pass gave it
  };

  /// Parameters are moved off their initial values by normal numbers of deviation `disturbance`: at zero biases and
  /// unit weights many mistakes cancel.
  Trial(const cpu::Block<double>& block, const Shape& shape, double disturbance, std::uint64_t seed)
      : block_(&block), layer_(block, shape) {
    random::Generator generator(seed);
    NormalSource normal(generator);
    const auto draw = [&](Index count) {
      std::vector<double> values(static_cast<std::size_t>(count));
      for (double& v : values) v = normal();
      return values;
    };
    input_ = draw(shape.tokens() * block.width);
    output_gradient_ = draw(shape.tokens() * block.output_width);
    output_.resize(output_gradient_.size());
    x_.resize(static_cast<Index>(input_.size()));
    dx_.resize(x_.size());
    y_.resize(static_cast<Index>(output_.size()));
    dy_.resize(y_.size());
    tensors_.push_back({"input", -1, input_.data(), static_cast<Index>(input_.size()), {}});
    for (int i = 0; i < static_cast<int>(block.parameters.size()); ++i) {
      const Parameter& p = block.parameters[static_cast<std::size_t>(i)];
      if (p.is_constant) continue;
      const Index count = p.count(shape.max_length);
      const std::span<double> values(layer_.parameter(i), static_cast<std::size_t>(count));
      fill_initial(p, p.initial, shape.max_length, generator, values);
      for (double& v : values) v += disturbance * normal();
      tensors_.push_back({std::string(p.name.view()), i, values.data(), count, {}});
    }
    for (Tensor& tensor : tensors_) tensor.gradient.resize(static_cast<std::size_t>(tensor.count));
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  const Shape& shape() const { return layer_.shape(); }
  Index width() const { return block_->width; }
  Index output_width() const { return block_->output_width; }
  std::vector<double>& input() { return input_; }
  const std::vector<double>& output() const { return output_; }
  const std::vector<double>& output_gradient() const { return output_gradient_; }
  std::vector<Tensor>& tensors() { return tensors_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }

  void forward() {
    std::copy(input_.begin(), input_.end(), x_.data());
    layer_.forward(x_.data(), y_.data());
    std::copy_n(y_.data(), y_.size(), output_.begin());
  }

  /// Both passes. Gradients of parameters start at `start`; the batch goes backward `batches` times, as if a training
  /// step had so many equal micro-batches.
  void run(double start = 0, int batches = 1) {
    forward();
    std::copy(output_gradient_.begin(), output_gradient_.end(), dy_.data());
    layer_.gradients().fill(start);
    layer_.begin_backward();
    for (int n = 0; n < batches; ++n) layer_.backward_batch(x_.data(), y_.data(), dy_.data(), dx_.data());
    layer_.end_backward();
    // What a layer must only read is taken over too, so that a change does not go unnoticed.
    std::copy_n(x_.data(), x_.size(), input_.begin());
    std::copy_n(y_.data(), y_.size(), output_.begin());
    std::copy_n(dy_.data(), dy_.size(), output_gradient_.begin());
    std::copy_n(dx_.data(), dx_.size(), tensors_[0].gradient.begin());
    for (Tensor& tensor : tensors_)
      if (tensor.parameter >= 0) std::copy_n(layer_.gradient(tensor.parameter), tensor.count, tensor.gradient.begin());
  }

  /// The derivative of the objective when `tensor` moves along `direction`.
  struct Derivative {
    double value = 0;
    double noise = 0;  ///< what rounding of the outputs can make of it
  };

  /// By the central difference of fourth order with points at one and two steps: its own error is
  /// step^4 / 30 of the fifth derivative, so that a large step, which drowns the rounding, is a good one.
  Derivative difference(Tensor& tensor, const std::vector<double>& direction, double step) {
    const std::vector<double> before(tensor.value, tensor.value + tensor.count);
    std::vector<double> sum(output_.size(), 0.0);
    double size = 0;
    constexpr double weights[4][2] = {{1, 8.0 / 12}, {-1, -8.0 / 12}, {2, -1.0 / 12}, {-2, 1.0 / 12}};
    for (const auto& [place, weight] : weights) {
      for (std::size_t k = 0; k < before.size(); ++k) tensor.value[k] = before[k] + place * step * direction[k];
      forward();
      for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += weight * output_[k];
    }
    std::copy(before.begin(), before.end(), tensor.value);
    Derivative d;
    for (std::size_t k = 0; k < sum.size(); ++k) {
      d.value += output_gradient_[k] * sum[k];
      size += std::abs(output_gradient_[k] * output_[k]);
    }
    d.value /= step;
    // An output carries the rounding of a few dozen operations.
    d.noise = 32 * std::numeric_limits<double>::epsilon() * size / step;
    return d;
  }

private:
  const cpu::Block<double>* block_;
  cpu::SingleLayer<double> layer_;
  std::vector<double> input_, output_, output_gradient_;
  cpu::Buffer<double> x_, y_, dx_, dy_;  ///< aligned as a model's memory is: the last bits of a product depend on it
  std::vector<Tensor> tensors_;
};

}  // namespace mad::testing
