// SPDX-License-Identifier: MIT
/// @file
/// @brief What layer_norm and rms_norm share on CUDA: residual + dropout(branch) and the norm in one pass over memory.
///
/// Rows of whole groups of eight columns, up to 2048 wide and on 16-byte boundaries, stay in registers between their
/// reductions. Other rows are read again, mostly from the caches, by kernels for any width and alignment.
#pragma once

#include <algorithm>
#include <cmath>

#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/partial_sums.cuh>
#include <storylm/kernels/cuda/reduce.cuh>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm::cuda {

inline constexpr int norm_threads = 256;  ///< of a block
inline constexpr int norm_warps = 8;      ///< of a block
static_assert(norm_warps == partial_warps);

/// As op::layer_norm's run.
template <Element T>
struct NormForward {
  MatrixView<T> y;               ///< (rows, width)
  MatrixView<T> sum;             ///< (rows, width)  none without a branch
  MatrixView<float> stats;       ///< (rows, 2)
  MatrixView<const T> residual;  ///< (rows, width)
  MatrixView<const T> branch;    ///< (rows, width)  or none
  const T* weight;               ///< (width)
  const T* bias;                 ///< (width)  or null
  float eps;
  DropoutArguments dropout;
  PackedView batch;
};

/// As op::layer_norm's backward; gradients of weight and bias go another way.
template <Element T>
struct NormBackward {
  MatrixView<T> dsum;             ///< (rows, width)  may be dy or plus
  MatrixView<T> dbranch;          ///< (rows, width)  or none
  MatrixView<const T> dy;         ///< (rows, width)
  MatrixView<const T> sum;        ///< (rows, width)
  MatrixView<const float> stats;  ///< (rows, 2)
  const T* weight;                ///< (width)
  MatrixView<const T> plus;       ///< (rows, width)  or none
  DropoutArguments dropout;
  PackedView batch;
};

/// What of dropout is the same for a whole row.
struct NormMask {
  PhiloxKey key;
  RowToken token;
  bool drops = false;  ///< false: the batch is not looked at
};

/// x += dropout(added), eight columns of the sum, which is stored: rounded as it is stored, for backward sees it so.
template <Element T>
__device__ __forceinline__ void norm_sum(const NormForward<T>& a, const NormMask& mask, index_t row, int column,
                                         int count, bool aligned, float (&added)[8], float (&x)[8]) {
  if (mask.drops) drop8(added, mask.key, a.dropout, mask.token, column / group_columns);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = to_float(from_float<T>(x[i] + added[i]));
  store8(a.sum.data + row * a.sum.stride + column, count, aligned, x);
}

/// x = eight columns of what is normalised: residual, or the sum, which is stored. Columns from `count` on are zero.
template <Element T>
__device__ __forceinline__ void norm_input(const NormForward<T>& a, const NormMask& mask, index_t row, int column,
                                           int count, bool aligned, float (&x)[8]) {
  load8(a.residual.data + row * a.residual.stride + column, count, aligned, x);
  if (a.branch.data == nullptr) return;
  float added[8];
  load8(a.branch.data + row * a.branch.stride + column, count, aligned, added);
  norm_sum(a, mask, row, column, count, aligned, added, x);
}

/// y = (x - mean) inverse weight + bias of eight columns.
template <Element T>
__device__ __forceinline__ void norm_output(const NormForward<T>& a, index_t row, int column, int count, bool aligned,
                                            float mean, float inverse, float (&x)[8]) {
  float w[8];
  float b[8] = {};
  load8(a.weight + column, count, aligned, w);
  if (a.bias != nullptr) load8(a.bias + column, count, aligned, b);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = (x[i] - mean) * inverse * w[i] + b[i];
  store8(a.y.data + row * a.y.stride + column, count, aligned, x);
}

/// Blocks of norm_kernel that a multiprocessor is to hold at least: as many as leave it registers enough.
template <Element T, int groups>
inline constexpr int norm_blocks = groups <= 2 ? (sizeof(T) == 2 ? 4 : 3) : 2;

