// SPDX-License-Identifier: MIT
/// @file
/// @brief Attention in plain float arithmetic: for float, and for heads that are too wide for the tensor-core kernels.
///
/// A block of 64 threads makes `columns` columns of 32 rows of a result, each thread 4 rows and 4 x 2 columns. Tiles of
/// 32 x 32 scores are computed again for every further `columns` columns, so that heads may have any width.
#pragma once

#include <storylm/kernels/cuda/attention_call.cuh>

namespace storylm::cuda {

/// How it is cut up.
struct AttentionFloatShape {
  static constexpr int threads = 64;  ///< 8 x 8
  static constexpr int tile = 32;     ///< queries, and keys, of a tile
  static constexpr int depth = 32;    ///< columns of two operands that are multiplied at a time
  static constexpr int columns = 64;  ///< of a result that a block makes
  static constexpr int stride = 36;   ///< of transposed tiles: still 16-byte rows, fewer bank conflicts
};

/// What the blocks of one kernel have in shared memory.
struct AttentionFloatShared {
  float* left;    // (depth, stride)   rows of an operand, transposed
  float* right;   // (depth, stride)   rows of the other
  float* scores;  // (2, tile, stride) what is multiplied with the last operand, transposed
  float* last;    // (tile, columns)   some of its columns

  struct Left;
  struct Right;
  struct Scores;
  struct Last;
  __device__ __forceinline__ AttentionFloatShared()
      : left(shared_array<float, AttentionFloatShape::depth * AttentionFloatShape::stride, Left>()),
        right(shared_array<float, AttentionFloatShape::depth * AttentionFloatShape::stride, Right>()),
        scores(shared_array<float, 2 * AttentionFloatShape::tile * AttentionFloatShape::stride, Scores>()),
        last(shared_array<float, AttentionFloatShape::tile * AttentionFloatShape::columns, Last>()) {}
};

/// Of a thread, in the 8 x 8 of a block: it has rows 4y to 4y + 3.
__device__ __forceinline__ int float_tile_y() { return thread_index() / 8; }
__device__ __forceinline__ int float_tile_x() { return thread_index() % 8; }

/// to (depth, stride), transposed = columns `column` to column + depth - 1 of 32 rows from position `first` on; zeros
/// where there is nothing.
template <class T>
__device__ __forceinline__ void load_transposed(float* to, const HeadRows<const T>& from, int first, int column,
                                                int length) {
  using Shape = AttentionFloatShape;
  for (int i = thread_index(); i < Shape::tile * Shape::depth; i += Shape::threads) {
    const int row = i / Shape::depth;
    const int c = i % Shape::depth;
    const bool there = first + row < length && column + c < from.width;
    to[c * Shape::stride + row] = there ? to_float(from.row(first + row)[column + c]) : 0.0F;
  }
}
/// x (32, 32) = a b^T over a whole head; a thread has rows 4y.., columns 4x... a and b are 32 rows from their positions
/// on.
template <class T>
__device__ __forceinline__ void multiply_rows(float (&x)[4][4], const AttentionFloatShared& shared,
                                              const HeadRows<const T>& a, int a_first, const HeadRows<const T>& b,
                                              int b_first, int length) {
  using Shape = AttentionFloatShape;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) x[i][j] = 0.0F;
  }
  for (int column = 0; column < a.width; column += Shape::depth) {
    sync_block();  // nobody reads what was there any more
    load_transposed(shared.left, a, a_first, column, length);
    load_transposed(shared.right, b, b_first, column, length);
    sync_block();
    const int depth = min(Shape::depth, a.width - column);
    for (int p = 0; p < depth; ++p) {
      const float* const left = shared.left + p * Shape::stride + 4 * float_tile_y();
      const float* const right = shared.right + p * Shape::stride + 4 * float_tile_x();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) x[i][j] += left[i] * right[j];
      }
    }
  }
}
/// sum (32, columns) += (32, 32) (32, columns): scores `which`, as they are stored, transposed, times what load_last()
/// left; a thread has rows 4y.., columns 8x... Both were written before a barrier, and are again after one only, that
/// which multiply_rows() begins with.
__device__ __forceinline__ void multiply_last(float (&sum)[4][8], const AttentionFloatShared& shared, int which) {
  using Shape = AttentionFloatShape;
  for (int p = 0; p < Shape::tile; ++p) {
    const float* const scores = shared.scores + (which * Shape::tile + p) * Shape::stride + 4 * float_tile_y();
    const float* const last = shared.last + p * Shape::columns + 8 * float_tile_x();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] += scores[i] * last[j];
    }
  }
}
/// shared.last = 32 rows from position `first` on, columns `column` to column + columns - 1.
template <class T>
__device__ __forceinline__ void load_last(const AttentionFloatShared& shared, const HeadRows<const T>& from, int first,
                                          int column, int length) {
  using Shape = AttentionFloatShape;
  for (int i = thread_index(); i < Shape::tile * Shape::columns; i += Shape::threads) {
    const int row = i / Shape::columns;
    const int c = column + i % Shape::columns;
    shared.last[i] = first + row < length && c < from.width ? to_float(from.row(first + row)[c]) : 0.0F;
  }
}
/// Rows 4y.. from position `first` on, columns column + 8x.. of `to` become x.
template <class T>
__device__ __forceinline__ void store_columns(const HeadRows<T>& to, int first, int column, int length,
                                              const float (&x)[4][8], const float (&factor)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first + 4 * float_tile_y() + i;
    if (row >= length) continue;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int c = column + 8 * float_tile_x() + j;
      if (c < to.width) to.row(row)[c] = from_float<T>(x[i][j] * factor[i]);
    }
  }
}

