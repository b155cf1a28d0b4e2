// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/cpu/kernels/selective_scan.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

using mad::Index;
using mad::Shape;
using mad::View;
using mad::cpu::ScanGradients;
using mad::cpu::ScanOperands;
using mad::cpu::ScanSizes;

namespace {

using Numbers = std::vector<double>;

std::size_t z(Index i) { return static_cast<std::size_t>(i); }

/// A scan's operands or gradients, rows packed, in double.
struct Scan {
  Numbers u, dt, a, b, c, skip, initial;
};

/// The recurrence as it is written in the specification.
struct Result {
  Numbers y, final_state;
};

Result scan(const Shape& shape, const ScanSizes& sizes, const Scan& in) {
  const Index channels = sizes.channels, states = sizes.states;
  Result out{Numbers(z(shape.tokens() * channels)), in.initial};
  for (Index seq = 0; seq < shape.batch; ++seq) {
    for (Index c = 0; c < channels; ++c) {
      for (Index t = 0; t < shape.length; ++t) {
        const Index row = seq * shape.length + t;
        const double u = in.u[z(row * channels + c)], dt = in.dt[z(row * channels + c)];
        double y = in.skip[z(c)] * u;
        for (Index n = 0; n < states; ++n) {
          double& state = out.final_state[z((seq * channels + c) * states + n)];
          state = std::exp(dt * in.a[z(c * states + n)]) * state + dt * in.b[z(row * states + n)] * u;
          y += state * in.c[z(row * states + n)];
        }
        out.y[z(row * channels + c)] = y;
      }
    }
  }
  return out;
}

Scan draw(const Shape& shape, const ScanSizes& sizes, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  const auto numbers = [&](Index count, auto&& transform) {
    Numbers result(z(count));
    for (double& x : result) x = static_cast<double>(static_cast<float>(transform(normal(generator))));
    return result;
  };
  const auto plain = [](double x) { return x; };
  const Index tokens = shape.tokens(), channels = sizes.channels, states = sizes.states;
  Scan s;
  s.u = numbers(tokens * channels, plain);
  s.dt = numbers(tokens * channels, [](double x) { return 0.3 * std::log1p(std::exp(x)); });
  s.a = numbers(channels * states, [](double x) { return -std::exp(0.5 * x); });
  s.b = numbers(tokens * states, plain);
  s.c = numbers(tokens * states, plain);
  s.skip = numbers(channels, plain);
  s.initial = numbers(shape.batch * channels * states, plain);
  return s;
}

/// Rows further apart than they are wide.
template <class T>
struct Rows {
  static constexpr Index gap = 5;
  Index width;
  std::vector<T> values;

  Rows(const Numbers& packed, Index width_) : width(width_) {
    const Index rows = static_cast<Index>(packed.size()) / width;
    values.assign(z(rows * (width + gap)), T(77));
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < width; ++c) values[z(r * (width + gap) + c)] = static_cast<T>(packed[z(r * width + c)]);
    }
  }
  View<T> view() { return {values.data(), width + gap}; }
  View<const T> view() const { return {values.data(), width + gap}; }
  Numbers packed() const {
    Numbers result;
    bool intact = true;
    for (Index r = 0; r < static_cast<Index>(values.size()) / (width + gap); ++r) {
      for (Index c = 0; c < width + gap; ++c) {
        const T value = values[z(r * (width + gap) + c)];
        if (c < width) result.push_back(static_cast<double>(value));
        if (c >= width) intact = intact && value == T(77);
      }
    }
    REQUIRE(intact);
    return result;
  }
};

template <class T>
std::vector<T> rounded(const Numbers& x) {
  std::vector<T> result;
  for (double value : x) result.push_back(static_cast<T>(value));
  return result;
}

struct Computed {
  Result forward;
  Scan gradient;  // `a` and `skip` were added to 1
};

