// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "norm_gradient_product.hpp"
#include "operands.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/norm_gradient_product.cuh>

#include <limits>
#include <span>

namespace mad::testing {

bool norm_gradient_on_device(NormGradientCase& c, Index rows) {
  namespace d = cuda::norm_gradient_product;
  if (!cuda::normed_products::is_there()) return false;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<cuda::BFloat16> operands(queue);
  Operands<float> parameters(queue);
  cuda::GroupedProduct product;
  product.columns = d::width;
  for (const NormGradientCase::Term& t : c.terms)
    product.term[static_cast<std::size_t>(product.terms++)] = {.x = operands.upload(t.dy),
                                                               .x_stride = static_cast<std::size_t>(t.stride),
                                                               .weight = operands.upload(t.weight),
                                                               .inner = t.inner,
                                                               .in_out = true};
  cuda::NormGradient norm{.x = operands.upload(c.x),
                          .x_stride = static_cast<std::size_t>(c.x_stride),
                          .addend = operands.upload(c.addend),
                          .addend_stride = static_cast<std::size_t>(c.addend_stride),
                          .weight = parameters.upload(c.weight),
                          .epsilon = c.epsilon,
                          .centred = c.centred};
  norm.dx = c.in_place ? const_cast<cuda::BFloat16*>(norm.addend) : operands.upload(c.dx);
  norm.dx_stride = static_cast<std::size_t>(c.in_place ? c.addend_stride : c.dx_stride);
  if (!d::takes(product) || !d::takes(norm)) throw UsageError("the kernel does not take this product");
  const Index blocks = d::blocks(queue, rows);
  const std::vector<float> poison(static_cast<std::size_t>(blocks * d::sums), std::numeric_limits<float>::quiet_NaN());
  cuda::Buffer<float> partial(blocks * d::sums, "sums");
  partial.upload(std::span(poison), queue.stream());
  d::run(queue, product, norm, rows, partial.data());
  queue.wait();
  c.dx = operands.download(operands.last());
  c.sums.assign(d::sums, 0);
  const std::vector<float> of_blocks = partial.download(queue.stream());
  for (std::size_t i = 0; i < of_blocks.size(); ++i) c.sums[i % d::sums] += double{of_blocks[i]};
  return true;
}

}  // namespace mad::testing
