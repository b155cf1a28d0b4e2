// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// How the reference writes settings into directory names.
#pragma once

#include <mad/tasks/setting.hpp>

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>

namespace mad::tasks {

/// A number as Python prints it: the shortest digits that read back as the same double; fixed notation from 1e-4 up to
/// below 1e16, with a point in any case ("0.0", "100.0"); else scientific with at least two exponent digits ("1e-05").
inline std::string python_text(double value) {
  if (value != value) return "nan";
  if (value - value != 0) return value > 0 ? "inf" : "-inf";
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string scientific(buffer.data(), end.ptr);  // like 1.25e-01: two exponent digits at least, as in Python
  const std::size_t e = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return scientific;

  const std::string sign = scientific[0] == '-' ? "-" : "";
  std::string digits;
  for (const char character : std::string_view(scientific).substr(0, e)) {
    if (character >= '0' && character <= '9') digits += character;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

/// A value inside a directory name: every '.' becomes '#'. Truth values, both of them, become "1": the reference
/// converts the text "False" to true.
template <class Value>
std::string path_value(const Value& value) {
  std::string text;
  if constexpr (std::is_same_v<Value, bool>) {
    text = "1";
  } else if constexpr (std::is_floating_point_v<Value>) {
    text = python_text(static_cast<double>(value));
  } else if constexpr (std::integral<Value>) {
    text = std::to_string(value);
  } else {
    text = std::string(value);
  }
  for (char& character : text) {
    if (character == '.') character = '#';
  }
  return text;
}

/// The reference's name for the data of a setting, such as
/// `t-CR_vs-16_sl-128_ntr-12800_nte-1280_km-1_vm-1_mq-1_fn-0#0_nvs-0_ntc-0_s-12345`.
/// The two values of `multi_query` share one name; see dataset_files.hpp for what is done about it.
/// \param shorthand the task's shorthand, or its name if it has none.
inline std::string data_directory_name(const Setting& setting, std::string_view shorthand) {
  std::string name = "t-" + path_value(shorthand);
  for_each_field(setting, [&](Field field, const auto& value) {
    name.append("_").append(field.abbreviation).append("-").append(path_value(value));
  });
  return name;
}

/// `path`, below the folder that the environment variable `TUNE_ORIG_WORKING_DIR` names, if it is set (a job scheduler
/// of the reference sets it).
inline std::filesystem::path below_original_folder(const std::filesystem::path& path) {
  const char* folder = std::getenv("TUNE_ORIG_WORKING_DIR");
  return folder == nullptr || *folder == '\0' ? path : std::filesystem::path(folder) / path;
}

}  // namespace mad::tasks
