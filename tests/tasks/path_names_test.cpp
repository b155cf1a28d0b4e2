// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"

#include <mad/tasks/path_names.hpp>
#include <mad/tasks/registry.hpp>

#include <cstdlib>
#include <string>

using mad::tasks::data_directory_name;
using mad::tasks::path_value;
using mad::tasks::python_text;

TEST_CASE("doubles are written as Python writes them") {
  // Python 3: print(x)
  CHECK(python_text(0.0) == "0.0");
  CHECK(python_text(-0.0) == "-0.0");
  CHECK(python_text(1.0) == "1.0");
  CHECK(python_text(100.0) == "100.0");
  CHECK(python_text(0.1) == "0.1");
  CHECK(python_text(0.30000000000000004) == "0.30000000000000004");
  CHECK(python_text(-12.5) == "-12.5");
  CHECK(python_text(0.0005) == "0.0005");
  CHECK(python_text(0.0001) == "0.0001");
  CHECK(python_text(0.00001) == "1e-05");
  CHECK(python_text(1.5e-7) == "1.5e-07");
  CHECK(python_text(1234567.0) == "1234567.0");
  CHECK(python_text(1e15) == "1000000000000000.0");
  CHECK(python_text(1234567890123456.7) == "1234567890123456.8");
  CHECK(python_text(1e16) == "1e+16");
  CHECK(python_text(1e-300) == "1e-300");
  CHECK(python_text(1e300 * 1e300) == "inf");
}

TEST_CASE("values in paths have no point, and both truth values are 1") {
  CHECK(path_value(0.2) == "0#2");
  CHECK(path_value(1e-5) == "1e-05");
  CHECK(path_value(12800) == "12800");
  CHECK(path_value(true) == "1");
  CHECK(path_value(false) == "1");
  CHECK(path_value(std::string("v1.5")) == "v1#5");
}

TEST_CASE("data directories have the reference's names") {
  CHECK(data_directory_name({}, "CR") ==
        "t-CR_vs-16_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_s-12345");
  CHECK(data_directory_name(mad::tasks::NoisyRecall::baseline(), "NR") ==
        "t-NR_vs-32_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#2_nvs-16_ntc-0_s-12345");
}

TEST_CASE("a scheduler's original folder goes in front, if there is one") {
  REQUIRE(::unsetenv("TUNE_ORIG_WORKING_DIR") == 0);
  CHECK(mad::tasks::below_original_folder("data") == "data");
  REQUIRE(::setenv("TUNE_ORIG_WORKING_DIR", "/somewhere", 1) == 0);
  CHECK(mad::tasks::below_original_folder("data") == "/somewhere/data");
  REQUIRE(::unsetenv("TUNE_ORIG_WORKING_DIR") == 0);
}
