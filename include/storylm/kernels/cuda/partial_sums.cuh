// SPDX-License-Identifier: MIT
/// @file
/// @brief Sums over rows in two steps: blocks of rows first, then the blocks. Their number depends on the shape only.
#pragma once

#include <algorithm>

#include <storylm/kernels/cuda/elementwise.cuh>

namespace storylm::cuda {

inline constexpr int partial_threads = 256;              ///< of a block that sums rows: 8 warps take turns on the rows
inline constexpr int partial_warps = 8;                  ///< of such a block
inline constexpr int warp_columns = 32 * group_columns;  ///< columns that a warp covers

/// How rows are cut into blocks.
struct PartialShape {
  index_t block_rows = 0;  ///< rows of a block, a multiple of the warps
  index_t parts = 0;       ///< blocks of rows
  index_t across = 0;      ///< blocks along the columns

  /// On the host: enough blocks to fill any GPU, few enough for their sums to be a small part of what is read.
  /// @param least,most rows of a block
  PartialShape(index_t rows, index_t column_blocks, index_t least, index_t most) : across(column_blocks) {
    constexpr index_t wanted = 1024;
    const index_t even = ceil_divide(rows * column_blocks, wanted);
    block_rows = ceil_divide(std::clamp(even, least, most), partial_warps) * partial_warps;
    parts = ceil_divide(rows, block_rows);
  }
};

/// Sums K quantities over the block's rows: load(row, column, count, values) gives them for up to eight columns, zeros
/// beyond `count`. A grid of (parts, across) blocks writes partial (K, parts, cols).
template <int K, class Tag, class Load>
__device__ __forceinline__ void sum_block_rows(float* partial, index_t rows, index_t cols, index_t block_rows,
                                               const Load& load) {
  const index_t column = index_t{block_y()} * warp_columns + lane_index() * group_columns;
  const index_t first = index_t{block_x()} * block_rows;
  const index_t last = first + block_rows < rows ? first + block_rows : rows;
  float sums[K][8] = {};
  if (column < cols) {
    const int count = columns_of_group(cols, column);
#pragma unroll 4
    for (index_t row = first + warp_index(); row < last; row += partial_warps) {
      float values[K][8];
      load(row, column, count, values);
#pragma unroll
      for (int k = 0; k < K; ++k) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[k][i] += values[k][i];
      }
    }
  }
  float* const shared = shared_array<float, partial_warps * warp_columns, Tag>();  // (warps, columns)
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k > 0) sync_block();  // until all have read the sums before
    store8(shared + warp_index() * warp_columns + lane_index() * group_columns, sums[k]);
    sync_block();
    const index_t c = index_t{block_y()} * warp_columns + thread_index();
    if (c < cols) {
      float total = 0.0F;
#pragma unroll
      for (int w = 0; w < partial_warps; ++w) total += shared[w * warp_columns + thread_index()];
      partial[(k * index_t{grid_x()} + block_x()) * cols + c] = total;
    }
  }
}

struct PartialTotals;
/// to[c] += the sum over p of partial[p, c]; partial (parts, cols), that of `second` behind that of `first`.
/// A warp takes every so many-th part of 32 columns, the warps' sums are added in their order.
template <int most_warps>
__global__ void __launch_bounds__(32 * most_warps)
    add_partials_kernel(float* first, float* second, const float* partial, index_t parts, index_t cols) {
  float* const to = block_y() == 0 ? first : second;
  const float* const from = partial + block_y() * parts * cols;
  const index_t c = index_t{block_x()} * 32 + lane_index();
  const int warps = block_threads() / 32;
  float total = 0.0F;
  if (c < cols) {
#pragma unroll 8
    for (index_t p = warp_index(); p < parts; p += warps) total += from[p * cols + c];
  }
  float* const shared = shared_array<float, 32 * most_warps, PartialTotals>();  // (warps, 32)
  shared[thread_index()] = total;
  sync_block();
  if (warp_index() == 0 && c < cols) {
    for (int w = 1; w < warps; ++w) total += shared[w * 32 + lane_index()];
    to[c] += total;
  }
}

/// Adds partial (1 or 2, parts, cols) to `first` and, unless it is null, `second`, both (cols).
inline void add_partials(const Cuda& device, float* first, float* second, const float* partial, index_t parts,
                         index_t cols) {
  if (parts == 0) return;
  constexpr int most_warps = 32;
  const index_t warps = std::min<index_t>(most_warps, ceil_divide(parts, 8));
  launch(device, add_partials_kernel<most_warps>, dim3(blocks_for(cols, 32), second != nullptr ? 2U : 1U),
         static_cast<int>(32 * warps), 0, first, second, partial, parts, cols);
}

}  // namespace storylm::cuda
