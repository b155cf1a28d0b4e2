// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What the benchmark of training steps asks of each stack; every stack is compiled in a file of its own.
#pragma once

#include <cstddef>
#include <string>

namespace mad::benchmark {

struct Case {
  std::ptrdiff_t length = 128;
  std::ptrdiff_t batch = 128;
  int models = 1;       ///< that train side by side
  int repeat = 50;      ///< timed steps
  bool once = false;    ///< a single gradient outside of a graph, for profilers
};

struct StepTime {
  double milliseconds = 0;        ///< median time of a step of one model, from start to start, by events
  double steps_per_second = 0;    ///< all models together, by the host's clock, with all copies of an epoch
  std::size_t graph_nodes = 0;
  std::size_t memory_bytes = 0;   ///< on the device, per model
  double first_loss = 0;
  double last_loss = 0;
};

using Measure = StepTime (*)(const Case&);

/// The measurement for a stack (mA-Sg-mA-Sg, H-Sg-H-Sg, Mb-Mb-Mb-Mb) and a precision (fp32, bf16); null if unknown.
Measure find_attention(const std::string& precision);
Measure find_hyena(const std::string& precision);
Measure find_mamba(const std::string& precision);

}  // namespace mad::benchmark
