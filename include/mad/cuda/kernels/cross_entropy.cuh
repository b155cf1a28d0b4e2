// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Cross entropy of logits against target ids, its gradient, and the metrics of the batch, in one kernel.
#pragma once

#include <mad/cuda/device/queue.hpp>
#include <mad/cuda/instructions/numbers.cuh>

#include <algorithm>

namespace mad::cuda {

/// A target that does not count: no loss, no gradient.
inline constexpr int ignored_target = -100;

/// The metrics of one batch, as train/metrics.hpp defines them.
struct StepMetrics {
  double loss = 0;      ///< mean negative log-likelihood; not a number where nothing counts
  double accuracy = 0;  ///< recall averaged over the classes that occur among targets or predictions
  double perplexity = 0;
  double micro_accuracy = 0;
  int counted = 0;
};

/// What is counted while a batch goes through the loss, in one part or several; zeroed before the batch is selected.
/// Behind it lie, for each class, how often it was predicted rightly, predicted, and expected.
struct Tally {
  int counted = 0;  ///< written when the batch is selected
  double loss = 0;  ///< sum over the parts so far
};

/// What `cross_entropy` reads and writes on the device.
template <class T>
struct CrossEntropy {
  const float* logits;  ///< (rows, vocabulary)
  const int* targets;
  Tally* tally;
  int* hits;              ///< (3, vocabulary): hits, predicted, expected
  T* d_logits = nullptr;  ///< gradient of the mean loss; null: not wanted
  float* negative_log_likelihood = nullptr;
  int* prediction = nullptr;
  StepMetrics* metrics;     ///< one per batch of the epoch
  int* position;            ///< number of the batch in its epoch; counted up at the end
  int* diverged = nullptr;  ///< set to 1 by a loss that is no finite number, unless null
  double* partial;          ///< (blocks)
  bool is_last = true;      ///< the batch is complete with these rows: its metrics can be formed
};

namespace cross_entropy_detail {

inline constexpr int threads = 512;
inline constexpr int warps = threads / 32;

/// The sum over a block's threads, in all of them; always added in the same order.
template <class X>
__device__ inline X block_sum(X x) {
  __shared__ X of_warp[warps];
  x = lane_sum<32>(x);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  X sum = 0;
#pragma unroll
  for (int w = 0; w < warps; ++w) sum += of_warp[w];
  __syncthreads();
  return sum;
}

/// Metrics from the tally; called by all threads of one block.
__device__ inline void finish(const int* hits, int vocabulary, double loss, int counted, StepMetrics* to) {
  double recall = 0;
  int hit = 0;
  int classes = 0;
  for (int c = static_cast<int>(threadIdx.x); c < vocabulary; c += threads) {
    const int predicted = hits[vocabulary + c];
    const int expected = hits[2 * vocabulary + c];
    if (predicted + expected == 0) continue;
    ++classes;
    hit += hits[c];
    if (expected > 0) recall += static_cast<double>(hits[c]) / expected;
  }
  recall = block_sum(recall);
  hit = block_sum(hit);
  classes = block_sum(classes);
  if (threadIdx.x != 0) return;
  to->loss = loss / counted;
  to->perplexity = ::exp(to->loss);
  to->accuracy = classes > 0 ? recall / classes : 0.0;
  to->micro_accuracy = counted > 0 ? static_cast<double>(hit) / counted : 0.0;
  to->counted = counted;
}

/// Four neighbouring logits from column c on, minus infinity where the row has no more.
__device__ inline void load_logits(const float* row, int c, int vocabulary, float (&x)[4]) {
  if (vocabulary % 4 == 0) {
    load(row + c, x);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = c + i < vocabulary ? row[c + i] : -INFINITY;
  }
}

/// Losses of rows, added up by block, and their gradients. A team of 2^log_lanes lanes per row; a lane takes four
/// neighbouring classes at a time. `Shared`: the classes are counted in shared memory first.
template <bool Shared, class T>
__global__ void __launch_bounds__(threads)
    kernel(const __grid_constant__ CrossEntropy<T> n, unsigned rows, int vocabulary, unsigned log_lanes) {
  extern __shared__ int counts[];
  int* hits = Shared ? counts : n.hits;
  if constexpr (Shared) {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * vocabulary; i += threads) counts[i] = 0;
    __syncthreads();
  }
  const int lanes = 1 << log_lanes;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const unsigned teams = threads >> log_lanes;
  const int counted = n.tally->counted;
  const float factor = counted > 0 ? 1.0f / static_cast<float>(counted) : 0.0f;
  double loss = 0;
  // All teams make the same number of rounds: the lanes of a warp sum together.
  for (unsigned first = blockIdx.x * teams; first < rows; first += gridDim.x * teams) {
    const unsigned r = min(first + (threadIdx.x >> log_lanes), rows - 1);
    const bool here = first + (threadIdx.x >> log_lanes) < rows;
    const float* row = n.logits + std::size_t{r} * vocabulary;
    const int target = n.targets[r];
    float largest = -INFINITY;
    int place = 0;
    for (int c = 4 * lane; c < vocabulary; c += 4 * lanes) {
      float x[4];
      load_logits(row, c, vocabulary, x);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (x[i] > largest) {
          largest = x[i];
          place = c + i;
        }
      }
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, largest, offset);
      const int other_place = __shfl_xor_sync(0xffffffffu, place, offset);
      if (other > largest || (other == largest && other_place < place)) {
        largest = other;
        place = other_place;
      }
    }
    // The logits are close at hand now, in the first-level cache.
    float sum = 0;
    for (int c = 4 * lane; c < vocabulary; c += 4 * lanes) {
      float x[4];
      load_logits(row, c, vocabulary, x);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum += expf(x[i] - largest);
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    const bool counts_here = here && target != ignored_target;
    if (n.d_logits != nullptr && here) {
      const float share = counts_here ? factor / sum : 0.0f;
      for (int c = 4 * lane; c < vocabulary; c += 4 * lanes) {
        float x[4];
        load_logits(row, c, vocabulary, x);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float hit = counts_here && c + i == target ? factor : 0.0f;
          x[i] = expf(x[i] - largest) * share - hit;
        }
        T* to = n.d_logits + std::size_t{r} * vocabulary + c;
        if (vocabulary % 4 == 0) {
          store(to, x);
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if (c + i < vocabulary) to[i] = from_float<T>(x[i]);
        }
      }
    }
    if (lane == 0 && here) {
      float negative_log_likelihood = 0;
      if (counts_here) {
        negative_log_likelihood = logf(sum) + (largest - row[target]);
        loss += negative_log_likelihood;
        atomicAdd(hits + vocabulary + place, 1);
        atomicAdd(hits + 2 * vocabulary + target, 1);
        if (place == target) atomicAdd(hits + target, 1);
      }
      if (n.negative_log_likelihood != nullptr) n.negative_log_likelihood[r] = negative_log_likelihood;
      if (n.prediction != nullptr) n.prediction[r] = place;
    }
  }
  loss = block_sum(loss);  // the block's counts are complete, too
  if constexpr (Shared) {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * vocabulary; i += threads)
      if (counts[i] != 0) atomicAdd(n.hits + i, counts[i]);
  }
  if (threadIdx.x == 0) n.partial[blockIdx.x] = loss;
}

