// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// Messages for people, put together from words and numbers by one function: chains of `+` would be compiled anew at
/// each of the many places that refuse something.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace mad {

/// Words or a number in a message. Refers to the words: make it where it is used.
class MessagePart {
public:
  constexpr MessagePart(std::string_view words) : words_(words) {}
  constexpr MessagePart(const char* words) : words_(words) {}
  MessagePart(const std::string& words) : words_(words) {}
  template <std::signed_integral Number>
  constexpr MessagePart(Number number) : kind_(Kind::whole), whole_(number) {}
  template <std::unsigned_integral Number>
  constexpr MessagePart(Number number) : kind_(Kind::natural), natural_(number) {}
  /// Appears as the shortest text that reads back as the same number.
  constexpr MessagePart(double number) : kind_(Kind::real), real_(number) {}

  [[gnu::cold]] void append_to(std::string& text) const {
    std::array<char, 32> digits{};
    switch (kind_) {
      case Kind::words:
        text += words_;
        break;
      case Kind::whole:
        text += std::to_string(whole_);
        break;
      case Kind::natural:
        text += std::to_string(natural_);
        break;
      case Kind::real:
        text.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), real_).ptr);
        break;
    }
  }

private:
  enum class Kind { words, whole, natural, real };

  Kind kind_ = Kind::words;
  union {
    std::string_view words_;
    long long whole_;
    unsigned long long natural_;
    double real_;
  };
};

/// The parts, one behind the other.
[[gnu::cold]] inline std::string message(std::initializer_list<MessagePart> parts) {
  std::string text;
  for (const MessagePart& part : parts) part.append_to(text);
  return text;
}

}  // namespace mad