/// A warp takes one row after another; a lane has columns 8 (lane + 32 n) to + 7, n < groups, of those there are. With
/// up to four groups the row has more columns than groups - 1 hold.
template <bool centred, Element T, int groups>
__global__ void __launch_bounds__(norm_threads, norm_blocks<T, groups>) norm_kernel(NormForward<T> a) {
  // Groups of a row that are loaded before the first of them is stored: loads after a store would wait for it. More
  // than these do not fit in registers.
  constexpr int together = groups > 4 ? 1 : std::min(groups, 8 / static_cast<int>(sizeof(T)));
  constexpr int full = groups > 4 ? 0 : groups - 1;  // groups that every lane has
  const auto width = static_cast<int>(a.y.cols);
  const auto divisor = static_cast<float>(width);
  const int lane_column = lane_index() * group_columns;
  const auto there = [&](int n) { return n < full || lane_column + n * warp_columns < width; };
  const bool with_branch = a.branch.data != nullptr;
  NormMask mask;
  mask.drops = with_branch && a.dropout.threshold != 0;
  if (mask.drops) mask.key = dropout_key(a.dropout);
  const index_t step = index_t{grid_x()} * norm_warps;
  for (index_t row = index_t{block_x()} * norm_warps + warp_index(); row < a.y.rows; row += step) {
    float x[groups][8];
    float mean = 0.0F;
    if constexpr (together > 1) {
#pragma unroll
      for (int first = 0; first < groups; first += together) {
        RawGroup<T> residual[together];
        RawGroup<T> branch[together];
#pragma unroll
        for (int n = 0; n < together && first + n < groups; ++n) {
          // Another group instead of one that is not there: with branches, few loads would be under way together.
          const int column = there(first + n) ? lane_column + (first + n) * warp_columns : 0;
          residual[n] = load_raw8(a.residual.data + row * a.residual.stride + column);
          if (with_branch) branch[n] = load_raw8(a.branch.data + row * a.branch.stride + column);
        }
        if (mask.drops && first == 0) mask.token = token_of_row(a.batch, row);
#pragma unroll
        for (int n = 0; n < together && first + n < groups; ++n) {
          if (!there(first + n)) continue;
          float(&sum)[8] = x[first + n];
          load8(residual[n], sum);
          if (with_branch) {
            float added[8];
            load8(branch[n], added);
            norm_sum(a, mask, row, lane_column + (first + n) * warp_columns, group_columns, true, added, sum);
          }
#pragma unroll
          for (int i = 0; i < 8; ++i) mean += sum[i];
        }
      }
    } else {
      if (mask.drops) mask.token = token_of_row(a.batch, row);
#pragma unroll
      for (int n = 0; n < groups; ++n) {
        if (!there(n)) continue;
        norm_input(a, mask, row, lane_column + n * warp_columns, group_columns, true, x[n]);
#pragma unroll
        for (int i = 0; i < 8; ++i) mean += x[n][i];
      }
    }
    mean = centred ? warp_sum(mean) / divisor : 0.0F;
    float squares = 0.0F;
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      if (there(n)) {
#pragma unroll
        for (int i = 0; i < 8; ++i) squares += (x[n][i] - mean) * (x[n][i] - mean);
      }
    }
    const float inverse = 1.0F / std::sqrt(warp_sum(squares) / divisor + a.eps);
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      if (there(n)) norm_output(a, row, lane_column + n * warp_columns, group_columns, true, mean, inverse, x[n]);
    }
    if (lane_index() == 0) {
      float* const stats = a.stats.data + row * a.stats.stride;
      stats[0] = mean;
      stats[1] = inverse;
    }
  }
}

/// The same for any width: a lane reads its columns three times.
template <bool centred, Element T>
__global__ void __launch_bounds__(norm_threads, 4) norm_any_width_kernel(NormForward<T> a, bool aligned) {
  const auto width = static_cast<int>(a.y.cols);
  const auto divisor = static_cast<float>(width);
  NormMask mask;
  mask.drops = a.branch.data != nullptr && a.dropout.threshold != 0;
  if (mask.drops) mask.key = dropout_key(a.dropout);
  const MatrixView<const T> input = a.branch.data != nullptr ? MatrixView<const T>(a.sum) : a.residual;
  const int first = lane_index() * group_columns;
  const index_t step = index_t{grid_x()} * norm_warps;
  for (index_t row = index_t{block_x()} * norm_warps + warp_index(); row < a.y.rows; row += step) {
    if (mask.drops) mask.token = token_of_row(a.batch, row);
    const T* const from = input.data + row * input.stride;
    float x[8];
    float mean = 0.0F;
    for (int column = first; column < width; column += warp_columns) {
      norm_input(a, mask, row, column, columns_of_group(width, column), aligned, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) mean += x[i];
    }
    mean = centred ? warp_sum(mean) / divisor : 0.0F;
    float squares = 0.0F;
    for (int column = first; column < width; column += warp_columns) {
      load8(from + column, columns_of_group(width, column), aligned, x, mean);
#pragma unroll
      for (int i = 0; i < 8; ++i) squares += (x[i] - mean) * (x[i] - mean);
    }
    const float inverse = 1.0F / std::sqrt(warp_sum(squares) / divisor + a.eps);
    for (int column = first; column < width; column += warp_columns) {
      const int count = columns_of_group(width, column);
      load8(from + column, count, aligned, x);
      norm_output(a, row, column, count, aligned, mean, inverse, x);
    }
    if (lane_index() == 0) {
      float* const stats = a.stats.data + row * a.stats.stride;
      stats[0] = mean;
      stats[1] = inverse;
    }
  }
}

