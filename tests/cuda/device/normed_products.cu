// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "normed_products.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/normed_products.cuh>

#include <cstring>
#include <span>

namespace mad::testing {

bool multiply_norm_on_device(NormedProductsCase& c, Index rows) {
  if (!cuda::normed_products::is_there()) return false;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<cuda::BFloat16>> memory;
  std::vector<cuda::Buffer<float>> parameters;
  const auto uploaded = [&](const std::vector<std::uint16_t>& bits) {
    if (bits.empty()) return static_cast<cuda::BFloat16*>(nullptr);
    memory.emplace_back(static_cast<Index>(bits.size()), "an operand");
    memory.back().upload({reinterpret_cast<const cuda::BFloat16*>(bits.data()), bits.size()}, queue.stream());
    return memory.back().data();
  };
  const auto uploaded_parameter = [&](const std::vector<float>& values) {
    if (values.empty()) return static_cast<float*>(nullptr);
    parameters.emplace_back(static_cast<Index>(values.size()), "a parameter");
    parameters.back().upload(std::span(values), queue.stream());
    return parameters.back().data();
  };
  cuda::NormOfRows norm{.x = uploaded(c.x),
                        .x_stride = static_cast<std::size_t>(c.x_stride),
                        .y = uploaded(c.norm),
                        .y_stride = static_cast<std::size_t>(c.norm_stride),
                        .width = cuda::normed_products::width,
                        .weight = uploaded_parameter(c.weight),
                        .bias = uploaded_parameter(c.bias),
                        .epsilon = c.epsilon,
                        .centred = c.centred};
  const std::size_t norm_at = memory.size() - 1;
  std::vector<cuda::GroupedProduct> products;
  std::vector<std::size_t> results;
  int parts = 0;
  for (const NormedProductsCase::Product& p : c.products) {
    cuda::GroupedProduct product;
    product.terms = 1;
    product.term.front() = {
        .x = norm.y, .x_stride = norm.y_stride, .weight = uploaded(p.weight), .inner = norm.width, .in_out = false};
    product.bias = uploaded(p.bias);
    product.columns = p.columns;
    product.y_stride = static_cast<std::size_t>(p.stride);
    product.y = uploaded(p.y);
    results.push_back(memory.size() - 1);
    if (!cuda::normed_products::takes(norm) || !cuda::normed_products::takes(norm, product, parts))
      throw UsageError("the kernel does not take this product");
    parts += cuda::normed_products::parts(product);
    products.push_back(product);
  }
  cuda::normed_products::run(queue, norm, products, rows);
  queue.wait();
  const auto download = [&](std::size_t from, std::vector<std::uint16_t>& to) {
    const std::vector<cuda::BFloat16> found = memory[from].download(queue.stream());
    std::memcpy(to.data(), found.data(), found.size() * sizeof found[0]);
  };
  download(norm_at, c.norm);
  for (std::size_t i = 0; i < c.products.size(); ++i) download(results[i], c.products[i].y);
  return true;
}

}  // namespace mad::testing
