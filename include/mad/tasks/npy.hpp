// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Arrays in files of numpy's `.npy` format, version 1.0.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/files.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mad::tasks {

static_assert(std::endian::native == std::endian::little, "the .npy code writes memory as it is, little-endian");

/// Number types that can be stored.
template <class T>
concept NpyNumber =
    std::same_as<T, std::int64_t> || std::same_as<T, std::int32_t> || std::same_as<T, float> || std::same_as<T, double>;

/// numpy's name of a number type ("<i8": little-endian, integer, 8 bytes).
template <NpyNumber T>
constexpr std::string_view npy_type() {
  if constexpr (std::same_as<T, std::int64_t>) return "<i8";
  if constexpr (std::same_as<T, std::int32_t>) return "<i4";
  if constexpr (std::same_as<T, float>) return "<f4";
  return "<f8";
}

/// An array of any number of dimensions, row-major.
template <NpyNumber T>
struct NpyArray {
  std::vector<std::int64_t> shape;
  std::vector<T> data;

  friend bool operator==(const NpyArray&, const NpyArray&) = default;
};

namespace detail {

inline constexpr std::string_view npy_magic{"\x93NUMPY", 6};
inline constexpr std::size_t npy_prefix_size = 10;  // magic, two version bytes, two bytes of header length

/// What the header says of an array.
struct NpyHeader {
  std::string type;
  bool column_major = false;
  std::vector<std::int64_t> shape;
};

/// Reads the header's text, a Python dictionary with exactly the keys descr, fortran_order and shape in any order.
class NpyHeaderReader {
public:
  NpyHeaderReader(std::string_view text, const std::filesystem::path& path) : text_(text), path_(path) {}

  NpyHeader read() {
    NpyHeader header;
    bool has_type = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted_text();
      expect(':');
      if (key == "descr" && !has_type) {
        header.type = quoted_text();
        has_type = true;
      } else if (key == "fortran_order" && !has_order) {
        header.column_major = truth();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        header.shape = shape();
        has_shape = true;
      } else {
        fail("key '" + key + "' is unexpected");
      }
      if (accept('}')) break;
      expect(',');
    }
    skip_space();
    if (!text_.empty()) fail("something follows the dictionary");
    if (!has_type) fail("'descr' is missing");
    if (!has_order) fail("'fortran_order' is missing");
    if (!has_shape) fail("'shape' is missing");
    return header;
  }

private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(mad::detail::quoted(path_) + ": the .npy header is damaged: " + what +
                ".\nDelete the file and make it again.");
  }

  void skip_space() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\n')) text_.remove_prefix(1);
  }

  bool accept(char character) {
    skip_space();
    if (text_.empty() || text_.front() != character) return false;
    text_.remove_prefix(1);
    return true;
  }

  void expect(char character) {
    if (!accept(character)) fail(std::string("expected '") + character + "'");
  }

  std::string quoted_text() {
    skip_space();
    const char quote = text_.empty() ? '\0' : text_.front();
    const std::size_t end = quote == '\'' || quote == '"' ? text_.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos) fail("expected a text in quotes (structured types cannot be read)");
    const std::string found(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return found;
  }

  bool truth() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    fail("'fortran_order' must be True or False");
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> extents;
    expect('(');
    while (!accept(')')) {
      extents.push_back(extent());
      if (accept(')')) break;
      expect(',');
    }
    return extents;
  }

  std::int64_t extent() {
    skip_space();
    std::int64_t value = 0;
    std::size_t digits = 0;
    for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
      if (digits == 18) fail("an extent is too large");
      value = 10 * value + (text_[digits] - '0');
    }
    if (digits == 0) fail("expected an extent in 'shape'");
    text_.remove_prefix(digits);
    return value;
  }

  std::string_view text_;
  const std::filesystem::path& path_;
};

