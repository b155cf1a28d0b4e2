// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "normed_head.hpp"
#include "bfloat16_rows.hpp"
#include "comparison.hpp"

#include <array>
#include <limits>

using namespace mad;
using namespace mad::testing;

namespace {

constexpr std::size_t width = 128;
constexpr Index behind = 70;  ///< rows behind the last one that must stay as they were
constexpr int no_class = -7;
/// By how much the largest logit of a row exceeds those that are smaller: more than the device can be wrong.
constexpr double apart = 0.05;

enum class Ignored { none, some, all };

struct Setup {
  Index rows = 1;
  int classes = 16;
  bool centred = true;
  bool outputs = true;    ///< logits, losses and predictions of rows are wanted
  bool gradients = true;  ///< and so is the norm
  Ignored ignored = Ignored::some;
  Index gap = 0;         ///< numbers between rows
  Index first_rows = 0;  ///< of a batch in two parts
};

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

/// As the nearest number of bfloat16.
double rounded(double x) {
  auto value = static_cast<float>(x);
  round_to_bfloat16({&value, 1});
  return value;
}

/// The formulas for one row.
struct Row {
  const NormedHeadCase& c;
  std::vector<double> weight{};  ///< of the head
  std::array<double, width> standardised{}, normed{}, dn{}, dx{};
  std::vector<double> logits = std::vector<double>(size(c.classes));
  std::vector<double> d_logits = logits;
  std::size_t largest = 0;  ///< the first of the largest logits
  double inverse = 0;

  explicit Row(const NormedHeadCase& of) : c(of) {
    for (const std::uint16_t bits : c.weight) weight.push_back(value_of(bits));
  }

  void forward(const std::uint16_t* x) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < width && c.centred; ++i) mean += value_of(x[i]) / double{width};
    for (std::size_t i = 0; i < width; ++i) square += (value_of(x[i]) - mean) * (value_of(x[i]) - mean) / width;
    inverse = 1 / std::sqrt(square + double{c.epsilon});
    std::array<double, width> factor{};
    for (std::size_t i = 0; i < width; ++i) {
      standardised[i] = (value_of(x[i]) - mean) * inverse;
      normed[i] = standardised[i] * c.norm_weight[i] + (c.norm_bias.empty() ? 0.0 : double{c.norm_bias[i]});
      factor[i] = rounded(normed[i]);
    }
    largest = 0;
    for (std::size_t k = 0; k < logits.size(); ++k) {
      logits[k] = c.bias[k];
      for (std::size_t i = 0; i < width; ++i) logits[k] += factor[i] * weight[k * width + i];
      if (logits[k] > logits[largest]) largest = k;
    }
  }
  /// How much larger the largest logit is than the next one that differs.
  double lead() const {
    double next = -std::numeric_limits<double>::infinity();
    for (const double l : logits)
      if (l < logits[largest]) next = std::max(next, l);
    return logits[largest] - next;
  }
  /// Of the mean loss over \p counted rows; returns the row's share of the sum.
  double backward(int target, Index counted) {
    dn.fill(0);
    dx.fill(0);
    std::fill(d_logits.begin(), d_logits.end(), 0.0);
    if (target == cpu::ignored_target) return 0;
    double sum = 0;
    for (const double l : logits) sum += std::exp(l - logits[largest]);
    const double log_sum = std::log(sum) + logits[largest];
    for (std::size_t k = 0; k < logits.size(); ++k) {
      const double hit = k == static_cast<std::size_t>(target) ? 1 : 0;
      d_logits[k] = (std::exp(logits[k] - log_sum) - hit) / static_cast<double>(counted);
      const double factor = rounded(d_logits[k]);
      for (std::size_t i = 0; i < width; ++i) dn[i] += factor * weight[k * width + i];
    }
    double of_g = 0, of_product = 0;
    for (std::size_t i = 0; i < width; ++i) {
      of_g += c.centred ? dn[i] * c.norm_weight[i] / width : 0.0;
      of_product += dn[i] * c.norm_weight[i] * standardised[i] / width;
    }
    for (std::size_t i = 0; i < width; ++i)
      dx[i] = (dn[i] * c.norm_weight[i] - of_g - standardised[i] * of_product) * inverse;
    return log_sum - logits[static_cast<std::size_t>(target)];
  }
};

