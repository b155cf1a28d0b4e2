// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "operands.hpp"
#include "product_group.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/product_group.cuh>

namespace mad::testing {

void multiply_together_on_device(std::vector<ProductCase>& cases, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<cuda::BFloat16> operands(queue);
  std::vector<cuda::GroupedProduct> products;
  std::vector<std::size_t> results;
  for (const ProductCase& c : cases) {
    cuda::GroupedProduct p;
    p.columns = c.columns;
    for (const ProductCase::Term& t : c.terms)
      p.term[static_cast<std::size_t>(p.terms++)] = {.x = operands.upload(t.x),
                                                     .x_stride = static_cast<std::size_t>(t.x_stride),
                                                     .weight = operands.upload(t.weight),
                                                     .inner = t.inner,
                                                     .in_out = t.in_out};
    p.bias = operands.upload(c.bias);
    p.addend = operands.upload(c.addend);
    p.y = operands.upload(c.y);
    results.push_back(operands.last());
    p.y_stride = static_cast<std::size_t>(c.y_stride);
    p.addend_stride = p.y_stride;
    if (c.adds_to_y) p.addend = p.y;
    if (!cuda::takes(p)) throw UsageError("the kernel does not take this product");
    products.push_back(p);
  }
  if (!cuda::fit_together(products)) throw UsageError("the products do not fit together");
  cuda::multiply_together(queue, products, rows);
  queue.wait();
  for (std::size_t i = 0; i < cases.size(); ++i) cases[i].y = operands.download(results[i]);
}

}  // namespace mad::testing