/// Runs the kernels under test, with \p room for states, which are added to in between.
template <int States, class T>
Computed run(const Shape& shape, const ScanSizes& sizes, const Scan& in, const Numbers& d_y, const Numbers& d_final,
             Index room = 0, T added = 0) {
  const Index channels = sizes.channels, states = sizes.states;
  const Rows<T> u(in.u, channels), dt(in.dt, channels), b(in.b, states), c(in.c, states), d_out(d_y, channels);
  const std::vector<T> a = rounded<T>(in.a), skip = rounded<T>(in.skip), initial = rounded<T>(in.initial);
  const std::vector<T> d_last = rounded<T>(d_final);
  const ScanOperands<T> operands{u.view(), dt.view(), a.data(), b.view(), c.view(), skip.data(), initial.data()};
  Rows<T> y(Numbers(d_y.size(), 3.0), channels), d_u = y, d_dt = y;
  Rows<T> d_b(Numbers(in.b.size(), 3.0), states), d_c = d_b;
  std::vector<T> last(initial.size(), T(3)), d_initial = last, d_a(a.size(), T(1)), d_skip(skip.size(), T(1));
  mad::cpu::Workspace workspace;
  std::vector<T> kept(z(room), std::numeric_limits<T>::quiet_NaN());
  mad::cpu::selective_scan_forward<States, T>(shape, sizes, operands, y.view(), workspace, last.data(),
                                              {kept.data(), room});
  for (T& x : kept) x += added;
  const ScanGradients<T> out{d_u.view(), d_dt.view(),   d_a.data(),      d_b.view(),
                             d_c.view(), d_skip.data(), d_initial.data()};
  mad::cpu::selective_scan_backward<States, T>(shape, sizes, operands, std::as_const(d_out).view(), out, workspace,
                                               d_last.data(), {kept.data(), room});
  for (T& x : d_a) x -= T(1);
  for (T& x : d_skip) x -= T(1);
  return {{y.packed(), rounded<double>(Numbers(last.begin(), last.end()))},
          {d_u.packed(), d_dt.packed(), Numbers(d_a.begin(), d_a.end()), d_b.packed(), d_c.packed(),
           Numbers(d_skip.begin(), d_skip.end()), Numbers(d_initial.begin(), d_initial.end())}};
}

