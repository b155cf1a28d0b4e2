// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "strided_rows.hpp"

#include <mad/cpu/kernels/attention.hpp>
#include <mad/cpu/kernels/attention/step.hpp>

namespace {

using mad::Index;
using mad::Shape;
using mad::cpu::AttentionSizes;
using mad::testing::StridedRows;

struct Case {
  Index batch, length, longest;
  AttentionSizes sizes;
};

/// Every token by itself against whole sequences.
template <class T>
void check(const Case& c, double tolerance) {
  const AttentionSizes& s = c.sizes;
  INFO("batch " << c.batch << ", length " << c.length << " of " << c.longest << ", heads " << s.heads << " of "
                << s.kv_heads << ", width " << s.head_dim << ", window " << s.window << ", rotary " << s.rotary);
  std::mt19937 random(3);
  const Index rows = c.batch * c.length, width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  const StridedRows<T> q(rows, width, random, -2, 2), k(rows, kv_width, random, -2, 2), v(rows, kv_width, random);
  StridedRows<T> expected(rows, width), lse(rows, s.heads);
  mad::cpu::Workspace workspace;
  mad::cpu::attention_forward<0, T>({c.batch, c.length, c.length}, s, q.view(), k.view(), v.view(), expected.view(),
                                    lse.view(), workspace);
  std::vector<T> state(static_cast<std::size_t>(c.batch * mad::cpu::attention_step_state(s, c.longest)));
  for (Index t = 0; t < c.length; ++t) {
    const StridedRows<T> q_t = q.token(t, c.length), k_t = k.token(t, c.length), v_t = v.token(t, c.length);
    StridedRows<T> found(c.batch, width);
    mad::cpu::attention_step<T>(c.batch, c.longest, t, s, q_t.view(), k_t.view(), v_t.view(), found.view(),
                                state.data(), workspace);
    found.check_token(expected, t, c.length, tolerance);
  }
}

const std::vector<Case> cases{
    {1, 1, 1, {}},
    {2, 9, 9, {.heads = 2, .kv_heads = 2, .head_dim = 8, .scale = 0.4, .rotary = 8}},
    {3, 50, 64, {.heads = 3, .kv_heads = 3, .head_dim = 5, .scale = 0.4, .rotary = 4, .interleaved = true}},
    {1, 130, 131, {.heads = 4, .kv_heads = 2, .head_dim = 16, .scale = 0.25, .rotary = 16, .rotary_base = 100}},
    {2, 40, 40, {.heads = 6, .kv_heads = 1, .head_dim = 7, .window = 0}},
    {2, 100, 100, {.heads = 4, .kv_heads = 4, .head_dim = 8, .window = 32, .scale = 0.4, .rotary = 8}},
    {1, 70, 70, {.heads = 1, .kv_heads = 1, .head_dim = 24, .window = 5, .scale = 0.2, .rotary = 6}},
    {2, 12, 12, {.heads = 2, .kv_heads = 1, .head_dim = 8, .window = 20}},
};

}  // namespace

TEST_CASE("attention of one token after the other is that of whole sequences") {
  for (const Case& c : cases) {
    check<double>(c, 1e-12);
    check<float>(c, 2e-5);
  }
}

TEST_CASE("attention keeps the keys and values that the window shows") {
  const AttentionSizes s{.heads = 4, .kv_heads = 2, .head_dim = 8, .window = 3};
  CHECK(mad::cpu::attention_step_state(s, 100) == 2 * 4 * 16);
  CHECK(mad::cpu::attention_step_state(s, 2) == 2 * 2 * 16);
  CHECK(mad::cpu::attention_step_state({.heads = 4, .kv_heads = 2, .head_dim = 8}, 100) == 2 * 100 * 16);
}

TEST_CASE("a step of attention stands large scores") {
  const AttentionSizes s{.head_dim = 4, .scale = 1e3};
  check<double>({1, 20, 20, s}, 1e-12);
  check<float>({1, 20, 20, s}, 1e-3);
}
