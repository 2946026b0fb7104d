// SPDX-License-Identifier: MIT
/// @file
/// @brief What the CPU computes in, and how much of it makes a piece of work: the same for all instruction sets.
#pragma once

#include <algorithm>
#include <concepts>

#include <storylm/core/dtype.hpp>

namespace storylm::cpu {

/// The dtypes that the CPU computes in: their own accumulators.
template <class T>
concept Real = FloatDtype<T> && std::floating_point<T>;

/// Rows per piece of work: about 16 Ki elements, so that a piece outweighs the cost of handing it out.
[[nodiscard]] constexpr index_t row_grain(index_t width) {
  return std::max<index_t>(1, 16384 / std::max<index_t>(1, width));
}

/// Elements per piece of work in flat loops.
inline constexpr index_t flat_grain = 16384;

}  // namespace storylm::cpu