double distance(const Numbers& found, const Numbers& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0, largest = 1e-300;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i])) return INFINITY;
    worst = std::max(worst, std::abs(found[i] - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

/// The chain rule written out per scalar, all states kept.
Scan gradient(const Shape& shape, const ScanSizes& sizes, const Scan& in, const Numbers& d_y, const Numbers& d_final) {
  const Index channels = sizes.channels, states = sizes.states;
  Scan g{Numbers(in.u.size()), Numbers(in.dt.size()),   Numbers(in.a.size()),      Numbers(in.b.size()),
         Numbers(in.c.size()), Numbers(in.skip.size()), Numbers(in.initial.size())};
  for (Index seq = 0; seq < shape.batch; ++seq) {
    for (Index c = 0; c < channels; ++c) {
      for (Index n = 0; n < states; ++n) {
        const Index at = (seq * channels + c) * states + n;
        const double a = in.a[z(c * states + n)];
        Numbers state{in.initial[z(at)]};
        for (Index t = 0; t < shape.length; ++t) {
          const Index row = seq * shape.length + t;
          const double dt = in.dt[z(row * channels + c)];
          state.push_back(std::exp(dt * a) * state.back() +
                          dt * in.b[z(row * states + n)] * in.u[z(row * channels + c)]);
        }
        double d = d_final[z(at)];
        for (Index t = shape.length - 1; t >= 0; --t) {
          const Index row = seq * shape.length + t;
          const std::size_t token = z(row * channels + c), map = z(row * states + n);
          const double dt = in.dt[token], u = in.u[token], decay = std::exp(dt * a);
          d += d_y[token] * in.c[map];
          g.c[map] += d_y[token] * state[z(t + 1)];
          g.b[map] += d * dt * u;
          g.u[token] += d * dt * in.b[map];
          g.dt[token] += d * (a * decay * state[z(t)] + in.b[map] * u);
          g.a[z(c * states + n)] += d * dt * decay * state[z(t)];
          d *= decay;
        }
        g.initial[z(at)] = d;
      }
      for (Index t = 0; t < shape.length; ++t) {
        const std::size_t token = z((seq * shape.length + t) * channels + c);
        g.u[token] += in.skip[z(c)] * d_y[token];
        g.skip[z(c)] += in.u[token] * d_y[token];
      }
    }
  }
  return g;
}

const Numbers Scan::*const fields[] = {&Scan::u, &Scan::dt, &Scan::a, &Scan::b, &Scan::c, &Scan::skip, &Scan::initial};

template <int States, class T>
void check(const Shape& shape, const ScanSizes& sizes, double tolerance) {
  CAPTURE(States, shape.batch, shape.length, sizes.channels, sizes.states, sizeof(T));
  const Scan in = draw(shape, sizes, static_cast<unsigned>(shape.length * 100 + sizes.channels));
  const Scan cotangents = draw(shape, sizes, 5);
  const Computed found = run<States, T>(shape, sizes, in, cotangents.u, cotangents.initial);
  const Result expected = scan(shape, sizes, in);
  const Scan expected_gradient = gradient(shape, sizes, in, cotangents.u, cotangents.initial);
  CHECK(distance(found.forward.y, expected.y) < tolerance);
  CHECK(distance(found.forward.final_state, expected.final_state) < tolerance);
  for (std::size_t i = 0; i < std::size(fields); ++i) {
    CAPTURE(i);
    CHECK(distance(found.gradient.*fields[i], expected_gradient.*fields[i]) < 5 * tolerance);
  }
}

template <int States>
void check_shapes(Index states) {
  for (const Shape& shape :
       {Shape{1, 1}, {3, 1}, {2, 2}, {1, 7}, {3, 33}, {2, 64}, {1, 65}, {2, 128}, {1, 131}, {1, 300}}) {
    for (const Index channels : {1, 8, 16, 19, 40}) {
      check<States, double>(shape, {channels, states}, 1e-12);
      check<States, float>(shape, {channels, states}, 1e-5);
    }
  }
}

}  // namespace

TEST_CASE("the scan of 4 states is the recurrence", "[cpu][selective_scan]") { check_shapes<4>(4); }
TEST_CASE("the scan of 16 states is the recurrence", "[cpu][selective_scan]") { check_shapes<16>(16); }
TEST_CASE("the scan of an odd number of states is the recurrence", "[cpu][selective_scan]") { check_shapes<11>(11); }
TEST_CASE("the scan of run-time states is the recurrence", "[cpu][selective_scan]") {
  for (const Index states : {1, 4, 7}) check_shapes<0>(states);
}

TEST_CASE("the gradient of a long scan begins its chunks with the states that were kept", "[cpu][selective_scan]") {
  const Shape shape{2, 700};
  for (const Index channels : {3, 16, 40}) {
    const ScanSizes sizes{channels, 4};
    const Scan in = draw(shape, sizes, 8), cotangents = draw(shape, sizes, 5);
    const auto run_with = [&](Index room, double added) {
      return run<4, double>(shape, sizes, in, cotangents.u, cotangents.initial, room, added);
    };
    const Index states = mad::cpu::detail::scan_states_size<double>(sizes);
    const mad::cpu::detail::ScanChunks<double> chunks(shape, sizes, mad::cpu::detail::scan_group<4>, states, {});
    REQUIRE(chunks.count > 1);
    const Index room = shape.batch * (chunks.count - 1) * states;
    const Computed again = run_with(0, 0), kept = run_with(room, 0), too_little = run_with(room - 1, 1);
    const Computed moved = run_with(room, 1);
    CHECK(kept.forward.y == again.forward.y);
    CHECK(kept.forward.final_state == again.forward.final_state);
    for (const auto field : fields) {
      CHECK(kept.gradient.*field == again.gradient.*field);
      CHECK(too_little.gradient.*field == again.gradient.*field);
    }
    CHECK(moved.gradient.c != again.gradient.c);
  }
}

TEST_CASE("the gradient of the scan agrees with finite differences", "[cpu][selective_scan]") {
  const Shape shape{2, 6};
  const ScanSizes sizes{5, 4};
  Scan in = draw(shape, sizes, 1);
  const Scan cotangents = draw(shape, sizes, 2);
  const Computed found = run<4, double>(shape, sizes, in, cotangents.u, cotangents.initial);
  const auto objective = [&] {
    const Result r = run<4, double>(shape, sizes, in, cotangents.u, cotangents.initial).forward;
    double sum = 0;
    for (std::size_t i = 0; i < r.y.size(); ++i) sum += r.y[i] * cotangents.u[i];
    for (std::size_t i = 0; i < r.final_state.size(); ++i) sum += r.final_state[i] * cotangents.initial[i];
    return sum;
  };
  for (const auto field : fields) {
    Numbers& values = const_cast<Numbers&>(in.*field);
    Numbers differences;
    for (double& x : values) {
      const double kept = x, h = 1e-3;
      const auto at = [&](double offset) {
        x = kept + offset;
        const double result = objective();
        x = kept;
        return result;
      };
      differences.push_back((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h));
    }
    CHECK(distance(found.gradient.*field, differences) < 1e-9);
  }
}

TEST_CASE("scanning in pieces is scanning at once", "[cpu][selective_scan]") {
  const Index channels = 21, states = 4, length = 50, cut = 17;
  const ScanSizes sizes{channels, states};
  const Scan in = draw({1, length}, sizes, 3);
  const auto scan_rows = [&](Index begin, Index end, const double* initial, Numbers& y, Numbers& last) {
    const ScanOperands<double> operands{{in.u.data() + begin * channels, channels},
                                        {in.dt.data() + begin * channels, channels},
                                        in.a.data(),
                                        {in.b.data() + begin * states, states},
                                        {in.c.data() + begin * states, states},
                                        in.skip.data(),
                                        initial};
    const View<double> out{y.data() + begin * channels, channels};
    mad::cpu::Workspace workspace;
    mad::cpu::selective_scan_forward<4, double>({1, end - begin}, sizes, operands, out, workspace, last.data());
  };
  Numbers whole(z(length * channels)), pieces = whole, last(z(channels * states)), middle = last, end = last;
  scan_rows(0, length, in.initial.data(), whole, last);
  scan_rows(0, cut, in.initial.data(), pieces, middle);
  scan_rows(cut, length, middle.data(), pieces, end);
  CHECK(pieces == whole);
  CHECK(end == last);
}

TEST_CASE("a scan whose sizes differ from the compiled ones is refused", "[cpu][selective_scan]") {
  const std::vector<double> x(16, 0.5);
  std::vector<double> y(16);
  const ScanOperands<double> operands{{x.data(), 1}, {x.data(), 1}, x.data(), {x.data(), 1}, {x.data(), 1}, nullptr};
  const View<double> out{y.data(), 1};
  mad::cpu::Workspace workspace;
  CHECK_THROWS_AS((mad::cpu::selective_scan_forward<4, double>({1, 1}, {1, 3}, operands, out, workspace)),
                  mad::UsageError);
}

TEST_CASE("the scan reproduces the reference", "[cpu][selective_scan][golden]") {
  std::ifstream file(std::string(MAD_GOLDEN_DIR) + "/layers/core_selective-scan_l24.safetensors", std::ios::binary);
  REQUIRE(file);
  std::uint64_t header_size = 0;
  file.read(reinterpret_cast<char*>(&header_size), sizeof header_size);
  std::string header(header_size, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header_size));
  const auto entries = nlohmann::json::parse(header);
  const auto tensor = [&](const std::string& name) {
    const auto offsets = entries.at(name).at("data_offsets").get<std::vector<std::uint64_t>>();
    Numbers values((offsets[1] - offsets[0]) / sizeof(double));
    file.seekg(static_cast<std::streamoff>(sizeof header_size + header_size + offsets[0]));
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(offsets[1] - offsets[0]));
    REQUIRE(file);
    return values;
  };
  const Index batch = 2, length = 24, channels = 8, states = 4;
  // The file has (batch, width, length), the kernel reads (batch, length, width).
  const auto rows = [&](const std::string& name, Index width) {
    const Numbers values = tensor(name);
    Numbers result(values.size());
    for (Index b = 0; b < batch; ++b) {
      for (Index c = 0; c < width; ++c) {
        for (Index t = 0; t < length; ++t)
          result[z((b * length + t) * width + c)] = values[z((b * width + c) * length + t)];
      }
    }
    return result;
  };
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  Scan in{rows("input.u", channels),
          rows("input.delta", channels),
          tensor("input.A_log"),
          rows("input.B", states),
          rows("input.C", states),
          tensor("input.D"),
          Numbers(z(batch * channels * states))};
  const Numbers bias = tensor("input.delta_bias"), gate = rows("input.z", channels);
  const Numbers raw_dt = in.dt, a_log = in.a;
  Numbers d_y = rows("grad_output", channels), output = d_y;
  for (double& x : in.a) x = -std::exp(x);
  for (std::size_t i = 0; i < in.dt.size(); ++i) {
    in.dt[i] = std::log1p(std::exp(in.dt[i] + bias[i % z(channels)]));
    d_y[i] *= gate[i] * sigmoid(gate[i]);
  }
  const Computed found = run<4, double>({batch, length}, {channels, states}, in, d_y, in.initial);
  for (std::size_t i = 0; i < output.size(); ++i) output[i] = found.forward.y[i] * gate[i] * sigmoid(gate[i]);
  Numbers d_delta = found.gradient.dt, d_bias(z(channels)), d_a_log = found.gradient.a;
  for (std::size_t i = 0; i < d_delta.size(); ++i) {
    d_delta[i] *= sigmoid(raw_dt[i] + bias[i % z(channels)]);
    d_bias[i % z(channels)] += d_delta[i];
  }
  for (std::size_t i = 0; i < d_a_log.size(); ++i) d_a_log[i] *= in.a[i];
  CHECK(distance(output, rows("output", channels)) < 1e-12);
  CHECK(distance(found.forward.final_state, tensor("final_state")) < 1e-12);
  CHECK(distance(found.gradient.u, rows("grad_input.u", channels)) < 1e-12);
  CHECK(distance(d_delta, rows("grad_input.delta", channels)) < 1e-12);
  CHECK(distance(d_bias, tensor("grad_input.delta_bias")) < 1e-12);
  CHECK(distance(d_a_log, tensor("grad_input.A_log")) < 1e-12);
  CHECK(distance(found.gradient.b, rows("grad_input.B", states)) < 1e-12);
  CHECK(distance(found.gradient.c, rows("grad_input.C", states)) < 1e-12);
  CHECK(distance(found.gradient.skip, tensor("grad_input.D")) < 1e-12);
}