inline std::string npy_header(std::string_view type, std::span<const std::int64_t> shape) {
  std::string text = "{'descr': '" + std::string(type) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += std::to_string(shape[i]) + (i + 1 < shape.size() ? ", " : shape.size() == 1 ? "," : "");
  }
  text += "), }";
  // Spaces and a newline, so that the data begin at a multiple of 64 bytes.
  text.append(63 - (npy_prefix_size + text.size()) % 64, ' ') += '\n';
  if (text.size() > 0xffff) throw Error("an array of so many dimensions does not fit a .npy header of version 1.0.");
  std::string header(npy_magic);
  header += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

/// Number of elements of a shape if they take at most `bytes` bytes, else -1.
inline std::int64_t element_count(std::span<const std::int64_t> shape, std::size_t element_size, std::size_t bytes) {
  const auto most = static_cast<std::int64_t>(bytes / element_size);
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent == 0) return 0;
    if (count > most / extent)
      count = most + 1;
    else
      count *= extent;
    if (count > most) count = most + 1;
  }
  return count <= most ? count : -1;
}

}  // namespace detail

/// Writes an array in one step (see `AtomicFile`), creating its folder; numpy.load reads it. \throws Error
template <NpyNumber T>
void write_npy(const std::filesystem::path& path, std::span<const T> data, std::span<const std::int64_t> shape) {
  if (detail::element_count(shape, sizeof(T), data.size_bytes()) != static_cast<std::int64_t>(data.size())) {
    throw Error("cannot write " + mad::detail::quoted(path) + ": the shape does not have " +
                std::to_string(data.size()) + " elements.");
  }
  AtomicFile file(path);
  file.write(detail::npy_header(npy_type<T>(), shape));
  file.write(data.data(), data.size_bytes());
  file.commit();
}

template <NpyNumber T>
void write_npy(const std::filesystem::path& path, const NpyArray<T>& array) {
  write_npy(path, std::span<const T>(array.data), std::span<const std::int64_t>(array.shape));
}

/// Reads an array of exactly this number type, row-major, from a file of format version 1.0.
/// \throws Error, naming the file, what was found and what was expected, if it is anything else or damaged.
template <NpyNumber T>
NpyArray<T> read_npy(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  const std::string name = mad::detail::quoted(path);
  const std::string advice = "\nDelete the file and make it again.";
  const std::string_view all(bytes);
  if (!all.starts_with(detail::npy_magic)) {
    throw Error(name + " is not a .npy file: it does not begin with \\x93NUMPY." + advice);
  }
  if (all.size() < detail::npy_prefix_size) throw Error(name + " is cut off inside the .npy header." + advice);
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(all[at]); };
  if (byte(6) != 1 || byte(7) != 0) {
    throw Error(name + ": .npy format version is " + std::to_string(byte(6)) + "." + std::to_string(byte(7)) +
                ", must be 1.0." + advice);
  }
  const std::size_t header_size = byte(8) | std::size_t{byte(9)} << 8;
  if (all.size() < detail::npy_prefix_size + header_size) {
    throw Error(name + " is cut off inside the .npy header." + advice);
  }
  const detail::NpyHeader header =
      detail::NpyHeaderReader(all.substr(detail::npy_prefix_size, header_size), path).read();
  if (header.type != npy_type<T>()) {
    throw Error(name + ": number type is '" + header.type + "', must be '" + std::string(npy_type<T>()) + "'." +
                "\nConvert the array (numpy: array.astype) or make the file again.");
  }
  if (header.column_major) {
    throw Error(name + ": the array is column-major, must be row-major.\nWrite it again (numpy: ascontiguousarray).");
  }
  const std::string_view body = all.substr(detail::npy_prefix_size + header_size);
  const std::int64_t count = detail::element_count(header.shape, sizeof(T), body.size());
  if (count < 0 || static_cast<std::size_t>(count) * sizeof(T) != body.size()) {
    std::string shape;
    for (const std::int64_t extent : header.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
    throw Error(name + (count < 0 ? " is cut off: " : " is too long: ") + std::to_string(body.size()) +
                " bytes of data do not make an array of shape (" + shape + ") and type '" + header.type + "'." +
                advice);
  }
  NpyArray<T> array{header.shape, std::vector<T>(static_cast<std::size_t>(count))};
  if (count > 0) std::memcpy(array.data.data(), body.data(), body.size());
  return array;
}

}  // namespace mad::tasks
