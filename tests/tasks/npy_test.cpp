// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include "catch.hpp"
#include "tasks/scratch_folder.hpp"

#include <mad/core/error.hpp>
#include <mad/tasks/npy.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace mad::tasks;
using namespace mad::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A file of format 1.0 with this header, padded as numpy does.
std::string npy_bytes(std::string header, const std::string& data) {
  while ((header.size() + 11) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + data;
}

template <class T>
std::string raw(std::vector<T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
void round_trip(const std::filesystem::path& path, NpyArray<T> array) {
  write_npy(path, array);
  const std::string bytes = bytes_of(path);
  CHECK((bytes.size() - array.data.size() * sizeof(T)) % 64 == 0);
  CHECK(bytes.substr(bytes.size() - array.data.size() * sizeof(T)) == raw(array.data));
  CHECK(read_npy<T>(path) == array);
}

}  // namespace

TEST_CASE("arrays of every type and number of dimensions survive the way through a file") {
  const ScratchFolder folder;
  const auto path = folder.path() / "new" / "array.npy";
  using Limits = std::numeric_limits<std::int64_t>;
  round_trip<std::int64_t>(path, {{2, 3}, {0, 1, -100, Limits::max(), Limits::min(), 5}});
  round_trip<std::int32_t>(path, {{4}, {1, -2, 3, -4}});
  round_trip<float>(path, {{1, 2, 1, 2}, {0.5f, -1.25f, INFINITY, 1e-30f}});
  round_trip<double>(path, {{2, 1}, {0.1, -1e300}});
  round_trip<double>(path, {{}, {3.5}});
  round_trip<std::int64_t>(path, {{0, 7}, {}});
  round_trip<std::int64_t>(path, {std::vector<std::int64_t>(40, 1), {8}});
}

TEST_CASE("the header is the one numpy writes") {
  const ScratchFolder folder;
  const auto path = folder.path() / "array.npy";
  write_npy<std::int64_t>(path, {{2, 3}, {1, 2, 3, 4, 5, 6}});
  CHECK(bytes_of(path) == npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }",
                                    raw<std::int64_t>({1, 2, 3, 4, 5, 6})));
  write_npy<float>(path, {{1}, {1.0f}});
  CHECK(bytes_of(path) == npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", raw<float>({1.0f})));
}

TEST_CASE("a header is read in any order of its keys and with either quote") {
  const ScratchFolder folder;
  const auto path = folder.path() / "array.npy";
  put_bytes(path, npy_bytes("{\"shape\":(2,1),'fortran_order':False , \"descr\":'<i4'}", raw<std::int32_t>({7, 8})));
  CHECK(read_npy<std::int32_t>(path) == NpyArray<std::int32_t>{{2, 1}, {7, 8}});
}

TEST_CASE("a file that is not the array that is wanted is refused, with its name and what is wrong") {
  const ScratchFolder folder;
  const auto path = folder.path() / "array.npy";
  const std::string header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }";
  const std::string data = raw<std::int64_t>({1, 2});
  const std::string good = npy_bytes(header, data);
  const auto refused = [&](const std::string& bytes, const std::string& words) {
    put_bytes(path, bytes);
    INFO(words);
    CHECK_THROWS_AS(read_npy<std::int64_t>(path), mad::Error);
    CHECK_THROWS_WITH(read_npy<std::int64_t>(path), ContainsSubstring("array.npy'") && ContainsSubstring(words));
  };
  put_bytes(path, good);
  REQUIRE(read_npy<std::int64_t>(path).data == std::vector<std::int64_t>{1, 2});

  CHECK_THROWS_WITH(read_npy<std::int64_t>(folder.path() / "none.npy"), ContainsSubstring("none.npy"));
  refused("", "not a .npy file");
  refused("PK\x03\x04 and more", "not a .npy file");
  refused(good.substr(0, 9), "cut off inside the .npy header");
  refused(good.substr(0, 40), "cut off inside the .npy header");
  refused(good.substr(0, good.size() - 1), "is cut off: 15 bytes");
  refused(good.substr(0, good.size() - 16), "is cut off: 0 bytes");
  refused(good + "x", "is too long: 17 bytes");
  std::string version = good;
  version[6] = 2;
  refused(version, "format version is 2.0, must be 1.0");
  refused(npy_bytes("{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }", data),
          "number type is '<i4', must be '<i8'");
  refused(npy_bytes("{'descr': '>i8', 'fortran_order': False, 'shape': (2,), }", data), "number type is '>i8'");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': True, 'shape': (2,), }", data), "column-major");
  refused(npy_bytes("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (2,), }", data), "header is damaged");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': 0, 'shape': (2,), }", data), "must be True or False");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (-2,), }", data), "expected an extent");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (2 2), }", data), "expected ','");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999,), }", data), "too large");
  // The product of these extents is 32 in 64 bits, which is what the data would have.
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (32, 576460752303423489), }",
                    raw(std::vector<std::int64_t>(32, 1))),
          "is cut off");
  refused(npy_bytes("{'descr': '<i8', 'fortran_order': False, }", data), "'shape' is missing");
  refused(npy_bytes("{'descr': '<i8', 'shape': (2,), }", data), "'fortran_order' is missing");
  refused(npy_bytes("{'fortran_order': False, 'shape': (2,), }", data), "'descr' is missing");
  refused(npy_bytes(header + " x", data), "something follows");
  refused(npy_bytes("{'descr': '<i8', 'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", data), "unexpected");
  refused(npy_bytes("{'endian': 'x', 'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", data), "'endian'");
  refused(npy_bytes("{'descr': '<i8", data), "header is damaged");
}

TEST_CASE("an array is written whole or not at all") {
  const ScratchFolder folder;
  const auto path = folder.path() / "array.npy";
  write_npy<float>(path, {{1}, {1.0f}});
  CHECK_THROWS_WITH(write_npy<float>(path, {{2}, {1.0f}}), ContainsSubstring("the shape does not have 1 elements"));
  CHECK(read_npy<float>(path).data == std::vector<float>{1.0f});
  CHECK(folder.size() == 1);
  CHECK_THROWS_AS(write_npy<float>(path / "below.npy", {{1}, {1.0f}}), mad::Error);
}
