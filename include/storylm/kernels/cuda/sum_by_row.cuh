// SPDX-License-Identifier: MIT
/// @file
/// @brief Sums of rows that go to the same row of a table, in an order that depends on where they go and nothing else.
///
/// A stable counting sort brings the tokens of a row together. The sorted tokens are cut into tiles; a block sums each
/// run of equal rows in its tile, in order. What belongs to a run that began in an earlier tile becomes a partial sum,
/// and a last kernel adds those in the order of tiles: a row that half of the tokens go to is no thread's alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>
#include <storylm/tensor/packed.hpp>

namespace storylm::cuda {

inline constexpr int sort_chunk = 512;     ///< tokens that are counted together: one block's, a thread each
inline constexpr int sum_tile = 64;        ///< sorted tokens that a block sums
inline constexpr int sum_threads = 256;    ///< of the last kernel
inline constexpr int scan_threads = 1024;  ///< of the one block that finds where rows begin
inline constexpr int scan_columns = 64;    ///< rows that a block of the scan over chunks works on
inline constexpr int no_row = -1;          ///< where tail rows go

/// Where the sorted tokens of each row of the table are, and the tokens. Shapes decide about all sizes.
struct SortedTokens {
  std::int32_t* counts = nullptr;  ///< (chunks, rows)  tokens of a chunk that go to a row; then of all chunks before it
  std::int32_t* rank = nullptr;    ///< (tokens)        how many of the same row come before it in its chunk
  std::int32_t* begin = nullptr;   ///< (rows + 1)      first of a row in order
  std::int32_t* order = nullptr;   ///< (tokens)        by row, and in the order of tokens within a row
};

/// Block c: how often each row occurs in chunk c, and each token's rank. Chunks are compared token by token, so that
/// nothing depends on who comes first. counts are zeros before.
template <int Chunk>
__global__ void __launch_bounds__(Chunk)
    count_chunk_kernel(SortedTokens sorted, const std::int32_t* row_of, int rows, PackedView batch) {
  struct Tag;
  std::int32_t* const row_in_chunk = shared_array<std::int32_t, Chunk, Tag>();
  const int me = thread_index();
  const int token = block_x() * Chunk + me;
  const int row = token < batch.offsets[batch.sequences] ? row_of[token] : no_row;
  row_in_chunk[me] = row;
  sync_block();
  int before = 0;
  int all = 0;
#pragma unroll 8
  for (int other = 0; other < Chunk; ++other) {
    const bool same = row_in_chunk[other] == row;
    all += static_cast<int>(same);
    before += static_cast<int>(same && other < me);
  }
  if (row == no_row) return;
  sorted.rank[token] = before;
  if (before == 0) sorted.counts[index_t{block_x()} * rows + row] = all;
}

/// A thread: for one row, counts become those of all chunks before, and begin the count of all chunks.
template <int Threads>
__global__ void __launch_bounds__(Threads) scan_chunks_kernel(SortedTokens sorted, int rows, int chunks) {
  const int row = block_x() * Threads + thread_index();
  if (row >= rows) return;
  int total = 0;
  constexpr int at_once = 8;  // loads: to the compiler, each store could change what the next load finds
  for (int first = 0; first < chunks; first += at_once) {
    std::int32_t* const counts = sorted.counts + index_t{first} * rows + row;
    int here[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i) here[i] = first + i < chunks ? counts[index_t{i} * rows] : 0;
#pragma unroll
    for (int i = 0; i < at_once; ++i) {
      if (first + i < chunks) counts[index_t{i} * rows] = total;
      total += here[i];
    }
  }
  sorted.begin[row] = total;
}

/// One block: begin becomes the sum of all counts before.
template <int Threads>
__global__ void __launch_bounds__(Threads) scan_rows_kernel(SortedTokens sorted, int rows) {
  struct Tag;
  std::int32_t* const warp_totals = shared_array<std::int32_t, Threads / 32, Tag>();
  int before = 0;  // of all rows of earlier rounds
  for (int first = 0; first <= rows; first += Threads) {
    const int row = first + thread_index();
    const int count = row < rows ? sorted.begin[row] : 0;
    int sum = count;  // of the rows of this warp up to this one
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = shuffle_up(sum, distance);
      if (lane_index() >= distance) sum += other;
    }
    if (lane_index() == 31) warp_totals[warp_index()] = sum;
    sync_block();
    int next = before;
    for (int w = 0; w < Threads / 32; ++w) {
      if (w == warp_index()) sum += next;
      next += warp_totals[w];
    }
    if (row <= rows) sorted.begin[row] = sum - count;
    before = next;
    sync_block();  // before the next round overwrites the totals
  }
}

