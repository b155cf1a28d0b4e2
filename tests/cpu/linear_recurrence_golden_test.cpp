// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "cpu/linear_recurrence_cases.hpp"

#include <mad/train/safetensors.hpp>

namespace mad::linear_recurrence_testing {

namespace {

/// A fixture of the reference.
struct Fixture {
  mad::train::Safetensors file;
  Index batch = 2, heads, length, keys, values;

  Fixture(const std::string& name, Index heads_, Index length_, Index keys_, Index values_)
      : file(mad::train::Safetensors::read(std::string(MAD_GOLDEN_DIR) + "/layers/core_" + name + ".safetensors")),
        heads(heads_),
        length(length_),
        keys(keys_),
        values(values_) {}

  Numbers flat(const std::string& name) const { return file.values<double>(name); }
  /// (batch, heads, length, width) as rows (batch, length, heads width).
  Numbers rows(const std::string& name) const {
    const Numbers x = flat(name);
    const Index width = static_cast<Index>(x.size()) / (batch * heads * length);
    Numbers result(x.size());
    for (Index b = 0; b < batch; ++b)
      for (Index h = 0; h < heads; ++h)
        for (Index t = 0; t < length; ++t)
          for (Index i = 0; i < width; ++i)
            result[z(((b * length + t) * heads + h) * width + i)] = x[z(((b * heads + h) * length + t) * width + i)];
    return result;
  }
  Numbers no_state() const { return Numbers(z(batch * heads * keys * values)); }
  Shape shape() const { return {batch, length}; }
  RecurrenceSizes sizes(double scale, RecurrenceDecay decay, bool per_token) const {
    return {heads, heads, keys, values, scale, false, decay, per_token};
  }
};

constexpr RecurrenceForm forms[] = {RecurrenceForm::stepwise, RecurrenceForm::chunked};
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

TEST_CASE("the recurrence reproduces gated linear attention", "[cpu][linear_recurrence][golden]") {
  const Fixture f("gla_l24", 2, 24, 8, 6);
  const Operands in{f.rows("input.q"), f.rows("input.k"), f.rows("input.v"), f.rows("input.g"), {}, f.no_state()};
  for (const RecurrenceForm form : forms) {
    const Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::channel, true), in,
                                   f.rows("grad_output"), form);
    CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
    CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
    CHECK(distance(c.gradient.query, f.rows("grad_input.q")) < 1e-12);
    CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
    CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
    CHECK(distance(c.gradient.log_decay, f.rows("grad_input.g")) < 1e-12);
  }
}

TEST_CASE("the recurrence reproduces HGRN2", "[cpu][linear_recurrence][golden]") {
  const Fixture f("hgrn2_l24", 2, 24, 8, 6);
  const Numbers raw_q = f.rows("input.q"), raw_f = f.rows("input.f");
  Operands in{raw_q, raw_f, f.rows("input.v"), raw_f, {}, f.no_state()};
  for (std::size_t i = 0; i < raw_q.size(); ++i) {
    in.query[i] = raw_q[i] * sigmoid(raw_q[i]);
    in.key[i] = sigmoid(-raw_f[i]);
    in.log_decay[i] = -std::log1p(std::exp(-raw_f[i]));
  }
  for (const RecurrenceForm form : forms) {
    Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::channel, true), in,
                             f.rows("grad_output"), form);
    Numbers d_q = c.gradient.query, d_f = c.gradient.key;
    for (std::size_t i = 0; i < d_q.size(); ++i) {
      const double s = sigmoid(raw_q[i]), g = sigmoid(raw_f[i]);
      d_q[i] *= s * (1 + raw_q[i] * (1 - s));
      d_f[i] = -c.gradient.key[i] * g * (1 - g) + c.gradient.log_decay[i] * (1 - g);
    }
    CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
    CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
    CHECK(distance(d_q, f.rows("grad_input.q")) < 1e-12);
    CHECK(distance(d_f, f.rows("grad_input.f")) < 1e-12);
    CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
  }
}

TEST_CASE("the recurrence reproduces retention", "[cpu][linear_recurrence][golden]") {
  for (const Index length : {7, 24}) {
    const bool initial = length == 7;
    const Index heads = initial ? 2 : 4;
    const Fixture f("retention_l" + std::to_string(length), heads, length, 8, 6);
    Numbers log_decay;
    for (Index h = 0; h < heads; ++h) log_decay.push_back(std::log(1 - std::pow(2.0, static_cast<double>(-5 - h))));
    const Operands in{f.rows("input.q"),
                      f.rows("input.k"),
                      f.rows("input.v"),
                      log_decay,
                      {},
                      initial ? f.flat("input.initial_state") : f.no_state()};
    for (const RecurrenceForm form : forms) {
      const Computed c = run<double>(f.shape(), f.sizes(1 / std::sqrt(8.0), RecurrenceDecay::head, false), in,
                                     f.rows("grad_output"), form);
      CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
      CHECK(distance(c.forward.final_state, f.flat("final_state")) < 1e-12);
      CHECK(distance(c.gradient.query, f.rows("grad_input.q")) < 1e-12);
      CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
      CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
      if (initial) CHECK(distance(c.gradient.initial, f.flat("grad_input.initial_state")) < 1e-12);
    }
  }
}

