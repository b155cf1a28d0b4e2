// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
// With second.cpp: all headers in two files of one program. A function that is not inline fails to link.
#include "every_header.hpp"

const void* address_of_version_in_second();

int main() {
  // Inline variables are one object in the whole program.
  return &mad::version == address_of_version_in_second() ? 0 : 1;
}
