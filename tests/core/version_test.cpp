// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/core/version.hpp>

#include <fstream>
#include <string>

#include "catch.hpp"

TEST_CASE("the version is the newest one in the change log") {
  std::ifstream changes(MAD_SOURCE_DIR "/CHANGELOG.md");
  REQUIRE(changes);
  const std::string mark = "## ";
  std::string line;
  while (std::getline(changes, line) && line.rfind(mark, 0) != 0) {
  }
  const std::string newest = line.substr(mark.size(), line.find(' ', mark.size()) - mark.size());
  CHECK(newest == mad::version);
}

TEST_CASE("the revision is unknown until the build records one") {
  CHECK(mad::revision() == "unknown");
  mad::record_revision("0123456789ab-dirty");
  CHECK(mad::revision() == "0123456789ab-dirty");
  mad::record_revision("unknown");
}
