// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "device_model.cuh"
#include "low_rank.hpp"
#include "operands.hpp"

#include <mad/cuda/device/device.hpp>
#include <mad/cuda/kernels/put_off_products.cuh>

namespace mad::testing {

namespace {

using Buffer = cuda::Buffer<cuda::BFloat16>;

cuda::GroupedProduct product(const cuda::BFloat16* x, Index x_stride, int inner, const cuda::BFloat16* weight,
                             bool in_out, int columns, cuda::BFloat16* y, Index y_stride) {
  cuda::GroupedProduct p;
  p.terms = 1;
  p.term.front() = {
      .x = x, .x_stride = static_cast<std::size_t>(x_stride), .weight = weight, .inner = inner, .in_out = in_out};
  p.columns = columns;
  p.y = y;
  p.y_stride = static_cast<std::size_t>(y_stride);
  return p;
}

}  // namespace

void multiply_low_rank_on_device(LowRankCase& c, Index rows) {
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  Operands<cuda::BFloat16> operands(queue);
  cuda::BFloat16* const rows_of_z = operands.upload(c.z);
  const std::size_t z_at = operands.last();
  cuda::BFloat16* const y = operands.upload(c.y);
  const std::size_t y_at = operands.last();
  cuda::BFloat16* const z = rows_of_z + c.z_column;
  const cuda::GroupedProduct first =
      product(operands.upload(c.x), c.x_stride, c.inner, operands.upload(c.first), c.in_out, c.middle, z, c.z_stride);
  cuda::GroupedProduct second =
      product(z + c.from, c.z_stride, c.used, operands.upload(c.second), c.in_out, c.columns, y, c.y_stride);
  second.bias = operands.upload(c.bias);
  second.addend = c.adds_to_y ? y : operands.upload(c.addend);
  second.addend_stride = second.y_stride;
  if (!cuda::takes(first) || !cuda::takes(second) || !cuda::takes_low_rank(first, second))
    throw UsageError("the kernel does not take these products");
  cuda::multiply_low_rank(queue, first, second, rows);
  queue.wait();
  c.z = operands.download(z_at);
  c.y = operands.download(y_at);
}

bool follows_on_device(Unlike unlike) {
  constexpr Index rows = 40;
  const cuda::Device device = cuda::Device::open();
  cuda::Queue queue(device.multiprocessors());
  queue.begin_rehearsal();  // which products are computed together is the same
  const Buffer x(rows * 256, "x"), z(rows * 40, "z"), y(rows * 256, "y"), other(rows * 256, "other"),
      weight(256 * 256, "a weight");
  const auto at = [](const Buffer& b) { return const_cast<cuda::BFloat16*>(b.data()); };
  cuda::GroupedProduct first = product(at(x), 256, 256, at(weight), false, 16, at(z), 40);
  cuda::GroupedProduct second = product(at(z), 40, 8, at(weight), false, 256, at(y), 256);
  const cuda::GroupedProduct third = product(at(x), 256, 256, at(weight), false, 16, at(other), 16);
  if (unlike == Unlike::other_memory) second.term.front().x = at(other);
  if (unlike == Unlike::beside) second.term.front().x = at(z) + 16;
  if (unlike == Unlike::other_stride) second.term.front().x_stride = 32;
  if (unlike == Unlike::other_order) second.term.front().in_out = true;
  if (unlike == Unlike::first_adds) {
    first.addend = at(other);
    first.addend_stride = 16;
  }
  if (unlike == Unlike::first_shifts) first.bias = at(other);
  if (unlike == Unlike::adds_middle) {
    second.addend = at(z);
    second.addend_stride = 40;
  }
  if (unlike == Unlike::writes_x) second.y = at(x);
  if (unlike == Unlike::odd_width) second.columns = 200;
  if (unlike == Unlike::many_between) {
    second.term.front().inner = 32;
    second.bias = at(other);
  }
  if (unlike == Unlike::narrow) first.term.front().inner = second.columns = 128;
  if (!cuda::put_off(queue, rows, first)) throw UsageError("the first product is not put off");
  if (unlike == Unlike::two_are_put_off && !cuda::put_off(queue, rows, third))
    throw UsageError("another product is not put off");
  if (unlike == Unlike::has_started) queue.start_products();
  const std::size_t before = queue.put_off()->products.size();
  const bool follows = cuda::follow(queue, rows, second);
  if (queue.put_off()->products.size() != (follows ? 0 : before)) throw UsageError("what was put off has changed");
  queue.forget();
  return follows;
}

template std::unique_ptr<DeviceModel> make_device_model<LowRankNet, 128, Norm::layer_norm>(Precision,
                                                                                           const ModelOptions&,
                                                                                           std::uint64_t);

}  // namespace mad::testing
