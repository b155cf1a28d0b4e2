// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// What is measured of a batch, and its mean over an epoch.
#pragma once

#include <mad/core/shape.hpp>

namespace mad::train {

struct Metrics {
  double loss = 0;            ///< mean negative log-likelihood, natural logarithm
  double accuracy = 0;        ///< macro, as the reference reports it: recall averaged over classes
  double perplexity = 0;      ///< exp(loss), batch by batch
  double micro_accuracy = 0;  ///< share of the counted positions that are predicted correctly
};

/// The epoch's values as the reference's trainer forms them: the mean of the batches' values, weighted by the number of
/// sequences in each. It is not the metric of the pooled data.
class EpochMean {
public:
  void add(const Metrics& batch, Index sequences) {
    const double weight = static_cast<double>(sequences);
    weight_ += weight;
    sum_.loss += weight * batch.loss;
    sum_.accuracy += weight * batch.accuracy;
    sum_.perplexity += weight * batch.perplexity;
    sum_.micro_accuracy += weight * batch.micro_accuracy;
  }

  Metrics mean() const {
    return {sum_.loss / weight_, sum_.accuracy / weight_, sum_.perplexity / weight_, sum_.micro_accuracy / weight_};
  }

private:
  Metrics sum_;
  double weight_ = 0;
};

}  // namespace mad::train
