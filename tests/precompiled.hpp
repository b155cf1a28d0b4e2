// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Headers of others that nearly every test reads, compiled once for all of them. Of Eigen only what programs read:
/// with Eigen/Core here no test would see what they get.
#pragma once

#include "catch.hpp"

#include <mad/cpu/packets/eigen_packets.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <complex>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
