// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "operands.hpp"
#include "small_product.hpp"

#include <mad/core/error.hpp>
#include <mad/cuda/device/device.hpp>
#include <mad/cuda/products/matrix_product.cuh>

namespace mad::testing {

void multiply_on_device(SmallProductCase& product) {
  SmallProductCase& p = product;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<float> operands(queue);
  if (!cuda::is_small_product(p.rows, p.columns, p.inner, std::max(p.a_stride, p.b_stride)))
    throw UsageError("this product is not small");
  const cuda::Factor<float> a{operands.upload(p.a), p.a_stride, p.a_transposed};
  const cuda::Factor<float> b{operands.upload(p.b), p.b_stride, p.b_transposed};
  const float* bias = operands.upload(p.bias);
  const float* addend = operands.upload(p.addend);
  float* c = operands.upload(p.c);
  cuda::matrix_product<float, float>(queue, p.rows, p.columns, p.inner, a, b, c, p.c_stride,
                                     {p.adds_to_c ? c : addend, p.c_stride, bias});
  queue.wait();
  p.c = operands.download(operands.last());
}

}  // namespace mad::testing
