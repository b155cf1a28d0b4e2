// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "small_product.hpp"

#include <mad/core/error.hpp>
#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/matrix_product.cuh>

namespace mad::testing {

void multiply_on_device(SmallProductCase& product) {
  SmallProductCase& p = product;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  std::vector<cuda::Buffer<float>> memory;
  const auto uploaded = [&](const std::vector<float>& values) {
    if (values.empty()) return static_cast<float*>(nullptr);
    memory.emplace_back(static_cast<Index>(values.size()), "an operand");
    memory.back().upload(values, queue.stream());
    return memory.back().data();
  };
  if (!cuda::is_small_product(p.rows, p.columns, p.inner, std::max(p.a_stride, p.b_stride)))
    throw UsageError("this product is not small");
  const cuda::Factor<float> a{uploaded(p.a), p.a_stride, p.a_transposed};
  const cuda::Factor<float> b{uploaded(p.b), p.b_stride, p.b_transposed};
  const float* bias = uploaded(p.bias);
  const float* addend = uploaded(p.addend);
  float* c = uploaded(p.c);
  cuda::matrix_product<float, float>(queue, p.rows, p.columns, p.inner, a, b, c, p.c_stride,
                                     {p.adds_to_c ? c : addend, p.c_stride, bias});
  queue.wait();
  p.c = memory.back().download(queue.stream());
}

}  // namespace mad::testing
