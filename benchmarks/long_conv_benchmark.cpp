// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Time per sequence of the long convolution on one thread, both methods, over lengths. The ratio of their costs is in
// mad::cpu::long_conv_method. Usage: long_conv_benchmark [channels] [longest direct length]
#include <mad/cpu/kernels/long_conv.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <random>
#include <vector>

namespace {

using mad::Index;
using mad::cpu::LongConv;
using mad::cpu::LongConvMethod;

/// Shortest of many runs, in microseconds of processor time: other programs can only make a run longer.
template <class Body>
double shortest(const Body& body) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(300);
  std::clock_t best = std::numeric_limits<std::clock_t>::max();
  do {
    const std::clock_t start = std::clock();
    body();
    best = std::min(best, std::clock() - start);
  } while (Clock::now() < end);
  return 1e6 * static_cast<double>(best) / CLOCKS_PER_SEC;
}

void measure(Index length, Index channels, LongConvMethod method) {
  const Index batch = std::max<Index>(2, 512 / length), tokens = batch * length;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  const auto draw = [&](Index count) {
    std::vector<float> result(static_cast<std::size_t>(count));
    for (float& x : result) x = normal(generator);
    return result;
  };
  const std::vector<float> u = draw(tokens * channels), d_y = u, h = draw(length * channels), skip = draw(channels);
  std::vector<float> y(u.size()), d_u(u.size()), d_h(h.size()), d_skip(skip.size());
  mad::cpu::Workspace workspace;
  const LongConv<float> conv(length, channels, channels, method);
  mad::cpu::Workspace::Frame frame(workspace);
  float* prepared = frame.take<float>(conv.prepared_size());
  const auto prepare = [&] { conv.prepare({h.data(), channels}, skip.data(), prepared, workspace); };
  const auto forward = [&] { conv.forward(batch, {u.data(), channels}, prepared, {y.data(), channels}, workspace); };
  const auto backward = [&] {
    conv.backward(batch, {u.data(), channels}, prepared, {d_y.data(), channels}, {d_u.data(), channels},
                  {d_h.data(), channels}, d_skip.data(), workspace);
  };
  const double sequences = static_cast<double>(batch);
  const double prepare_us = shortest(prepare), forward_us = shortest(forward), backward_us = shortest(backward);
  std::printf("%6td %6td  %-9s %12.1f %14.1f %15.1f\n", length, channels,
              method == LongConvMethod::direct ? "direct" : "transform", prepare_us, forward_us / sequences,
              backward_us / sequences);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const Index channels = argc > 1 ? std::atoi(argv[1]) : 512;
  const Index longest_direct = argc > 2 ? std::atoi(argv[2]) : 256;
  std::printf("length channels method prepare us  forward us/seq  backward us/seq   (float, one thread)\n");
  for (const Index length : {16, 32, 48, 64, 96, 127, 128, 129, 256, 512, 1024, 2048}) {
    if (length <= longest_direct) measure(length, channels, LongConvMethod::direct);
    measure(length, channels, LongConvMethod::transform);
  }
}