/// Factors of four keys from `key` on, a multiple of 4, for one query.
template <class T>
__device__ __forceinline__ void dropout_factors(float (&factor)[4], const AttentionCall<T>& call,
                                                const PhiloxKey& random, std::uint32_t ordinal, int query, int head,
                                                int key) {
  const std::uint32_t kept = kept_columns(random, call.dropout, ordinal, static_cast<std::uint32_t>(query),
                                          static_cast<std::uint32_t>(head), static_cast<std::uint32_t>(key / 8)) >>
                             static_cast<unsigned>(key % 8);
#pragma unroll
  for (int j = 0; j < 4; ++j) factor[j] = ((kept >> j) & 1U) != 0U ? call.dropout.scale : 0.0F;
}

/// A block makes `columns` columns of 32 rows of y of one head.
template <class T>
__global__ void __launch_bounds__(AttentionFloatShape::threads, 6)
    attention_float_kernel(const AttentionCall<T> call, MatrixView<T> y, float* lse, int pieces) {
  using Shape = AttentionFloatShape;
  zero_tail_rows(call.batch, y);
  zero_tail_rows(call.batch, MatrixView<float>(lse, call.batch.tokens, call.heads));
  const int parts = (call.head_dim + Shape::columns - 1) / Shape::columns;
  const AttentionPart part = part_of_block(pieces * parts, call.heads);
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int column = part.piece % parts * Shape::columns;
  const int first = (pieces - 1 - part.piece / parts) * Shape::tile;
  if (first >= rows.length) return;
  const AttentionFloatShared shared;
  const HeadRows<const T> queries = call.queries(rows, part.head);
  const HeadRows<const T> keys = call.keys(rows, part.head / call.group);
  const HeadRows<const T> values = call.values(rows, part.head / call.group);
  const bool drop = call.dropout.threshold != 0;
  const PhiloxKey random = drop ? dropout_key(call.dropout) : PhiloxKey{};
  const std::uint32_t ordinal = drop ? call.batch.ordinals[part.sequence] : 0;

  float sum[4][8] = {};
  float largest[4];
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) largest[i] = -std::numeric_limits<float>::infinity();
  for (int key = call.oldest_key(first) / Shape::tile * Shape::tile; key <= first; key += Shape::tile) {
    float x[4][4];
    multiply_rows(x, shared, queries, first, keys, key, rows.length);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = first + 4 * float_tile_y() + i;
      float most = largest[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const bool visible = call.visible(query, key + 4 * float_tile_x() + j);
        x[i][j] = visible ? x[i][j] * call.scale : -std::numeric_limits<float>::infinity();
        most = fmaxf(most, x[i][j]);
      }
#pragma unroll
      for (int distance = 4; distance > 0; distance /= 2) most = fmaxf(most, shuffle_xor(most, distance));
      const float base = most == -std::numeric_limits<float>::infinity() ? 0.0F : most;
      const float correction = std::exp(largest[i] - base);
      largest[i] = most;
      total[i] *= correction;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] *= correction;
      float factor[4] = {1.0F, 1.0F, 1.0F, 1.0F};
      if (drop) dropout_factors(factor, call, random, ordinal, query, part.head, key + 4 * float_tile_x());
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float p = std::exp(x[i][j] - base);
        total[i] += p;
        shared.scores[(4 * float_tile_x() + j) * Shape::stride + 4 * float_tile_y() + i] = p * factor[j];
      }
    }
    load_last(shared, values, key, column, rows.length);
    sync_block();
    multiply_last(sum, shared, 0);
  }
  float factor[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int distance = 4; distance > 0; distance /= 2) total[i] += shuffle_xor(total[i], distance);
    factor[i] = 1.0F / total[i];
    const int query = first + 4 * float_tile_y() + i;
    if (column == 0 && float_tile_x() == 0 && query < rows.length) {
      lse[(index_t{rows.begin} + query) * call.heads + part.head] = largest[i] + std::log(total[i]);
    }
  }
  const HeadRows<T> out{y.row(rows.begin) + index_t{part.head} * call.head_dim, y.stride, call.head_dim, false};
  store_columns(out, first, column, rows.length, sum, factor);
}