TEST_CASE("the recurrence reproduces the state space duality of Mamba-2", "[cpu][linear_recurrence][golden]") {
  for (const bool grouped : {false, true}) {
    // Query C, key B, value dt x; the file's states are (value, key).
    const Index heads = 4, groups = grouped ? 2 : 1, keys = grouped ? 5 : 8, values = grouped ? 6 : 4;
    const Fixture f(grouped ? "ssd_g2_l7" : "ssd_l24", heads, grouped ? 7 : 24, keys, values);
    const Numbers x = f.flat("input.x"), raw_dt = f.flat("input.dt"), bias = f.flat("input.dt_bias");
    const Numbers a_log = f.flat("input.A_log"), skip = f.flat("input.D");
    const auto transposed = [&](const Numbers& s, Index rows, Index columns) {
      Numbers result(s.size());
      for (Index n = 0; n < f.batch * heads; ++n)
        for (Index i = 0; i < rows; ++i)
          for (Index j = 0; j < columns; ++j)
            result[z((n * columns + j) * rows + i)] = s[z((n * rows + i) * columns + j)];
      return result;
    };
    Operands in{f.flat("input.C"), f.flat("input.B"), x, raw_dt, {}, f.no_state()};
    if (grouped) in.initial = transposed(f.flat("input.initial_state"), values, keys);
    Numbers dt = raw_dt;
    for (std::size_t i = 0; i < dt.size(); ++i) {
      dt[i] = std::log1p(std::exp(raw_dt[i] + bias[i % z(heads)]));
      in.log_decay[i] = -dt[i] * std::exp(a_log[i % z(heads)]);
    }
    for (std::size_t i = 0; i < x.size(); ++i) in.value[i] = dt[i / z(values)] * x[i];
    RecurrenceSizes s = f.sizes(1, RecurrenceDecay::head, true);
    s.key_groups = groups;
    const Numbers d_output = f.flat("grad_output");
    for (const RecurrenceForm form : forms) {
      const Computed c = run<double>(f.shape(), s, in, d_output, form);
      Numbers output = c.forward.output, d_x = output, d_dt(dt.size()), d_a(z(heads)), d_skip = d_a, d_bias = d_a;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t h = i / z(values) % z(heads);
        output[i] += skip[h] * x[i];
        d_x[i] = c.gradient.value[i] * dt[i / z(values)] + skip[h] * d_output[i];
        d_dt[i / z(values)] += c.gradient.value[i] * x[i];
        d_skip[h] += d_output[i] * x[i];
      }
      for (std::size_t i = 0; i < dt.size(); ++i) {
        const std::size_t h = i % z(heads);
        d_a[h] += c.gradient.log_decay[i] * in.log_decay[i];
        d_dt[i] -= c.gradient.log_decay[i] * std::exp(a_log[h]);
        d_dt[i] *= sigmoid(raw_dt[i] + bias[h]);
        d_bias[h] += d_dt[i];
      }
      CHECK(distance(output, f.flat("output")) < 1e-12);
      CHECK(distance(transposed(c.forward.final_state, keys, values), f.flat("final_state")) < 1e-12);
      CHECK(distance(c.gradient.query, f.flat("grad_input.C")) < 1e-12);
      CHECK(distance(c.gradient.key, f.flat("grad_input.B")) < 1e-12);
      CHECK(distance(d_x, f.flat("grad_input.x")) < 1e-12);
      CHECK(distance(d_dt, f.flat("grad_input.dt")) < 1e-12);
      CHECK(distance(d_a, f.flat("grad_input.A_log")) < 1e-12);
      CHECK(distance(d_skip, f.flat("grad_input.D")) < 1e-12);
      CHECK(distance(d_bias, f.flat("grad_input.dt_bias")) < 1e-12);
      if (grouped)
        CHECK(distance(transposed(c.gradient.initial, keys, values), f.flat("grad_input.initial_state")) < 1e-12);
    }
  }
}

TEST_CASE("the recurrence reproduces the operator of RWKV-5 and RWKV-6", "[cpu][linear_recurrence][golden]") {
  for (const bool per_token : {false, true}) {
    const Fixture f(per_token ? "wkv6_l24" : "wkv5_l24", 2, 24, 8, 8);
    Operands in{f.rows("input.r"), f.rows("input.k"),
                f.rows("input.v"), per_token ? f.rows("input.w") : f.flat("input.w"),
                f.flat("input.u"), f.no_state()};
    for (double& a : in.log_decay) a = -std::exp(a);
    for (const RecurrenceForm form : forms) {
      const Computed c =
          run<double>(f.shape(), f.sizes(1, RecurrenceDecay::channel, per_token), in, f.rows("grad_output"), form);
      Numbers d_w = c.gradient.log_decay;
      for (std::size_t i = 0; i < d_w.size(); ++i) d_w[i] *= in.log_decay[i];
      CHECK(distance(c.forward.output, f.rows("output")) < 1e-12);
      CHECK(distance(c.gradient.query, f.rows("grad_input.r")) < 1e-12);
      CHECK(distance(c.gradient.key, f.rows("grad_input.k")) < 1e-12);
      CHECK(distance(c.gradient.value, f.rows("grad_input.v")) < 1e-12);
      CHECK(distance(c.gradient.bonus, f.flat("grad_input.u")) < 1e-12);
      CHECK(distance(d_w, per_token ? f.rows("grad_input.w") : f.flat("grad_input.w")) < 1e-12);
    }
  }
}

}  // namespace mad::linear_recurrence_testing
