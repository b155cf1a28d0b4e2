// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
#include <mad/train/safetensors.hpp>

#include "catch.hpp"
#include "core/temporary_folder.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

using Catch::Matchers::ContainsSubstring;
using mad::Index;
using mad::train::NumberType;
using mad::train::Safetensors;
using mad::train::SafetensorsWriter;
using Extents = std::vector<Index>;

namespace {

/// A file put together by hand from the format's description.
std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

/// Reads `header` and `data` bytes of zeros, and returns what the error says ("" if there is none).
std::string error_of(const std::string& header, std::size_t data) {
  const mad::testing::TemporaryFolder folder;
  mad::write_file(folder / "made.safetensors", file_of(header, std::string(data, '\0')));
  try {
    Safetensors::read(folder / "made.safetensors");
  } catch (const mad::Error& error) {
    const std::string text = error.what();
    CHECK_THAT(text, ContainsSubstring("made.safetensors"));
    return text;
  }
  return "";
}

}  // namespace

TEST_CASE("a file made by the reference is read with its shapes, values and texts") {
  const Safetensors file = Safetensors::read(MAD_GOLDEN_DIR "/layers/schedule_T200.safetensors");
  CHECK(file.names() == std::vector<std::string>{"cosine_lr", "plateau_loss", "plateau_lr"});
  CHECK(file.shape("cosine_lr") == Extents{201});
  CHECK(file.text("kind") == "schedule");
  CHECK(file.view<double>("cosine_lr")[0] == 5e-4);
  CHECK(file.values<float>("cosine_lr")[0] == 5e-4f);
  CHECK(file.contains("plateau_lr"));
  CHECK_FALSE(file.contains("plateau"));
}

TEST_CASE("the bytes of a written file are those of the format") {
  const mad::testing::TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add("b", {2}, std::vector<float>{1.0f, -2.0f});
  writer.add_text("made by", "a test");
  writer.write(folder / "file");
  std::string header = R"({"__metadata__":{"made by":"a test"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  while (header.size() % 8 != 0) header += ' ';
  CHECK(mad::read_file(folder / "file") == file_of(header, std::string("\0\0\x80\x3f\0\0\0\xc0", 8)));
}

