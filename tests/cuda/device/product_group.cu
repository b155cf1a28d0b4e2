// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "product_group.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/product_group.cuh>

#include <cstring>

namespace mad::testing {

void multiply_together_on_device(std::vector<ProductCase>& cases, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<cuda::BFloat16>> memory;
  const auto uploaded = [&](const std::vector<std::uint16_t>& bits) {
    if (bits.empty()) return static_cast<cuda::BFloat16*>(nullptr);
    memory.emplace_back(static_cast<Index>(bits.size()), "an operand");
    memory.back().upload({reinterpret_cast<const cuda::BFloat16*>(bits.data()), bits.size()}, queue.stream());
    return memory.back().data();
  };
  std::vector<cuda::GroupedProduct> products;
  std::vector<std::size_t> results;
  for (const ProductCase& c : cases) {
    cuda::GroupedProduct p;
    p.columns = c.columns;
    for (const ProductCase::Term& t : c.terms)
      p.term[static_cast<std::size_t>(p.terms++)] = {.x = uploaded(t.x),
                                                     .x_stride = static_cast<std::size_t>(t.x_stride),
                                                     .weight = uploaded(t.weight),
                                                     .inner = t.inner,
                                                     .in_out = t.in_out};
    p.bias = uploaded(c.bias);
    p.addend = uploaded(c.addend);
    p.y = uploaded(c.y);
    results.push_back(memory.size() - 1);
    p.y_stride = static_cast<std::size_t>(c.y_stride);
    p.addend_stride = p.y_stride;
    if (c.adds_to_y) p.addend = p.y;
    if (!cuda::takes(p)) throw UsageError("the kernel does not take this product");
    products.push_back(p);
  }
  if (!cuda::fit_together(products)) throw UsageError("the products do not fit together");
  cuda::multiply_together(queue, products, rows);
  queue.wait();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::vector<cuda::BFloat16> found = memory[results[i]].download(queue.stream());
    std::memcpy(cases[i].y.data(), found.data(), found.size() * sizeof found[0]);
  }
}

}  // namespace mad::testing
