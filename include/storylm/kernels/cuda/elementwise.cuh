// SPDX-License-Identifier: MIT
/// @file
/// @brief How threads lie over the groups of eight columns of a matrix when every element is worked on by itself.
#pragma once

#include <algorithm>

#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm::cuda {

/// 2^shift threads side by side on a row and the others of a block on the rows below, so that no index costs a
/// division. Where there are blocks enough, each takes four times its rows: what a thread does once, such as deriving a
/// key, is then done less often.
struct GroupTiles {
  int shift = 0;  ///< of the threads that share a row
  dim3 grid;      ///< x: rows; y: columns beyond the first 2^shift groups, times the layers

  /// On the host. @throws ShapeError when there are too many columns
  GroupTiles(index_t rows, index_t cols, index_t layers = 1) {
    constexpr index_t enough = 4096;  // a quarter of them still fills any GPU
    const index_t groups = ceil_divide(cols, group_columns);
    while ((index_t{1} << shift) < std::min<index_t>(groups, elementwise_threads)) ++shift;
    const index_t across = ceil_divide(groups, index_t{1} << shift) * layers;
    expects<ShapeError>(across < 65536, "cuda", "too many columns: ", cols, " times ", layers);
    const index_t block_rows = index_t{elementwise_threads} >> shift;
    const index_t turns = ceil_divide(rows, block_rows) * across < enough ? 1 : 4;
    grid = dim3(blocks_for(rows, block_rows * turns), static_cast<unsigned>(across));
  }
};

/// Calls f(row) for each row that this thread has.
template <class F>
__device__ __forceinline__ void for_each_row(index_t rows, int shift, const F& f) {
  const int block_rows = elementwise_threads >> shift;
  const index_t step = index_t{grid_x()} * block_rows;
  for (index_t row = index_t{block_x()} * block_rows + (thread_index() >> shift); row < rows; row += step) f(row);
}

/// Columns of the group that begins at `column`.
__device__ __forceinline__ int columns_of_group(index_t cols, index_t column) {
  return cols - column < group_columns ? static_cast<int>(cols - column) : group_columns;
}

/// Calls f(row, column, count) for each group that this thread has: count columns of the row from `column` on.
template <class F>
__device__ __forceinline__ void for_each_group(index_t rows, index_t cols, int shift, const F& f) {
  const index_t group = (index_t{block_y()} << shift) + (thread_index() & ((1 << shift) - 1));
  const index_t column = group * group_columns;
  if (column >= cols) return;
  const int count = columns_of_group(cols, column);
  for_each_row(rows, shift, [&](index_t row) { f(row, column, count); });
}

}  // namespace storylm::cuda