/// The gradient's eight columns, from h = dy weight, n = (x - mean) inverse and the row's means of h and of h n:
/// inverse (h - mean(h) - n mean(h n)). Adds plus, stores dsum and dbranch.
template <Element T>
__device__ __forceinline__ void norm_gradient(const NormBackward<T>& a, const NormMask& mask, index_t row, int column,
                                              int count, bool aligned, float inverse, float along, float across,
                                              const float (&n)[8], float (&h)[8]) {
  float other[8] = {};
  if (a.plus.data != nullptr) load8(a.plus.data + row * a.plus.stride + column, count, aligned, other);
#pragma unroll
  for (int i = 0; i < 8; ++i) h[i] = other[i] + inverse * (h[i] - along - n[i] * across);
  store8(a.dsum.data + row * a.dsum.stride + column, count, aligned, h);
  if (a.dbranch.data == nullptr) return;
  if (mask.drops) drop8(h, mask.key, a.dropout, mask.token, column / group_columns);
  store8(a.dbranch.data + row * a.dbranch.stride + column, count, aligned, h);
}

template <int team>
struct NormTeams;
/// Sums over the `team` warps of a row; all threads of the block take part. Calls alternate between two slots, so that
/// one barrier a call is enough.
template <int team>
__device__ __forceinline__ void team_sums(float& a, float& b, int slot) {
  a = warp_sum(a);
  b = warp_sum(b);
  if constexpr (team > 1) {
    float* const shared = shared_array<float, 2 * 2 * norm_warps, NormTeams<team>>() + slot * 2 * norm_warps;
    if (lane_index() == 0) {
      shared[warp_index()] = a;
      shared[norm_warps + warp_index()] = b;
    }
    sync_block();
    const int first = warp_index() / team * team;
    a = shared[first];
    b = shared[norm_warps + first];
#pragma unroll
    for (int w = 1; w < team; ++w) {
      a += shared[first + w];
      b += shared[norm_warps + first + w];
    }
  }
}

struct NormPartials;
/// Teams of `team` warps take turns on the block's rows; a lane has `groups` groups of columns, 32 team apart. Writes
/// partial (2, parts, width): the block's share of dweight and of dbias.
template <bool centred, Element T, int groups, int team>
__global__ void __launch_bounds__(norm_threads)
    norm_backward_kernel(NormBackward<T> a, float* partial, index_t block_rows, bool with_bias) {
  constexpr int teams = norm_warps / team;
  constexpr int team_columns = 32 * team * group_columns;
  const int member = thread_index() % (32 * team);
  const auto width = static_cast<int>(a.dy.cols);
  const auto divisor = static_cast<float>(width);
  NormMask mask;
  mask.drops = a.dbranch.data != nullptr && a.dropout.threshold != 0;
  if (mask.drops) mask.key = dropout_key(a.dropout);
  float dweight[groups][8] = {};
  float dbias[groups][8] = {};
  const index_t first = index_t{block_x()} * block_rows;
  const index_t last = first + block_rows < a.dy.rows ? first + block_rows : a.dy.rows;

  // The next row is under way while this one is worked on: few warps fit with so many registers.
  RawGroup<T> next_dy[groups];
  RawGroup<T> next_sum[groups];
  float next_mean = 0.0F;
  float next_inverse = 0.0F;
  const auto fetch = [&](index_t row) {
    if (row >= last) return;
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      const int column = member * group_columns + n * team_columns;
      if (column < width) {
        next_dy[n] = load_raw8(a.dy.data + row * a.dy.stride + column);
        next_sum[n] = load_raw8(a.sum.data + row * a.sum.stride + column);
      }
    }
    const float* const stats = a.stats.data + row * a.stats.stride;
    if (centred) next_mean = stats[0];
    next_inverse = stats[1];
  };
  const int turn = thread_index() / (32 * team);
  fetch(first + turn);
  int slot = 0;
  for (index_t base = first; base < last; base += teams) {  // together: teams of several warps meet at barriers
    const index_t row = base + turn;
    const bool live = row < last;
    float x[groups][8];
    float h[groups][8];
    float along = 0.0F;
    float across = 0.0F;
    const float mean = next_mean;
    const float inverse = next_inverse;
    if (live) {
#pragma unroll
      for (int n = 0; n < groups; ++n) {
        const int column = member * group_columns + n * team_columns;
        if (column < width) {
          float w[8];
          load8(next_dy[n], h[n]);
          load8(next_sum[n], x[n]);
          load8(a.weight + column, w);
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            x[n][i] = (x[n][i] - mean) * inverse;
            dweight[n][i] += h[n][i] * x[n][i];
            dbias[n][i] += h[n][i];
            h[n][i] *= w[i];
            along += h[n][i];
            across += h[n][i] * x[n][i];
          }
        }
      }
    }
    fetch(row + teams);
    team_sums<team>(along, across, slot);
    slot ^= 1;
    if (live) {
      along = centred ? along / divisor : 0.0F;
      across /= divisor;
      if (mask.drops) mask.token = token_of_row(a.batch, row);
#pragma unroll
      for (int n = 0; n < groups; ++n) {
        const int column = member * group_columns + n * team_columns;
        if (column < width) {
          norm_gradient(a, mask, row, column, group_columns, true, inverse, along, across, x[n], h[n]);
        }
      }
    }
  }

  // (teams, columns): the teams' sums are added in their order.
  constexpr int all_columns = groups * team_columns;
  float* const shared = shared_array<float, teams * all_columns, NormPartials>();
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    if (k == 1 && !with_bias) break;
    if (k == 1) sync_block();  // until all have read the sums before
    float* const own = shared + turn * all_columns + member * group_columns;
