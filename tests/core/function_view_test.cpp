// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/core/function_view.hpp>

#include <catch.hpp>
#include <memory>
#include <string>

namespace mad {

namespace {

int twice(FunctionView<int(int)> f, int x) { return f(f(x)); }

struct Counter {
  int calls = 0;
  void operator()(const std::string& text) { calls += static_cast<int>(text.size()); }
};

}  // namespace

TEST_CASE("A view calls what it refers to, whatever that is") {
  int step = 3;
  CHECK(twice([&](int x) { return x + step; }, 1) == 7);
  const auto constant = [](int x) { return x * 5; };
  CHECK(twice(constant, 2) == 50);
  Counter counter;
  const FunctionView<void(const std::string&)> view = counter;
  view("four");
  view("six");
  CHECK(counter.calls == 7);  // of the object itself, not of a copy
}

TEST_CASE("A copy of a view refers to the same, and a view of nothing says so") {
  int calls = 0;
  const auto count = [&](std::unique_ptr<int> amount) { calls += *amount; };
  const FunctionView<void(std::unique_ptr<int>)> first = count;
  const FunctionView<void(std::unique_ptr<int>)> second = first;
  second(std::make_unique<int>(4));
  CHECK(calls == 4);
  CHECK(second);
  CHECK_FALSE(FunctionView<void()>{});
}

}  // namespace mad