/// Adds up the losses of `blocks` blocks; with the last rows of a batch, its metrics. One block.
template <class T>
__global__ void __launch_bounds__(threads)
    add_up(const __grid_constant__ CrossEntropy<T> n, unsigned blocks, int vocabulary) {
  double total = 0;
  for (unsigned b = threadIdx.x; b < blocks; b += threads) total += n.partial[b];
  total = block_sum(total) + n.tally->loss;
  __syncthreads();  // all have read it
  if (!n.is_last) {
    if (threadIdx.x == 0) n.tally->loss = total;
    return;
  }
  const int counted = n.tally->counted;
  StepMetrics* metrics = n.metrics + *n.position;
  finish(n.hits, vocabulary, total, counted, metrics);
  if (threadIdx.x != 0) return;
  ++*n.position;
  if (n.diverged != nullptr && counted > 0 && !isfinite(metrics->loss)) *n.diverged = 1;
}

}  // namespace cross_entropy_detail

/// Adds up what the blocks of a kernel have left in `n.partial`, aside: the gradient does not wait for metrics.
template <class T>
void add_up_losses(Queue& queue, const CrossEntropy<T>& n, Index blocks, Index vocabulary) {
  namespace d = cross_entropy_detail;
  queue.begin_aside().launch("the metrics", d::add_up<T>, dim3(1), dim3(d::threads), 0, n, blocks, vocabulary);
}

/// Losses of `rows` rows of logits, and with the last ones of a batch its metrics; sums over rows are in double and in
/// a fixed order. `n.partial` is provided here.
template <class T>
void cross_entropy(Queue& queue, CrossEntropy<T> n, Index rows, Index vocabulary) {
  namespace d = cross_entropy_detail;
  unsigned log_lanes = 0;
  while (log_lanes < 5 && (Index{4} << log_lanes) < vocabulary) ++log_lanes;
  const Index teams = d::threads >> log_lanes;
  const Index blocks = std::clamp<Index>((rows + teams - 1) / teams, 1, 2 * queue.multiprocessors());
  n.partial = queue.take_for_aside<double>(blocks);
  const auto shared = static_cast<std::size_t>(3 * vocabulary) * sizeof(int);
  const bool fits = shared <= 32 * 1024;
  queue.launch("the loss", fits ? d::kernel<true, T> : d::kernel<false, T>, dim3(static_cast<unsigned>(blocks)),
               dim3(d::threads), fits ? shared : 0, n, rows, vocabulary, log_lanes);
  add_up_losses(queue, n, blocks, vocabulary);
}

}  // namespace mad::cuda