NormedHeadCase random_case(const Setup& s) {
  std::mt19937 generator(static_cast<unsigned>(s.rows + s.classes + s.centred));
  std::normal_distribution<float> normal(0.5f);
  std::uniform_int_distribution<int> any_class(0, s.classes - 1);
  // An epsilon that shows, and two strides.
  NormedHeadCase c{.classes = s.classes,
                   .centred = s.centred,
                   .epsilon = 0.1f,
                   .x_stride = static_cast<Index>(width) + s.gap,
                   .y_stride = static_cast<Index>(width) + 2 * s.gap,
                   .first_rows = s.first_rows};
  const auto random_floats = [&](std::size_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = normal(generator);
    return values;
  };
  c.norm_weight = random_floats(width);
  if (s.centred) c.norm_bias = random_floats(width);
  c.bias = random_floats(size(s.classes));
  c.weight = random_rows(s.classes, width, width, generator);
  for (std::uint16_t& w : c.weight) w = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value_of(w) / 8) >> 16);
  // Two classes are alike, and often the largest: the first one is predicted.
  const std::size_t second = size(s.classes) - 2;
  std::copy_n(c.weight.begin() + width, width, c.weight.begin() + static_cast<Index>(second * width));
  c.bias[1] = c.bias[second] = 3;

  Row row(c);
  c.x.assign(size((s.rows + behind) * c.x_stride), not_a_number);
  c.targets.assign(size(s.rows + behind), 0);
  for (Index r = 0; r < s.rows; ++r) {
    std::vector<std::uint16_t> x;
    do {
      x = random_rows(1, width, width, generator);
      row.forward(x.data());
    } while (row.lead() < apart);
    std::copy(x.begin(), x.end(), c.x.begin() + r * c.x_stride);
    const bool is_ignored = s.ignored == Ignored::all || (s.ignored == Ignored::some && r % 5 == 3);
    const bool is_hit = r % 5 == 1 || r % 5 == 2;
    c.targets[size(r)] = is_ignored ? cpu::ignored_target
                         : is_hit   ? static_cast<int>(row.largest)
                                    : any_class(generator);
  }
  const std::size_t rows = size(s.rows + behind);
  const std::size_t logits = rows * size(s.classes);
  if (s.outputs) {
    c.logits.assign(logits, NormedHeadCase::untouched);
    c.negative_log_likelihood.assign(rows, NormedHeadCase::untouched);
    c.prediction.assign(rows, no_class);
  }
  if (s.gradients) {
    c.y.assign(rows * size(c.y_stride), not_a_number);
    c.d_logits.assign(logits, not_a_number);
    c.dx.assign(rows * width, not_a_number);
  }
  c.hits.assign(size(Index{3} * s.classes), 0);
  c.metrics.resize(3);
  return c;
}

struct Expected {
  std::vector<double> y, logits, negative_log_likelihood, d_logits, dx;
  std::vector<int> prediction, hits;
  std::vector<double> sums = std::vector<double>(2 * width);  ///< for the norm's weight, then for its bias
  double loss = 0;
  double accuracy = 0;
  double micro_accuracy = 0;
  Index counted = 0;
};

Expected expected_of(const NormedHeadCase& c, Index rows) {
  Expected e;
  e.hits.assign(c.hits.size(), 0);
  e.counted = rows - std::count(c.targets.begin(), c.targets.begin() + rows, cpu::ignored_target);
  const auto classes = size(c.classes);
  Row row(c);
  int all_hits = 0;
  for (Index r = 0; r < rows; ++r) {
    const int target = c.targets[size(r)];
    row.forward(c.x.data() + r * c.x_stride);
    const double loss = row.backward(target, e.counted);
    e.y.insert(e.y.end(), row.normed.begin(), row.normed.end());
    e.logits.insert(e.logits.end(), row.logits.begin(), row.logits.end());
    e.negative_log_likelihood.push_back(loss);
    e.prediction.push_back(static_cast<int>(row.largest));
    e.d_logits.insert(e.d_logits.end(), row.d_logits.begin(), row.d_logits.end());
    e.dx.insert(e.dx.end(), row.dx.begin(), row.dx.end());
    for (std::size_t i = 0; i < width; ++i) {
      e.sums[i] += row.dn[i] * row.standardised[i];
      e.sums[width + i] += row.dn[i];
    }
    if (target == cpu::ignored_target) continue;
    e.loss += loss / static_cast<double>(e.counted);
    const auto expected_class = static_cast<std::size_t>(target);
    ++e.hits[classes + row.largest];
    ++e.hits[2 * classes + expected_class];
    if (row.largest != expected_class) continue;
    ++e.hits[expected_class];
    ++all_hits;
  }
  int occurring = 0;
  for (std::size_t k = 0; k < classes; ++k) {
    if (e.hits[classes + k] + e.hits[2 * classes + k] > 0) ++occurring;
    if (e.hits[2 * classes + k] > 0) e.accuracy += double(e.hits[k]) / e.hits[2 * classes + k];
  }
  if (occurring > 0) e.accuracy /= occurring;
  if (e.counted > 0) e.micro_accuracy = all_hits / static_cast<double>(e.counted);
  return e;
}

