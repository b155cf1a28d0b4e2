// Copyright 2026 The mad authors. SPDX-License-Identifier: Apache-2.0
/// \file
/// A function handed down to somebody who calls it before returning.
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

namespace mad {

template <class Signature>
class FunctionView;

/// Refers to something callable, which must outlive it. Unlike std::function it owns nothing, so that for each lambda
/// only its call is compiled.
template <class Result, class... Arguments>
class FunctionView<Result(Arguments...)> {
public:
  /// Refers to nothing.
  constexpr FunctionView() = default;

  template <class F>
  requires(!std::same_as<std::remove_cvref_t<F>, FunctionView> &&
           std::is_invocable_r_v<Result, F&, Arguments...>) constexpr FunctionView(F&& function)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
        call_([](void* object, Arguments... arguments) -> Result {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Arguments>(arguments)...);
        }) {}

  explicit operator bool() const { return call_ != nullptr; }
  Result operator()(Arguments... arguments) const { return call_(object_, std::forward<Arguments>(arguments)...); }

private:
  void* object_ = nullptr;
  Result (*call_)(void*, Arguments...) = nullptr;
};

}  // namespace mad
