// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Reading and writing safetensors files: named arrays of numbers with a few words of text beside them.
#pragma once

#include <mad/core/error.hpp>
#include <mad/core/files.hpp>
#include <mad/core/shape.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

/// The format (https://github.com/huggingface/safetensors): 8 bytes with the length n of the header, little endian; n
/// bytes of JSON, one entry `{"dtype", "shape", "data_offsets"}` per tensor and `__metadata__` with text values; then
/// the tensors, row-major, little endian, without gaps.
namespace mad::train {

static_assert(std::endian::native == std::endian::little, "safetensors are read and written in place: little endian");

/// The number types that are read and written: `F32`, `F64`, `I64`, `U8`.
enum class NumberType { f32, f64, i64, u8 };

template <class T>
concept Number =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t> || std::same_as<T, std::uint8_t>;

template <Number T>
constexpr NumberType number_type = std::same_as<T, float> ? NumberType::f32
                                   : std::same_as<T, double>
                                       ? NumberType::f64
                                       : (std::same_as<T, std::int64_t> ? NumberType::i64 : NumberType::u8);

/// The format's own name of a number type.
constexpr std::string_view format_name(NumberType type) {
  constexpr std::array<std::string_view, 4> names{"F32", "F64", "I64", "U8"};
  return names[static_cast<std::size_t>(type)];
}

constexpr Index bytes_per_number(NumberType type) {
  constexpr std::array<Index, 4> sizes{4, 8, 8, 1};
  return sizes[static_cast<std::size_t>(type)];
}

/// `[2, 3]`: a shape as error messages and JSON show it.
inline std::string shape_text(const std::vector<Index>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// The contents of a safetensors file, checked as a whole when it is read.
class Safetensors {
public:
  struct Tensor {
    NumberType type;
    std::vector<Index> shape;  ///< row-major; empty for a scalar
    Index size;                ///< number of elements
    Index offset;              ///< bytes from the beginning of the memory that holds all tensors, a multiple of 64
  };

  /// Reads a file.
  /// \throws Error naming the file and the key if it cannot be read, is cut short, or breaks a rule of the format:
  /// header longer than the file, damaged JSON, a name twice, unknown number type, impossible shape, offsets that
  /// disagree with the shape, overlap, or leave gaps.
  static Safetensors read(const std::filesystem::path& path) {
    Safetensors file(path);
    file.parse(read_file(path));
    return file;
  }

  /// Names in the order of the data.
  const std::vector<std::string>& names() const { return names_; }
  /// The texts beside the tensors (`__metadata__`).
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  /// \throws Error if there is no such tensor.
  const Tensor& tensor(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      fail(name, "is missing; the file holds " + std::to_string(names_.size()) +
                     " other tensors. Is it the file of another model or version?");
    }
    return found->second;
  }
  const std::vector<Index>& shape(std::string_view name) const { return tensor(name).shape; }

  /// One text of the metadata. \throws Error if it is missing.
  const std::string& text(std::string_view key) const {
    const auto found = metadata_.find(key);
    if (found == metadata_.end()) fail(key, "is missing in the metadata. Is it a file of another kind or version?");
    return found->second;
  }

  /// The elements as they are stored, valid as long as this object. \throws Error if the tensor is missing or has
  /// another number type.
  template <Number T>
  std::span<const T> view(std::string_view name) const {
    const Tensor& t = tensor(name);
    if (t.type != number_type<T>) {
      fail(name, "has number type " + std::string(format_name(t.type)) + ", expected " +
                     std::string(format_name(number_type<T>)) + ".");
    }
    return {reinterpret_cast<const T*>(bytes() + t.offset), static_cast<std::size_t>(t.size)};
  }

  /// A copy of the elements; `F32` and `F64` are converted into each other, other types must agree.
  /// \throws Error if the tensor is missing or has another number type.
  template <Number T>
  std::vector<T> values(std::string_view name) const {
    if constexpr (std::floating_point<T>) {
      using Other = std::conditional_t<std::same_as<T, float>, double, float>;
      if (tensor(name).type == number_type<Other>) {
        const std::span<const Other> stored = view<Other>(name);
        std::vector<T> converted(stored.size());
        std::ranges::transform(stored, converted.begin(), [](Other x) { return static_cast<T>(x); });
        return converted;
      }
    }
    const std::span<const T> stored = view<T>(name);
    return {stored.begin(), stored.end()};
  }

  /// Copies the elements to `destination`, converting `F32` and `F64` into each other.
  /// \throws Error if the tensor is missing, has another number type, or its shape is not `expected`.
  template <Number T>
  void copy_to(std::string_view name, const std::vector<Index>& expected, T* destination) const {
    const Tensor& t = tensor(name);
    if (t.shape != expected) {
      fail(name, "has shape " + shape_text(t.shape) + ", expected " + shape_text(expected) +
                     ". Is it the file of another model?");
    }
    if (t.type == number_type<T>) {
      std::ranges::copy(view<T>(name), destination);
    } else {
      std::ranges::copy(values<T>(name), destination);
    }
  }

private:
  using Json = nlohmann::json;
  static constexpr std::size_t longest_header = 100'000'000;  // the format's own limit

  explicit Safetensors(std::filesystem::path path) : path_(std::move(path)) {}

  const std::byte* bytes() const { return reinterpret_cast<const std::byte*>(memory_.get()); }

  [[noreturn]] void fail(std::string_view key, const std::string& what) const {
    throw Error("safetensors file " + mad::detail::quoted(path_) + ", key '" + std::string(key) + "': " + what);
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error("safetensors file " + mad::detail::quoted(path_) + ": " + what +
                " The file is damaged or not a safetensors file; copy or write it again.");
  }

  void parse(const std::string& file) {
    if (file.size() < 8) {
      fail("it has " + std::to_string(file.size()) + " bytes, expected at least the 8 of the header's length.");
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    if (length > longest_header || length > file.size() - 8) {
      fail("its header should have " + std::to_string(length) + " bytes, but only " + std::to_string(file.size() - 8) +
           " follow.");
    }
    const auto header = std::string_view(file).substr(8, length);
    const Json json = parse_header(header);
    const std::string_view data = std::string_view(file).substr(8 + length);
    copy_data(data, read_entries(json, data.size()));
  }

  Json parse_header(std::string_view header) const {
    // A JSON object with a name twice is legal JSON, and the parser would silently keep one of the two.
    std::set<std::string> seen;
    const auto reject_twins = [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (depth == 1 && event == Json::parse_event_t::key && !seen.insert(parsed.get<std::string>()).second) {
        fail(parsed.get<std::string>(), "occurs twice in the header. The file is damaged.");
      }
      return true;
    };
    if (header.empty() || header.front() != '{') fail("its header does not begin with '{'.");
    try {
      return Json::parse(header.begin(), header.end(), reject_twins);
    } catch (const Json::exception& error) {
      fail(std::string("its header is not JSON (") + error.what() + ").");
    }
  }

  struct Extent {
    Index begin;
    Index end;
    std::string name;
  };

  std::vector<Extent> read_entries(const Json& json, std::size_t data_size) {
    std::vector<Extent> extents;
    for (const auto& [name, entry] : json.items()) {
      if (name == "__metadata__") {
        read_metadata(entry);
        continue;
      }
      if (!entry.is_object()) fail(name, "its entry in the header is not an object. The file is damaged.");
      for (const auto& [key, value] : entry.items()) {
        if (key != "dtype" && key != "shape" && key != "data_offsets") {
          fail(name, "unknown key '" + key + "' in its header entry; known are dtype, shape, data_offsets.");
        }
      }
      Tensor tensor{.type = read_type(name, entry), .shape = {}, .size = 1, .offset = 0};
      for (const Index extent : read_integers(name, entry, "shape")) {
        if (extent != 0 && tensor.size > std::numeric_limits<Index>::max() / 8 / extent) {
          fail(name, "its shape " + entry["shape"].dump() + " is too large. The file is damaged.");
        }
        tensor.size *= extent;
        tensor.shape.push_back(extent);
      }
      const std::vector<Index> offsets = read_integers(name, entry, "data_offsets");
      if (offsets.size() != 2 || offsets[0] > offsets[1]) {
        fail(name, "its data_offsets are " + entry["data_offsets"].dump() + ", expected [begin, end].");
      }
      const Index expected = tensor.size * bytes_per_number(tensor.type);
      if (offsets[1] - offsets[0] != expected) {
        fail(name, "its data_offsets " + entry["data_offsets"].dump() + " span " +
                       std::to_string(offsets[1] - offsets[0]) + " bytes, but " +
                       std::string(format_name(tensor.type)) + " " + shape_text(tensor.shape) + " takes " +
                       std::to_string(expected) + ".");
      }
      if (offsets[1] > static_cast<Index>(data_size)) {
        fail(name, "its data end at byte " + std::to_string(offsets[1]) + ", but the file has only " +
                       std::to_string(data_size) + " bytes of data: it was cut short. Copy or write it again.");
      }
      extents.push_back({offsets[0], offsets[1], name});
      tensors_.emplace(name, std::move(tensor));
    }
    return extents;
  }

  void copy_data(std::string_view data, std::vector<Extent> extents) {
    std::ranges::sort(extents, [](const Extent& a, const Extent& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    Index covered = 0;
    Index total = 0;
    for (const Extent& extent : extents) {
      if (extent.begin != covered) {
        fail(extent.name, "its data begin at byte " + std::to_string(extent.begin) + ", but the data before end at " +
                              std::to_string(covered) + ": a gap or an overlap. The file is damaged.");
      }
      covered = extent.end;
      tensors_.find(extent.name)->second.offset = total;
      total += (extent.end - extent.begin + alignment - 1) / alignment * alignment;
    }
    if (covered != static_cast<Index>(data.size())) {
      fail("its tensors take " + std::to_string(covered) + " bytes, but it has " + std::to_string(data.size()) +
           " bytes of data.");
    }
    // The format allows tensors at odd addresses; each gets its own aligned place, so that views are always legal.
    memory_ = std::make_unique<Line[]>(static_cast<std::size_t>(total / alignment));
    for (const Extent& extent : extents) {
      std::memcpy(reinterpret_cast<std::byte*>(memory_.get()) + tensors_.find(extent.name)->second.offset,
                  data.data() + extent.begin, static_cast<std::size_t>(extent.end - extent.begin));
      names_.push_back(extent.name);
    }
  }

  void read_metadata(const Json& entry) {
    if (!entry.is_object()) fail("__metadata__", "is not an object of texts. The file is damaged.");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("__metadata__", "the value of '" + key + "' is not a text. The file is damaged.");
      metadata_.emplace(key, value.get<std::string>());
    }
  }

  NumberType read_type(const std::string& name, const Json& entry) const {
    if (!entry.contains("dtype") || !entry["dtype"].is_string()) fail(name, "has no dtype. The file is damaged.");
    const std::string text = entry["dtype"].get<std::string>();
    for (const NumberType type : {NumberType::f32, NumberType::f64, NumberType::i64, NumberType::u8}) {
      if (text == format_name(type)) return type;
    }
    fail(name, "has number type '" + text + "', expected F32, F64, I64 or U8. Convert it before loading.");
  }

  std::vector<Index> read_integers(const std::string& name, const Json& entry, const char* key) const {
    if (!entry.contains(key) || !entry[key].is_array()) {
      fail(name, std::string("has no ") + key + ". The file is damaged.");
    }
    std::vector<Index> integers;
    for (const Json& value : entry[key]) {
      // Unsigned numbers beyond the range of Index would wrap around.
      if (!value.is_number_unsigned() ||
          value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
        fail(name, std::string("its ") + key + " " + entry[key].dump() + " are not all whole numbers from 0.");
      }
      integers.push_back(value.get<Index>());
    }
    return integers;
  }

  static constexpr Index alignment = 64;
  struct alignas(alignment) Line {
    std::byte bytes[alignment];
  };

  std::filesystem::path path_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::unique_ptr<Line[]> memory_;
};

/// Collects tensors and texts, then writes them as one file.
class SafetensorsWriter {
public:
  /// Adds a tensor. An lvalue (or a span) is borrowed and must live until `write`; a temporary is moved in.
  /// \throws Error if the name is taken or the number of elements is not the product of the shape.
  template <std::ranges::contiguous_range Values>
  requires Number<std::ranges::range_value_t<Values>>
  void add(std::string name, std::vector<Index> shape, Values&& values) {
    using T = std::ranges::range_value_t<Values>;
    if constexpr (std::is_lvalue_reference_v<Values> || std::ranges::borrowed_range<Values>) {
      add_bytes(std::move(name), std::move(shape), number_type<T>, std::ranges::data(values),
                static_cast<Index>(std::ranges::size(values)), nullptr);
    } else {
      auto owned = std::make_shared<std::remove_cvref_t<Values>>(std::forward<Values>(values));
      const T* data = std::ranges::data(*owned);
      const Index size = static_cast<Index>(std::ranges::size(*owned));
      add_bytes(std::move(name), std::move(shape), number_type<T>, data, size, std::move(owned));
    }
  }

  /// Adds one text to the metadata, replacing an earlier one of the same key.
  void add_text(std::string key, std::string text) { metadata_.insert_or_assign(std::move(key), std::move(text)); }

  /// Writes the file in one step; tensors keep the order of `add`. \throws Error; an older file is then still intact.
  void write(const std::filesystem::path& path) const {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    Index offset = 0;
    for (const Entry& entry : entries_) {
      header[entry.name] = {
          {"dtype", format_name(entry.type)}, {"shape", entry.shape}, {"data_offsets", {offset, offset + entry.bytes}}};
      offset += entry.bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const std::uint64_t length = text.size();

    AtomicFile file(path);
    file.write(&length, sizeof length);
    file.write(text);
    for (const Entry& entry : entries_) file.write(entry.data, static_cast<std::size_t>(entry.bytes));
    file.commit();
  }

private:
  struct Entry {
    std::string name;
    std::vector<Index> shape;
    NumberType type;
    const void* data;
    Index bytes;
    std::shared_ptr<const void> owner;
  };

  void add_bytes(std::string name, std::vector<Index> shape, NumberType type, const void* data, Index size,
                 std::shared_ptr<const void> owner) {
    Index expected = 1;
    for (const Index extent : shape) expected *= extent;
    if (size != expected) {
      throw Error("tensor '" + name + "' of shape " + shape_text(shape) + " has " + std::to_string(size) +
                  " elements, expected " + std::to_string(expected) + ".");
    }
    if (name == "__metadata__" || !names_.insert(name).second) {
      throw Error("tensor '" + name + "' cannot be added: the name is taken.");
    }
    entries_.push_back(
        {std::move(name), std::move(shape), type, data, size * bytes_per_number(type), std::move(owner)});
  }

  std::vector<Entry> entries_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace mad::train