/// A thread: one token finds its place.
template <int Chunk>
__global__ void __launch_bounds__(elementwise_threads)
    place_tokens_kernel(SortedTokens sorted, const std::int32_t* row_of, int rows, PackedView batch) {
  const int token = block_x() * elementwise_threads + thread_index();
  if (token >= batch.offsets[batch.sequences]) return;
  const int row = row_of[token];
  const int before = sorted.counts[index_t{token / Chunk} * rows + row];
  sorted.order[sorted.begin[row] + before + sorted.rank[token]] = token;
}

namespace detail {
/// to[0..8) += sum * scale, the first `count` of them.
__device__ __forceinline__ void add8(float* to, int count, bool aligned, const float (&sum)[8], float scale) {
  float x[8];
  load8(static_cast<const float*>(to), count, aligned, x);
#pragma unroll
  for (int k = 0; k < 8; ++k) x[k] += sum[k] * scale;
  store8(to, count, aligned, x);
}
}  // namespace detail

/// Block b sums the runs of tile b of the sorted tokens; a thread has eight columns at a time. A run that begins in
/// this tile is added to `to`, the rest of one that began before to partial[b] (padded, padded: the width in whole
/// groups).
template <Element T>
__global__ void __launch_bounds__(sum_threads)
    sum_tile_kernel(MatrixView<float> to, float* partial, int padded, SortedTokens sorted, const std::int32_t* row_of,
                    MatrixView<const T> dy, float scale, DropoutArguments dropout, PackedView batch, bool to_aligned,
                    bool dy_aligned) {
  struct TokenTag;
  struct RowTag;
  struct OrdinalTag;
  struct PositionTag;
  std::int32_t* const tokens = shared_array<std::int32_t, sum_tile, TokenTag>();
  std::int32_t* const rows = shared_array<std::int32_t, sum_tile, RowTag>();
  std::uint32_t* const ordinals = shared_array<std::uint32_t, sum_tile, OrdinalTag>();
  std::uint32_t* const positions = shared_array<std::uint32_t, sum_tile, PositionTag>();
  const int first = block_x() * sum_tile;
  const int total = batch.offsets[batch.sequences];
  const int count = total - first < sum_tile ? total - first : sum_tile;
  if (count <= 0) return;
  for (int i = thread_index(); i < count; i += block_threads()) {
    const int token = sorted.order[first + i];
    tokens[i] = token;
    rows[i] = row_of[token];
    if (dropout.threshold != 0) {
      const RowToken it = token_of_row(batch, token);
      ordinals[i] = it.ordinal;
      positions[i] = it.position;
    }
  }
  sync_block();
  PhiloxKey key;
  if (dropout.threshold != 0) key = dropout_key(dropout);
  const int first_row = rows[0];
  const bool continues = sorted.begin[first_row] < first;

  for (int group = thread_index(); group * group_columns < padded; group += block_threads()) {
    const int column = group * group_columns;
    const auto columns = static_cast<int>(to.cols - column < group_columns ? to.cols - column : group_columns);
    bool is_partial = continues;
    float sum[8] = {};
    for (int i = 0; i < count; i += 4) {
      float x[4][8];  // four rows on their way at a time: no load waits for another, for the addresses are always good
      if (dy_aligned) {
#pragma unroll
        for (int j = 0; j < 4; ++j) load8(dy.row(tokens[i + j < count ? i + j : count - 1]) + column, x[j]);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) load8(dy.row(tokens[i + j < count ? i + j : count - 1]) + column, columns, x[j]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j >= count) break;
        if (dropout.threshold != 0) drop8(x[j], key, dropout, {ordinals[i + j], positions[i + j], true}, group);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum[k] += x[j][k];
        const bool ends = i + j + 1 == count || rows[i + j + 1] != rows[i + j];
        if (!ends) continue;
        if (is_partial) {
          store8(partial + index_t{block_x()} * padded + column, sum);
          is_partial = false;
        } else {
          detail::add8(to.row(rows[i + j]) + column, columns, to_aligned, sum, scale);
        }
#pragma unroll
        for (int k = 0; k < 8; ++k) sum[k] = 0.0F;
      }
    }
  }
}