/// The values of rows; fails if anything around them was written.
std::vector<float> values_of(const std::vector<std::uint16_t>& bits, Index rows, Index columns, Index stride) {
  std::vector<float> values;
  for (std::size_t i = 0; i < bits.size(); ++i)
    if (static_cast<Index>(i) < rows * stride && static_cast<Index>(i) % stride < columns)
      values.push_back(value_of(bits[i]));
    else if (bits[i] != not_a_number)
      FAIL("number " << i << " was written");
  return values;
}
/// The first \p count; fails if others were written.
template <class T>
std::vector<T> first_of(std::vector<T> values, Index count, T untouched) {
  for (std::size_t i = size(count); i < values.size(); ++i)
    if (values[i] != untouched) FAIL("number " << i << " was written");
  values.resize(size(count));
  return values;
}
double distance_of(const std::vector<float>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  return distance(std::span<const float>(found), std::span<const double>(expected));
}

void check_outputs(const NormedHeadCase& found, const Expected& e, Index rows) {
  CHECK(distance_of(first_of(found.logits, rows * found.classes, NormedHeadCase::untouched), e.logits) < half_step);
  const std::vector<float> losses = first_of(found.negative_log_likelihood, rows, NormedHeadCase::untouched);
  CHECK(distance_of(losses, e.negative_log_likelihood) < half_step);
  const std::vector<int> prediction = first_of(found.prediction, rows, no_class);
  for (std::size_t r = 0; r < losses.size(); ++r) {
    if (prediction[r] != e.prediction[r])
      FAIL("the prediction of row " << r << " is " << prediction[r] << ", expected " << e.prediction[r]);
    if (found.targets[r] == cpu::ignored_target && losses[r] != 0) FAIL("row " << r << " is ignored, but has a loss");
  }
}

void check_gradients(const NormedHeadCase& found, const Expected& e, Index rows) {
  const Index columns = static_cast<Index>(width);
  const std::vector<float> d_logits = values_of(found.d_logits, rows, found.classes, found.classes);
  const std::vector<float> dx = values_of(found.dx, rows, columns, columns);
  CHECK(distance_of(values_of(found.y, rows, columns, found.y_stride), e.y) < half_step);
  CHECK(distance_of(d_logits, e.d_logits) < 1.5 * half_step);
  CHECK(distance_of(dx, e.dx) < 2 * half_step);
  const auto is_zero = [](const std::vector<float>& values, std::size_t r, std::size_t of_row) {
    const auto begin = values.begin() + static_cast<Index>(r * of_row);
    return std::all_of(begin, begin + static_cast<Index>(of_row), [](float v) { return v == 0; });
  };
  for (std::size_t r = 0; r < size(rows); ++r)
    if (found.targets[r] == cpu::ignored_target &&
        !(is_zero(d_logits, r, size(found.classes)) && is_zero(dx, r, width)))
      FAIL("row " << r << " is ignored, but has a gradient");

  REQUIRE(found.partial.size() == (found.first_rows > 0 ? 2u : 1u));
  std::vector<double> sums(2 * width);
  for (const std::vector<float>& part : found.partial) {
    const std::vector<float> of_blocks =
        first_of(part, static_cast<Index>(part.size() - sums.size()), NormedHeadCase::untouched);
    for (std::size_t i = 0; i < of_blocks.size(); ++i) sums[i % sums.size()] += double{of_blocks[i]};
  }
  const auto half = [](const std::vector<double>& of, std::size_t begin) {
    return std::span<const double>(of).subspan(begin, width);
  };
  CHECK(distance(half(sums, 0), half(e.sums, 0)) < half_step);
  CHECK(distance(half(sums, width), half(e.sums, width)) < half_step);
}

void check_metrics(const NormedHeadCase& found, const Expected& e) {
  CHECK(found.hits == e.hits);
  CHECK(found.metrics[0] == NormedHeadCase::Metrics{});
  CHECK(found.metrics[2] == NormedHeadCase::Metrics{});
  CHECK(found.position == 2);
  CHECK(found.diverged == 0);
  const NormedHeadCase::Metrics& m = found.metrics[1];
  CHECK(m.counted == e.counted);
  CHECK(m.accuracy == Approx(e.accuracy).epsilon(1e-6));
  CHECK(m.micro_accuracy == Approx(e.micro_accuracy).epsilon(1e-6));
  if (e.counted > 0) {
    CHECK(m.loss == Approx(e.loss).epsilon(1e-3));
    CHECK(m.perplexity == Approx(std::exp(m.loss)).epsilon(1e-6));
  } else {
    CHECK(std::isnan(m.loss));
    CHECK(std::isnan(m.perplexity));
  }
}

