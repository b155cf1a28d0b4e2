// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A setting as JSON, under the reference's field names.
#pragma once

#include <mad/core/error.hpp>
#include <mad/tasks/setting.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mad::tasks {

/// All fields of a setting, `task` first.
inline nlohmann::ordered_json to_json(const Setting& setting) {
  nlohmann::ordered_json object;
  object["task"] = setting.task;
  for_each_field(setting, [&](Field field, const auto& value) { object[std::string(field.name)] = value; });
  return object;
}

namespace detail {

template <class Value>
constexpr std::string_view json_kind() {
  if constexpr (std::is_same_v<Value, bool>) return "true or false";
  if constexpr (std::is_same_v<Value, std::string>) return "a text";
  if constexpr (std::is_floating_point_v<Value>) return "a number";
  return std::is_unsigned_v<Value> ? "an integer of at least 0" : "an integer of 64 bits";
}

/// Whether JSON holds a number or word that a field of type `Value` can take without a loss.
template <class Value, class Json>
bool fits(const Json& json) {
  if constexpr (std::is_same_v<Value, bool>) return json.is_boolean();
  if constexpr (std::is_same_v<Value, std::string>) return json.is_string();
  if constexpr (std::is_floating_point_v<Value>) return json.is_number();
  if (std::is_unsigned_v<Value>) return json.is_number_unsigned();
  return json.is_number_integer() && (!json.is_number_unsigned() || json.template get<std::uint64_t>() >> 63 == 0);
}

template <class Value, class Json>
void read_field(const Json& json, std::string_view name, std::string_view where, Value& value) {
  if (!fits<Value>(json)) {
    throw UsageError(std::string(where) + ": " + std::string(name) + " is " + json.dump() + ", must be " +
                     std::string(json_kind<Value>()) + ".");
  }
  value = json.template get<Value>();
}

}  // namespace detail

/// Reads a setting; fields that are not there keep their defaults.
/// \param where the source, for messages: a file name.
/// \throws UsageError for an unknown field, a value of the wrong kind, or anything but an object.
template <class Json>
Setting setting_from_json(const Json& object, std::string_view where) {
  if (!object.is_object()) {
    throw UsageError(std::string(where) + ": a setting must be an object, found " + object.dump() + ".");
  }
  Setting setting;
  std::vector<std::string> known;
  const auto read = [&](std::string_view name, auto& value) {
    known.emplace_back(name);
    const auto found = object.find(known.back());
    if (found != object.end()) detail::read_field(*found, name, where, value);
  };
  read("task", setting.task);
  for_each_field(setting, [&](Field field, auto& value) { read(field.name, value); });

  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string text = std::string(where) + ": unknown field '" + name + "' in a setting.\nThe fields are:";
    for (const std::string& field : known) text += (field == known.front() ? " " : ", ") + field;
    throw UsageError(text + ".");
  }
  return setting;
}

}  // namespace mad::tasks