/// One warp's query after the other: sum of dy * y.
template <class T>
__global__ void __launch_bounds__(AttentionFloatShape::threads)
    attention_float_dot_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients) {
  zero_tail_rows(call.batch, gradients.dqkv);
  const index_t i = index_t{block_x()} * (AttentionFloatShape::threads / 32) + warp_index();
  const index_t row = i / call.heads;
  if (row >= call.batch.offsets[call.batch.sequences]) return;
  const index_t column = i % call.heads * call.head_dim;
  float dot = 0.0F;
  for (int c = lane_index(); c < call.head_dim; c += 32) {
    dot += to_float(gradients.dy(row, column + c)) * to_float(gradients.y(row, column + c));
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) dot += shuffle_xor(dot, distance);
  if (lane_index() == 0) gradients.dot[i] = dot;
}

/// Scores of 32 queries and 32 keys become P F in scores[0] and dS in scores[1], stored (query, key) or, for dK and dV,
/// (key, query): the first is what multiply_last sums over.
template <bool ByKey, class T>
__device__ __forceinline__ void store_gradients(const AttentionFloatShared& shared, const AttentionCall<T>& call,
                                                const AttentionGradients<T>& gradients, const SequenceRows& rows,
                                                int sequence, int head, int query, int key) {
  using Shape = AttentionFloatShape;
  const int kv = head / call.group;
  float s[4][4];
  float dp[4][4];
  multiply_rows(s, shared, call.queries(rows, head), query, call.keys(rows, kv), key, rows.length);
  multiply_rows(dp, shared, gradients.doutputs(rows, head, call.head_dim), query, call.values(rows, kv), key,
                rows.length);
  const bool drop = call.dropout.threshold != 0;
  const PhiloxKey random = drop ? dropout_key(call.dropout) : PhiloxKey{};
  const std::uint32_t ordinal = drop ? call.batch.ordinals[sequence] : 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = 4 * float_tile_y() + i;
    const int column = 4 * float_tile_x();
    const bool there = query + r < rows.length;
    const index_t at = (index_t{rows.begin} + (there ? query + r : 0)) * call.heads + head;
    const float lse = gradients.lse[at];
    const float dot = gradients.dot[at];
    float factor[4] = {1.0F, 1.0F, 1.0F, 1.0F};
    if (drop) dropout_factors(factor, call, random, ordinal, query + r, head, key + column);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool visible = there && call.visible(query + r, key + column + j);
      const float p = visible ? std::exp(s[i][j] * call.scale - lse) : 0.0F;
      const float ds = visible ? p * (dp[i][j] * factor[j] - dot) : 0.0F;
      const int to = ByKey ? r * Shape::stride + column + j : (column + j) * Shape::stride + r;
      shared.scores[to] = p * factor[j];
      shared.scores[Shape::tile * Shape::stride + to] = ds;
    }
  }
}

