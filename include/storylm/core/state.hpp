// SPDX-License-Identifier: MIT
/// @file
/// @brief How an object says what a checkpoint must hold of it.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace storylm {

namespace detail {
struct AnyStateVisitor {
  void operator()(std::string_view, auto&&) const {}
};
}  // namespace detail

/// A stateful object names what it is made of: `static void visit_state(Self& self, F&& f)` calls
/// `f("name", member)` for every member that a resumed run needs. A member is
///  - a scalar: bool, an integer, an enum or a floating-point number;
///  - a std::string, or a std::vector of 64-bit integers or doubles (its length may change);
///  - a Tensor, a span of a device's memory (StateSpan), or
///  - another Stateful object, whose names get the prefix "name.".
/// io/checkpoint.hpp writes and reads it; scalars are kept bit for bit.
template <class S>
concept Stateful = requires(S& self) {
  std::remove_const_t<S>::visit_state(self, detail::AnyStateVisitor{});
};

}  // namespace storylm