constexpr Index many_rows = 20000;  ///< with which warps go on to further ones

void compare(const Setup& s) {
  if (few_shapes() && s.rows > 64 && s.rows != many_rows) return;
  INFO(s.rows << " rows" << (s.first_rows > 0 ? " in two parts, " : ", ") << s.classes << " classes, "
              << (s.centred ? "LayerNorm" : "RMSNorm") << (s.outputs ? "" : ", without outputs")
              << (s.gradients ? "" : ", without gradients") << ", targets ignored: " << static_cast<int>(s.ignored)
              << ", " << s.gap << " numbers between rows");
  const NormedHeadCase c = random_case(s);
  const Expected e = expected_of(c, s.rows);
  NormedHeadCase found = c;
  normed_head_on_device(found, s.rows);
  if (s.outputs) check_outputs(found, e, s.rows);
  if (s.gradients) check_gradients(found, e, s.rows);
  check_metrics(found, e);

  NormedHeadCase again = c;
  normed_head_on_device(again, s.rows);
  const auto is_same = [&](auto of) { return again.*of == found.*of; };  // too many numbers to be shown
  CHECK(is_same(&NormedHeadCase::y));
  CHECK(is_same(&NormedHeadCase::logits));
  CHECK(is_same(&NormedHeadCase::negative_log_likelihood));
  CHECK(is_same(&NormedHeadCase::prediction));
  CHECK(is_same(&NormedHeadCase::d_logits));
  CHECK(is_same(&NormedHeadCase::dx));
  CHECK(is_same(&NormedHeadCase::partial));
  CHECK(is_same(&NormedHeadCase::hits));
  if (e.counted > 0) CHECK(is_same(&NormedHeadCase::metrics));
}

}  // namespace

TEST_CASE("a norm, the head's logits, their loss and all gradients in one kernel agree with their formulas") {
  if (no_device()) return;
  for (const Index rows : {1, 15, 16, 17, 63, 1000})
    for (const int classes : {16, 32, 64})
      for (const bool centred : {false, true}) compare({.rows = rows, .classes = classes, .centred = centred});
}

TEST_CASE("a norm and the head in one kernel agree with their formulas where warps go over many rows") {
  if (no_device()) return;
  for (const bool centred : {false, true}) {
    compare({.rows = many_rows, .classes = 64, .centred = centred, .outputs = centred});
    compare({.rows = many_rows, .classes = 32, .centred = centred, .gradients = centred});
    compare({.rows = 60000, .classes = 16, .centred = centred});
  }
}

TEST_CASE("a norm and the head in one kernel write what is wanted and nothing else") {
  if (no_device()) return;
  for (const Index rows : {17, 333})
    for (const bool centred : {false, true}) {
      compare({.rows = rows, .classes = 32, .centred = centred, .outputs = false});
      compare({.rows = rows, .classes = 64, .centred = centred, .gradients = false});
      compare({.rows = rows, .classes = 16, .centred = centred, .outputs = false, .gradients = false});
      compare({.rows = rows, .classes = 64, .centred = centred, .gap = 8});
    }
}

TEST_CASE("a norm and the head in one kernel know rows that do not count, and batches in parts") {
  if (no_device()) return;
  for (const bool centred : {false, true}) {
    for (const Ignored ignored : {Ignored::none, Ignored::all})
      for (const Index rows : {50, 100}) compare({.rows = rows, .classes = 32, .centred = centred, .ignored = ignored});
    compare({.rows = 60, .classes = 16, .centred = centred, .first_rows = 21});
    compare({.rows = 333, .classes = 64, .centred = centred, .gap = 8, .first_rows = 200});
  }
}

TEST_CASE("a norm and a head are computed in one kernel where it takes both") {
  for (const int classes : {16, 32, 64}) CHECK(takes_normed_head_on_device(128, classes, 136));
  for (const int classes : {8, 24, 80, 128}) CHECK_FALSE(takes_normed_head_on_device(128, classes, 128));
  for (const int columns : {64, 256}) CHECK_FALSE(takes_normed_head_on_device(columns, 32, 256));
  CHECK_FALSE(takes_normed_head_on_device(128, 32, 132));
  for (const Late late : {Late::x, Late::y, Late::weight, Late::dx})
    CHECK_FALSE(takes_normed_head_on_device(128, 32, 128, late));
}
