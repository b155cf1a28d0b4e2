// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "normed_products.hpp"
#include "operands.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/normed_products.cuh>

namespace mad::testing {

bool multiply_norm_on_device(NormedProductsCase& c, Index rows) {
  if (!cuda::normed_products::is_there()) return false;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<cuda::BFloat16> operands(queue);
  Operands<float> parameters(queue);
  cuda::NormOfRows norm{.x = operands.upload(c.x),
                        .x_stride = static_cast<std::size_t>(c.x_stride),
                        .y = operands.upload(c.norm),
                        .y_stride = static_cast<std::size_t>(c.norm_stride),
                        .width = cuda::normed_products::width,
                        .weight = parameters.upload(c.weight),
                        .bias = parameters.upload(c.bias),
                        .epsilon = c.epsilon,
                        .centred = c.centred};
  const std::size_t norm_at = operands.last();
  std::vector<cuda::GroupedProduct> products;
  std::vector<std::size_t> results;
  int parts = 0;
  for (const NormedProductsCase::Product& p : c.products) {
    cuda::GroupedProduct product;
    product.terms = 1;
    product.term.front() = {.x = norm.y,
                            .x_stride = norm.y_stride,
                            .weight = operands.upload(p.weight),
                            .inner = norm.width,
                            .in_out = false};
    product.bias = operands.upload(p.bias);
    product.columns = p.columns;
    product.y_stride = static_cast<std::size_t>(p.stride);
    product.y = operands.upload(p.y);
    results.push_back(operands.last());
    if (!cuda::normed_products::takes(norm) || !cuda::normed_products::takes(norm, product, parts))
      throw UsageError("the kernel does not take this product");
    parts += cuda::normed_products::parts(product);
    products.push_back(product);
  }
  cuda::normed_products::run(queue, norm, products, rows);
  queue.wait();
  c.norm = operands.download(norm_at);
  for (std::size_t i = 0; i < c.products.size(); ++i) c.products[i].y = operands.download(results[i]);
  return true;
}

}  // namespace mad::testing
