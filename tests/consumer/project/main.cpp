// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// Uses a header of mad and one of each library that mad::mad promises to bring along.
#include <mad/core/version.hpp>

#include <CLI/Version.hpp>
#include <Eigen/Core>
#include <nlohmann/json_fwd.hpp>

#include <iostream>
#include <thread>

#if __has_include(<mad/mad.hpp>)
#include <mad/mad.hpp>
#endif

int main() {
  const Eigen::Vector2d ones = Eigen::Vector2d::Ones();
  int status = 1;
  std::thread([&] { status = ones.sum() == 2.0 ? 0 : 1; }).join();
  std::cout << "mad " << mad::version << ' ' << mad::revision() << '\n';
  return status;
}