#pragma unroll
    for (int n = 0; n < groups; ++n) store8(own + n * team_columns, k == 0 ? dweight[n] : dbias[n]);
    sync_block();
    for (int column = thread_index(); column < width; column += norm_threads) {
      float total = 0.0F;
#pragma unroll
      for (int t = 0; t < teams; ++t) total += shared[t * all_columns + column];
      partial[(k * index_t{grid_x()} + block_x()) * width + column] = total;
    }
  }
}

struct NormColumns;
/// For any width: partial (2, parts, width) first, while dy and sum are as they came.
template <bool centred, Element T>
__global__ void __launch_bounds__(partial_threads)
    norm_parameters_kernel(NormBackward<T> a, float* partial, index_t block_rows, bool aligned) {
  sum_block_rows<2, NormColumns>(partial, a.dy.rows, a.dy.cols, block_rows,
                                 [&](index_t row, index_t column, int count, float(&values)[2][8]) {
                                   const float* const stats = a.stats.data + row * a.stats.stride;
                                   const float mean = centred ? stats[0] : 0.0F;
                                   load8(a.sum.data + row * a.sum.stride + column, count, aligned, values[0]);
                                   load8(a.dy.data + row * a.dy.stride + column, count, aligned, values[1]);
#pragma unroll
                                   for (int i = 0; i < 8; ++i)
                                     values[0][i] = values[1][i] * ((values[0][i] - mean) * stats[1]);
                                 });
}

/// And then dsum and dbranch: a lane reads its columns twice.
template <bool centred, Element T>
__global__ void __launch_bounds__(norm_threads) norm_backward_any_width_kernel(NormBackward<T> a, bool aligned) {
  const auto width = static_cast<int>(a.dy.cols);
  const auto divisor = static_cast<float>(width);
  NormMask mask;
  mask.drops = a.dbranch.data != nullptr && a.dropout.threshold != 0;
  if (mask.drops) mask.key = dropout_key(a.dropout);
  const int first = lane_index() * group_columns;
  const index_t step = index_t{grid_x()} * norm_warps;
  for (index_t row = index_t{block_x()} * norm_warps + warp_index(); row < a.dy.rows; row += step) {
    const float* const stats = a.stats.data + row * a.stats.stride;
    const float mean = centred ? stats[0] : 0.0F;
    const float inverse = stats[1];
    float x[8];
    float h[8];
    const auto load = [&](int column, int count) {
      float w[8];
      load8(a.dy.data + row * a.dy.stride + column, count, aligned, h);
      load8(a.sum.data + row * a.sum.stride + column, count, aligned, x);
      load8(a.weight + column, count, aligned, w);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        x[i] = (x[i] - mean) * inverse;
        h[i] *= w[i];
      }
    };
    float along = 0.0F;
    float across = 0.0F;
    for (int column = first; column < width; column += warp_columns) {
      load(column, columns_of_group(width, column));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        along += h[i];
        across += h[i] * x[i];
      }
    }
    along = centred ? warp_sum(along) / divisor : 0.0F;
    across = warp_sum(across) / divisor;
    if (mask.drops) mask.token = token_of_row(a.batch, row);
    for (int column = first; column < width; column += warp_columns) {
      const int count = columns_of_group(width, column);
      load(column, count);
      norm_gradient(a, mask, row, column, count, aligned, inverse, along, across, x, h);
    }
  }
}

