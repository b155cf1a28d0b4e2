// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "every_header.hpp"

const void* address_of_version_in_second() { return &mad::version; }