TEST_CASE("all number types come back as they were, in the order of writing") {
  const mad::testing::TemporaryFolder folder;
  const std::vector<double> doubles{0.1, -0.0, 1e300, 5e-324, 3, 4};
  const std::vector<std::uint8_t> bytes{0, 255, 7};
  SafetensorsWriter writer;
  writer.add("z/bytes", {3}, bytes);  // leaves what follows at an odd address
  writer.add("doubles", {2, 1, 3}, doubles);
  writer.add("scalar", {}, std::vector<std::int64_t>{-9'007'199'254'740'993});
  writer.add("floats", {2}, std::vector<float>{0.1f, 16777217.0f});
  writer.add("empty", {0, 4}, std::vector<double>{});
  writer.add_text("key \"quoted\"", "line\nline");
  writer.write(folder / "file");

  const Safetensors file = Safetensors::read(folder / "file");
  CHECK(file.names() == std::vector<std::string>{"z/bytes", "doubles", "scalar", "floats", "empty"});
  CHECK(file.shape("doubles") == Extents{2, 1, 3});
  CHECK(file.shape("scalar").empty());
  CHECK(file.values<double>("doubles") == doubles);
  CHECK(std::signbit(file.view<double>("doubles")[1]));
  CHECK(file.values<std::uint8_t>("z/bytes") == bytes);
  CHECK(file.view<std::int64_t>("scalar")[0] == -9'007'199'254'740'993);
  CHECK(file.values<double>("floats") == std::vector<double>{0.1f, 16777216.0});
  CHECK(file.values<float>("doubles")[0] == 0.1f);
  CHECK(file.values<double>("empty").empty());
  CHECK(file.text("key \"quoted\"") == "line\nline");
  CHECK(file.tensor("floats").type == NumberType::f32);

  std::vector<float> destination(6);
  file.copy_to("doubles", {2, 1, 3}, destination.data());
  CHECK(destination[4] == 3.0f);
  CHECK_THROWS_WITH(file.copy_to("doubles", {3, 2}, destination.data()),
                    ContainsSubstring("'doubles': has shape [2, 1, 3], expected [3, 2]"));
}

TEST_CASE("asking for what is not there names the file and the key") {
  const Safetensors file = Safetensors::read(MAD_GOLDEN_DIR "/layers/metrics_dense_v16.safetensors");
  CHECK_THROWS_WITH(file.view<double>("logit"),
                    ContainsSubstring("metrics_dense_v16.safetensors', key 'logit': is missing"));
  CHECK_THROWS_WITH(file.view<float>("logits"), ContainsSubstring("number type F64, expected F32"));
  CHECK_THROWS_WITH(file.values<double>("targets"), ContainsSubstring("number type I64, expected F64"));
  CHECK_THROWS_WITH(file.text("step"), ContainsSubstring("key 'step'"));
}

TEST_CASE("a tensor that cannot be written is refused") {
  SafetensorsWriter writer;
  writer.add("a", {2}, std::vector<float>{1, 2});
  CHECK_THROWS_WITH(writer.add("a", {1}, std::vector<float>{1}), ContainsSubstring("the name is taken"));
  CHECK_THROWS_WITH(writer.add("__metadata__", {1}, std::vector<float>{1}), ContainsSubstring("the name is taken"));
  CHECK_THROWS_WITH(writer.add("b", {2, 2}, std::vector<float>{1}), ContainsSubstring("has 1 elements, expected 4"));
}

TEST_CASE("every damage to a header is an error that names the key") {
  CHECK(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8).empty());  // sound: the control
  CHECK(error_of(R"({})", 0).empty());

  const auto says = [](const std::string& header, std::size_t data, const std::string& expected) {
    CHECK_THAT(error_of(header, data), ContainsSubstring(expected));
  };
  says("", 0, "does not begin with '{'");
  says("[1]", 0, "does not begin with '{'");
  says(R"({"a":)", 0, "is not JSON");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "key 'a': occurs twice");
  says(R"({"a":3})", 0, "key 'a': its entry in the header is not an object");
  says(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, "key 'a': has no dtype");
  says(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2, "number type 'F16', expected F32");
  says(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "key 'a': has no shape");
  says(R"({"a":{"dtype":"F32","shape":[1]}})", 4, "key 'a': has no data_offsets");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "unknown key 'x'");
  says(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "not all whole numbers");
  says(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4, "not all whole numbers");
  says(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4, "not all whole numbers");
  says(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "is too large");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "expected [begin, end]");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8, "expected [begin, end]");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 8, "span 8 bytes, but F32 [1] takes 4");
  says(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, "cut short");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "key 'a': its data begin at byte 4");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       4, "key 'b': its data begin at byte 0");
  says(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 6, "take 4 bytes, but it has 6");
  says(R"({"__metadata__":{"epoch":3}})", 0, "the value of 'epoch' is not a text");
  says(R"({"__metadata__":[]})", 0, "key '__metadata__'");
}

TEST_CASE("a file cut short anywhere is an error") {
  const mad::testing::TemporaryFolder folder;
  const std::string whole = mad::read_file(MAD_GOLDEN_DIR "/layers/metrics_epoch_v8.safetensors");
  for (std::size_t size = 0; size < whole.size(); size += 97) {
    mad::write_file(folder / "cut", std::string_view(whole).substr(0, size));
    CHECK_THROWS_AS(Safetensors::read(folder / "cut"), mad::Error);
  }
  mad::write_file(folder / "cut", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10));
  CHECK_THROWS_WITH(Safetensors::read(folder / "cut"), ContainsSubstring("only 2 follow"));
}