/// Block b adds the partial sums of the row whose run goes on in tile b + 1 and began in tile b, in the order of tiles:
/// `parts` threads sum a share of the tiles each, and their sums are added in order.
template <int Threads>
__global__ void __launch_bounds__(Threads)
    sum_partials_kernel(MatrixView<float> to, const float* partial, int padded, SortedTokens sorted,
                        const std::int32_t* row_of, float scale, PackedView batch, int parts, bool aligned) {
  struct Tag;
  float* const shares = shared_array<float, Threads * group_columns, Tag>();
  const int first_tile = block_x() + 1;
  const int at = first_tile * sum_tile;
  if (at >= batch.offsets[batch.sequences]) return;
  const int row = row_of[sorted.order[at]];
  const int begin = sorted.begin[row];
  if (begin >= at || begin < at - sum_tile) return;
  const int tiles = (sorted.begin[row + 1] - 1) / sum_tile - first_tile + 1;
  const int columns_at_a_time = Threads / parts;  // groups of them
  const int part = thread_index() / columns_at_a_time;
  const int share = (tiles + parts - 1) / parts;
  const int from = first_tile + part * share;
  const int end = from + share < first_tile + tiles ? from + share : first_tile + tiles;
  for (int first = 0; first * group_columns < padded; first += columns_at_a_time) {
    const int group = first + thread_index() % columns_at_a_time;
    const int column = group * group_columns;
    float sum[8] = {};
    if (column < padded) {
#pragma unroll 4
      for (int tile = from; tile < end; ++tile) {
        float x[8];
        load8(partial + index_t{tile} * padded + column, x);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum[k] += x[k];
      }
    }
    store8(shares + thread_index() * group_columns, sum);
    sync_block();
    if (part == 0 && column < padded) {
      for (int other = 1; other < parts; ++other) {
        float x[8];
        load8(static_cast<const float*>(shares) + (other * columns_at_a_time + thread_index()) * group_columns, x);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum[k] += x[k];
      }
      const auto columns = static_cast<int>(to.cols - column < group_columns ? to.cols - column : group_columns);
      detail::add8(to.row(row) + column, columns, aligned, sum, scale);
    }  // a second round comes only where there is one part, which reads no shares
  }
}

/// to[row_of[t]] += dropout'(dy[t]) * scale for every token t that belongs to a sequence; row_of (tokens).
template <Element T>
void sum_by_row(const Cuda& device, MatrixView<float> to, const std::int32_t* row_of, MatrixView<const T> dy,
                float scale, const DropoutArguments& dropout, const PackedView& batch) {
  const index_t tokens = dy.rows;
  if (tokens == 0 || to.cols == 0) return;
  const index_t chunks = ceil_divide(tokens, sort_chunk);
  const index_t tiles = ceil_divide(tokens, sum_tile);
  const index_t groups = ceil_divide(to.cols, group_columns);
  const auto rows = static_cast<int>(to.rows);
  const auto padded = static_cast<int>(groups * group_columns);
  auto scratch = device.scratch();
  const SortedTokens sorted{.counts = scratch.template take<std::int32_t>(chunks * to.rows),
                            .rank = scratch.template take<std::int32_t>(tokens),
                            .begin = scratch.template take<std::int32_t>(to.rows + 1),
                            .order = scratch.template take<std::int32_t>(tokens)};
  auto* const partial = scratch.template take<float>(tiles * padded);

  device.fill_zero(sorted.counts, static_cast<std::size_t>(chunks * to.rows) * sizeof(std::int32_t));
  launch(device, count_chunk_kernel<sort_chunk>, dim3(blocks_for(tokens, sort_chunk)), sort_chunk, 0, sorted, row_of,
         rows, batch);
  launch(device, scan_chunks_kernel<scan_columns>, dim3(blocks_for(to.rows, scan_columns)), scan_columns, 0, sorted,
         rows, static_cast<int>(chunks));
  launch(device, scan_rows_kernel<scan_threads>, dim3(1), scan_threads, 0, sorted, rows);
  launch(device, place_tokens_kernel<sort_chunk>, dim3(blocks_for(tokens, elementwise_threads)), elementwise_threads, 0,
         sorted, row_of, rows, batch);
  const auto threads = static_cast<int>(std::min<index_t>(ceil_divide(groups, 32) * 32, sum_threads));
  const bool to_aligned = groups_aligned(to);
  launch(device, sum_tile_kernel<T>, dim3(blocks_for(tokens, sum_tile)), threads, 0, to, partial, padded, sorted,
         row_of, dy, scale, dropout, batch, to_aligned, groups_aligned(dy));
  int parts = sum_threads;
  while (parts > 1 && sum_threads / parts < groups) parts /= 2;
  launch(device, sum_partials_kernel<sum_threads>, dim3(static_cast<unsigned>(tiles - 1)), sum_threads, 0, to,
         static_cast<const float*>(partial), padded, sorted, row_of, scale, batch, parts, to_aligned);
}

}  // namespace storylm::cuda
