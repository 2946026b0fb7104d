// SPDX-License-Identifier: MIT
/// @file
/// @brief Storage dtypes in tests: to double and back, and how far their roundings go.
#pragma once

#include <type_traits>

#include <storylm/core/dtype.hpp>

namespace storylm::test {

/// Exact.
template <FloatDtype T>
constexpr double to_double(T value) {
  return static_cast<double>(static_cast<accumulator_t<T>>(value));
}
/// Rounded: to float first where T is narrower.
template <FloatDtype T>
constexpr T from_double(double value) {
  return T(static_cast<accumulator_t<T>>(value));
}
/// value, rounded to T.
template <FloatDtype T>
constexpr double rounded(double value) {
  return to_double(from_double<T>(value));
}

/// Half of the distance between neighbours of 1.
template <class T>
inline constexpr double unit_roundoff = std::is_same_v<T, bf16>    ? 0x1p-8
                                        : std::is_same_v<T, half>  ? 0x1p-11
                                        : std::is_same_v<T, float> ? 0x1p-24
                                                                   : 0x1p-53;

}  // namespace storylm::test
