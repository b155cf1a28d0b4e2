// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "norm_gradient_product.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/norm_gradient_product.cuh>

#include <cstring>
#include <limits>
#include <span>

namespace mad::testing {

bool norm_gradient_on_device(NormGradientCase& c, Index rows) {
  namespace d = cuda::norm_gradient_product;
  if (!cuda::normed_products::is_there()) return false;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<cuda::BFloat16>> memory;
  const auto uploaded = [&](const std::vector<std::uint16_t>& bits) {
    if (bits.empty()) return static_cast<cuda::BFloat16*>(nullptr);
    memory.emplace_back(static_cast<Index>(bits.size()), "an operand");
    memory.back().upload({reinterpret_cast<const cuda::BFloat16*>(bits.data()), bits.size()}, queue.stream());
    return memory.back().data();
  };
  cuda::Buffer<float> weight(static_cast<Index>(c.weight.size()), "a parameter");
  weight.upload(std::span<const float>(c.weight), queue.stream());
  cuda::GroupedProduct product;
  product.columns = d::width;
  for (const NormGradientCase::Term& t : c.terms)
    product.term[static_cast<std::size_t>(product.terms++)] = {.x = uploaded(t.dy),
                                                               .x_stride = static_cast<std::size_t>(t.stride),
                                                               .weight = uploaded(t.weight),
                                                               .inner = t.inner,
                                                               .in_out = true};
  d::NormGradient norm{.x = uploaded(c.x),
                       .x_stride = static_cast<std::size_t>(c.x_stride),
                       .addend = uploaded(c.addend),
                       .addend_stride = static_cast<std::size_t>(c.addend_stride),
                       .weight = weight.data(),
                       .epsilon = c.epsilon,
                       .centred = c.centred};
  if (!c.in_place) uploaded(c.dx);
  norm.dx = memory.back().data();
  norm.dx_stride = static_cast<std::size_t>(c.in_place ? c.addend_stride : c.dx_stride);
  if (!d::takes(product) || !d::takes(norm)) throw UsageError("the kernel does not take this product");
  const Index blocks = d::blocks(queue, rows);
  const std::vector<float> poison(static_cast<std::size_t>(blocks * d::sums), std::numeric_limits<float>::quiet_NaN());
  cuda::Buffer<float> partial(blocks * d::sums, "sums");
  partial.upload(std::span(poison), queue.stream());
  d::run(queue, product, norm, rows, partial.data());
  queue.wait();
  const std::vector<cuda::BFloat16> found = memory.back().download(queue.stream());
  c.dx.resize(found.size());
  std::memcpy(c.dx.data(), found.data(), found.size() * sizeof found[0]);
  c.sums.assign(d::sums, 0);
  const std::vector<float> of_blocks = partial.download(queue.stream());
  for (std::size_t i = 0; i < of_blocks.size(); ++i) c.sums[i % d::sums] += double{of_blocks[i]};
  return true;
}

}  // namespace mad::testing
