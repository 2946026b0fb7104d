// SPDX-License-Identifier: MIT
/// @file
/// @brief How much work becomes how many blocks.
#pragma once

#include <algorithm>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

namespace storylm::cuda {

inline constexpr index_t most_blocks = (index_t{1} << 31U) - 1;  ///< along x
inline constexpr int elementwise_threads = 256;                  ///< of kernels that work on elements by themselves

/// n / size, rounded up.
[[nodiscard]] constexpr index_t ceil_divide(index_t n, index_t size) { return (n + size - 1) / size; }

/// Blocks for n pieces of work, `per_block` each. @throws ShapeError when a grid cannot have as many
[[nodiscard]] constexpr unsigned blocks_for(index_t n, index_t per_block) {
  const index_t blocks = ceil_divide(n, per_block);
  expects<ShapeError>(blocks <= most_blocks, "cuda", "too much work for one launch: ", n, " pieces, ", per_block,
                      " a block");
  return static_cast<unsigned>(blocks);
}

}  // namespace storylm::cuda