/// Blocks of kernels whose warps take a row, or two where there are rows enough: the key of dropout is the same.
[[nodiscard]] inline dim3 norm_grid(index_t rows) {
  constexpr index_t enough = 16384;
  return dim3(blocks_for(rows, rows < enough ? norm_warps : 2 * norm_warps));
}

/// op::layer_norm (centred) and op::rms_norm.
template <bool centred, Element T>
void normalise_rows(const Cuda& device, const NormForward<T>& a) {
  const index_t width = a.y.cols;
  expects<ShapeError>(width < most_blocks - warp_columns, "cuda", "too many columns: ", width);
  const bool aligned = groups_aligned(a.y) && groups_aligned(a.sum) && groups_aligned(a.residual) &&
                       groups_aligned(a.branch) && groups_aligned(a.weight, 0) && groups_aligned(a.bias, 0);
  const auto launch_rows = [&](auto* kernel, const auto&... more) {
    launch(device, kernel, norm_grid(a.y.rows), norm_threads, 0, a, more...);
  };
  if (!aligned || width == 0 || width > 8 * warp_columns)
    return launch_rows(norm_any_width_kernel<centred, T>, aligned);
  if (width <= warp_columns) return launch_rows(norm_kernel<centred, T, 1>);
  if (width <= 2 * warp_columns) return launch_rows(norm_kernel<centred, T, 2>);
  if (width <= 3 * warp_columns) return launch_rows(norm_kernel<centred, T, 3>);
  if (width <= 4 * warp_columns) return launch_rows(norm_kernel<centred, T, 4>);
  launch_rows(norm_kernel<centred, T, 8>);
}

/// Their backward. Adds to dweight and, unless it is null, dbias, both (width).
template <bool centred, Element T>
void normalise_rows_backward(const Cuda& device, const NormBackward<T>& a, float* dweight, float* dbias) {
  const index_t rows = a.dy.rows;
  const index_t width = a.dy.cols;
  if (rows == 0 || width == 0) return;
  expects<ShapeError>(width < most_blocks - warp_columns, "cuda", "too many columns: ", width);
  const bool aligned = groups_aligned(a.dsum) && groups_aligned(a.dbranch) && groups_aligned(a.dy) &&
                       groups_aligned(a.sum) && groups_aligned(a.plus) && groups_aligned(a.weight, 0);
  const bool in_registers = aligned && width <= 8 * warp_columns;
  const bool with_bias = dbias != nullptr;
  const index_t across = in_registers ? 1 : ceil_divide(width, warp_columns);
  const PartialShape shape(rows, across, in_registers ? norm_warps : 32, in_registers ? 128 : 256);
  auto scratch = device.scratch();
  float* const partial = scratch.template take<float>(2 * shape.parts * width);  // (2, parts, width)
  const dim3 grid(blocks_for(shape.parts, 1), static_cast<unsigned>(shape.across));
  if (in_registers) {
    const auto launch_rows = [&](auto* kernel) {
      launch(device, kernel, grid, norm_threads, 0, a, partial, shape.block_rows, with_bias);
    };
    if (width <= warp_columns) {
      launch_rows(norm_backward_kernel<centred, T, 1, 1>);
    } else if (width <= 2 * warp_columns) {
      launch_rows(norm_backward_kernel<centred, T, 2, 1>);
    } else if (width <= 3 * warp_columns) {
      launch_rows(norm_backward_kernel<centred, T, 3, 1>);
    } else if (width <= 4 * warp_columns) {
      launch_rows(norm_backward_kernel<centred, T, 4, 1>);
    } else {
      launch_rows(norm_backward_kernel<centred, T, 2, 4>);
    }
  } else {
    launch(device, norm_parameters_kernel<centred, T>, grid, partial_threads, 0, a, partial, shape.block_rows, aligned);
    launch(device, norm_backward_any_width_kernel<centred, T>, norm_grid(rows), norm_threads, 0, a, aligned);
  }
  add_partials(device, dweight, dbias, partial, shape.parts, width);
}

}  // namespace storylm::cuda