/// A block makes `columns` columns of 32 rows of dQ of one head.
template <class T>
__global__ void __launch_bounds__(AttentionFloatShape::threads)
    attention_float_dqueries_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients, int pieces) {
  using Shape = AttentionFloatShape;
  const int parts = (call.head_dim + Shape::columns - 1) / Shape::columns;
  const AttentionPart part = part_of_block(pieces * parts, call.heads);
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int column = part.piece % parts * Shape::columns;
  const int first = (pieces - 1 - part.piece / parts) * Shape::tile;
  if (first >= rows.length) return;
  const AttentionFloatShared shared;
  const HeadRows<const T> keys = call.keys(rows, part.head / call.group);
  float sum[4][8] = {};
  for (int key = call.oldest_key(first) / Shape::tile * Shape::tile; key <= first; key += Shape::tile) {
    store_gradients<false>(shared, call, gradients, rows, part.sequence, part.head, first, key);
    load_last(shared, keys, key, column, rows.length);
    sync_block();
    multiply_last(sum, shared, 1);
  }
  store_columns(gradients.gradients(rows, part.head, call.head_dim), first, column, rows.length, sum,
                {call.scale, call.scale, call.scale, call.scale});
}

/// A block makes `columns` columns of 32 rows of dK and dV of one key-value head.
template <class T>
__global__ void __launch_bounds__(AttentionFloatShape::threads)
    attention_float_dkeys_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients, int pieces) {
  using Shape = AttentionFloatShape;
  const int parts = (call.head_dim + Shape::columns - 1) / Shape::columns;
  const AttentionPart part = part_of_block(pieces * parts, call.kv_heads());
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int column = part.piece % parts * Shape::columns;
  const int first = part.piece / parts * Shape::tile;
  if (first >= rows.length) return;
  const AttentionFloatShared shared;
  float dkeys[4][8] = {};
  float dvalues[4][8] = {};
  const int end = call.queries_end(first + Shape::tile - 1, rows.length);
  for (int i = 0; i < call.group; ++i) {
    const int head = part.head * call.group + i;
    for (int query = first; query < end; query += Shape::tile) {
      store_gradients<true>(shared, call, gradients, rows, part.sequence, head, query, first);
      load_last(shared, gradients.doutputs(rows, head, call.head_dim), query, column, rows.length);
      sync_block();
      multiply_last(dvalues, shared, 0);
      sync_block();
      load_last(shared, call.queries(rows, head), query, column, rows.length);
      sync_block();
      multiply_last(dkeys, shared, 1);
    }
  }
  store_columns(gradients.gradients(rows, call.heads + part.head, call.head_dim), first, column, rows.length, dkeys,
                {call.scale, call.scale, call.scale, call.scale});
  store_columns(gradients.gradients(rows, call.heads + call.kv_heads() + part.head, call.head_dim), first, column,
                rows.length, dvalues, {1.0F, 1.0F, 1.0F, 1.0F});
}

/// Heads of any width.
template <class T>
void attention_float(const Cuda& device, const AttentionCall<T>& call, MatrixView<T> y, float* lse) {
  using Shape = AttentionFloatShape;
  const index_t pieces = std::max<index_t>(1, ceil_divide(call.batch.longest, Shape::tile));
  const index_t parts = ceil_divide(call.head_dim, Shape::columns);
  launch(device, attention_float_kernel<T>, attention_grid(pieces * parts, call.heads, call.batch.sequences),
         Shape::threads, 0, call, y, lse, static_cast<int>(pieces));
}

/// Its backward.
template <class T>
void attention_float_backward(const Cuda& device, const AttentionCall<T>& call, AttentionGradients<T> gradients) {
  using Shape = AttentionFloatShape;
  const PackedView& batch = call.batch;
  auto scratch = device.scratch();
  gradients.dot = scratch.template take<float>(batch.tokens * call.heads);  // (tokens, heads)
  launch(device, attention_float_dot_kernel<T>, dim3(blocks_for(batch.tokens * call.heads, Shape::threads / 32)),
         Shape::threads, 0, call, gradients);
  const index_t pieces = std::max<index_t>(1, ceil_divide(batch.longest, Shape::tile));
  const index_t parts = ceil_divide(call.head_dim, Shape::columns);
  launch(device, attention_float_dqueries_kernel<T>, attention_grid(pieces * parts, call.heads, batch.sequences),
         Shape::threads, 0, call, gradients, static_cast<int>(pieces));
  launch(device, attention_float_dkeys_kernel<T>, attention_grid(pieces * parts, call.kv_heads(), batch.sequences),
         Shape::threads, 0, call, gradients, static_cast<int>(pieces));
}

}  // namespace storylm::cuda
