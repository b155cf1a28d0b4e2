// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "weight_gradients.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/weight_gradients.cuh>
#include <mad/cuda/products/weight_gradients_exact.cuh>

#include <bit>

namespace mad::testing {

namespace {

template <class To, class From>
cuda::Buffer<To> uploaded(const std::vector<From>& values, const cuda::Queue& queue) {
  cuda::Buffer<To> buffer(static_cast<Index>(values.size()), "an operand");
  buffer.upload({reinterpret_cast<const To*>(values.data()), values.size()}, queue.stream());
  return buffer;
}

cuda::Buffer<float> uploaded_as_floats(const std::vector<std::uint16_t>& bits, const cuda::Queue& queue) {
  std::vector<float> values;
  for (const std::uint16_t b : bits) values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16));
  return uploaded<float>(values, queue);
}

}  // namespace

void add_weight_gradients_on_device(std::vector<WeightGradientCase>& cases, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<cuda::BFloat16>> operands;
  std::vector<cuda::Buffer<float>> results;
  std::vector<cuda::WeightGradient> gradients;
  for (const WeightGradientCase& c : cases) {
    operands.push_back(uploaded<cuda::BFloat16>(c.dy, queue));
    const cuda::BFloat16* dy = operands.back().data();
    operands.push_back(uploaded<cuda::BFloat16>(c.x, queue));
    const cuda::BFloat16* x = operands.back().data();
    results.push_back(uploaded<float>(c.d_weight, queue));
    float* d_weight = results.back().data();
    results.push_back(uploaded<float>(c.d_bias, queue));
    gradients.push_back({.dy = dy,
                         .dy_stride = static_cast<std::size_t>(c.dy_stride),
                         .x = x,
                         .x_stride = static_cast<std::size_t>(c.x_stride),
                         .out = c.out,
                         .in = c.in,
                         .d_weight = d_weight,
                         .d_bias = results.back().data()});
    if (!cuda::takes(gradients.back())) throw UsageError("the kernel does not take this map");
  }
  queue.begin_rehearsal();
  cuda::add_weight_gradients(queue, gradients, rows);
  queue.release();
  queue.allocate_workspace();
  cuda::add_weight_gradients(queue, gradients, rows);
  queue.wait();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    cases[i].d_weight = results[2 * i].download(queue.stream());
    cases[i].d_bias = results[2 * i + 1].download(queue.stream());
  }
}

void add_exact_weight_gradients_on_device(std::vector<WeightGradientCase>& cases, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<float>> memory;
  const auto kept = [&](cuda::Buffer<float> buffer) {
    memory.push_back(std::move(buffer));
    return memory.back().data();
  };
  std::vector<cuda::ExactWeightGradient> gradients;
  for (const WeightGradientCase& c : cases) {
    cuda::ExactWeightGradient g{.dy = kept(uploaded_as_floats(c.dy, queue)),
                                .dy_stride = static_cast<std::size_t>(c.dy_stride),
                                .x = kept(uploaded_as_floats(c.x, queue)),
                                .x_stride = static_cast<std::size_t>(c.x_stride),
                                .out = c.out,
                                .in = c.in,
                                .d_weight = kept(uploaded<float>(c.d_weight, queue)),
                                .d_bias = kept(uploaded<float>(c.d_bias, queue))};
    if (c.in == 0) g.x = nullptr;
    if (c.shares_bias) g.d_bias = gradients.back().d_bias;
    if (!cuda::are_few(g, rows)) throw UsageError("the kernel does not take this map");
    gradients.push_back(g);
  }
  cuda::add_exact_weight_gradients(queue, gradients, rows);
  queue.wait();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    cases[i].d_weight = memory[4 * i + 2].download(queue.stream());
    cases[i].d_bias = memory[4 * i + 3].download(queue.stream());
  }
}

bool takes_weight_gradient(int out, int in, std::size_t dy_stride, std::size_t x_stride, std::size_t bytes) {
  alignas(16) static cuda::BFloat16 rows[16];
  const cuda::BFloat16* from = rows + bytes / sizeof(cuda::BFloat16);
  return cuda::takes({.dy = rows,
                      .dy_stride = dy_stride,
                      .x = from,
                      .x_stride = x_stride,
                      .out = out,
                      .in = in,
                      .d_weight = nullptr,
                      .d_bias = nullptr}) &&
         cuda::takes({.dy = from,
                      .dy_stride = dy_stride,
                      .x = rows,
                      .x_stride = x_stride,
                      .out = out,
                      .in = in,
                      .d_weight = nullptr,
                      .d_bias = nullptr});
}

}  // namespace mad::testing
