// SPDX-License-Identifier: MIT
/// @file
/// @brief What all attention kernels are given, and how they find their part of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm::cuda {

inline constexpr float log2_e = 1.4426950408889634F;  ///< exp(x) = exp2(x log2_e)
inline constexpr float ln_2 = 0.6931471805599453F;    ///< log(x) = log2(x) ln_2

/// True where every head of every row begins on a 16-byte boundary and ends on one.
template <class T>
[[nodiscard]] inline bool heads_aligned(MatrixView<T> m, index_t head_dim) {
  return head_dim % group_columns == 0 && groups_aligned(m);
}

/// One head of the rows of one sequence.
template <class T>
struct HeadRows {
  T* data;         ///< column 0 in the sequence's first row
  index_t stride;  ///< elements from one row to the next
  int width;       ///< columns
  bool aligned;    ///< all rows begin and end on 16-byte boundaries

  __device__ __forceinline__ T* row(int r) const { return data + r * stride; }  ///< of position r
};

/// The rows of a sequence.
struct SequenceRows {
  int begin;   ///< row of its first token
  int length;  ///< tokens
};
__device__ __forceinline__ SequenceRows rows_of_sequence(const PackedView& batch, int sequence) {
  const int begin = batch.offsets[sequence];
  return {begin, batch.offsets[sequence + 1] - begin};
}

/// The arguments that forward and backward share.
template <class T>
struct AttentionCall {
  MatrixView<const T> qkv;   // (tokens, qkv_width)
  PackedView batch;          ///< the sequences
  DropoutArguments dropout;  ///< of the probabilities
  int heads;                 ///< of queries
  int group;                 ///< query heads that read the same key-value head
  int head_dim;              ///< columns of a head
  int window;                ///< a query sees so many keys: itself and those before it
  float scale;               ///< of scores: 1 / sqrt(head_dim)
  bool aligned;              ///< of qkv

  /// On the host.
  AttentionCall(MatrixView<const T> rows, const AttentionSpec& spec, const DropoutSpec& dropped,
                const PackedView& packed)
      : qkv(rows),
        batch(packed),
        dropout(dropped),
        heads(static_cast<int>(spec.heads)),
        group(static_cast<int>(spec.heads / spec.kv_heads)),
        head_dim(static_cast<int>(spec.head_dim)),
        window(static_cast<int>(std::min<index_t>(spec.window > 0 ? spec.window : most_keys, most_keys))),
        scale(1.0F / std::sqrt(static_cast<float>(spec.head_dim))),
        aligned(heads_aligned(rows, spec.head_dim)) {}

  /// Of keys and values.
  [[nodiscard]] STORYLM_HOST_DEVICE int kv_heads() const { return heads / group; }
  /// A query sees a key of its sequence, both given by position.
  __device__ __forceinline__ bool visible(int query, int key) const {
    return static_cast<std::uint32_t>(query - key) < static_cast<std::uint32_t>(window);  // negative is very large
  }
  /// The oldest key that a query sees.
  __device__ __forceinline__ int oldest_key(int query) const { return query >= window ? query - window + 1 : 0; }
  /// The end of the queries that see a key.
  __device__ __forceinline__ int queries_end(int key, int length) const {
    return length - key > window ? key + window : length;
  }

  __device__ __forceinline__ HeadRows<const T> queries(const SequenceRows& rows, int head) const {
    return {qkv.row(rows.begin) + index_t{head} * head_dim, qkv.stride, head_dim, aligned};
  }
  /// Of the key-value head kv.
  __device__ __forceinline__ HeadRows<const T> keys(const SequenceRows& rows, int kv) const {
    return queries(rows, heads + kv);
  }
  __device__ __forceinline__ HeadRows<const T> values(const SequenceRows& rows, int kv) const {
    return queries(rows, heads + kv_heads() + kv);
  }

 private:
  static constexpr index_t most_keys = std::numeric_limits<int>::max();
};

/// What backward is given besides.
template <class T>
struct AttentionGradients {
  MatrixView<T> dqkv;      // (tokens, qkv_width)
  MatrixView<const T> dy;  // (tokens, q_width)
  MatrixView<const T> y;   // (tokens, q_width)
  const float* lse;        // (tokens, heads)
  float* dot;              // (tokens, heads)  sum of dy * y, passed from one kernel to the next; may be null
  bool dqkv_aligned;       ///< of dqkv
  bool y_aligned;          ///< of dy and y

  /// On the host.
  AttentionGradients(MatrixView<T> gradient, MatrixView<const T> dout, MatrixView<const T> out, const float* sums,
                     index_t head_dim)
      : dqkv(gradient),
        dy(dout),
        y(out),
        lse(sums),
        dot(nullptr),
        dqkv_aligned(heads_aligned(gradient, head_dim)),
        y_aligned(heads_aligned(dout, head_dim) && heads_aligned(out, head_dim)) {}

  __device__ __forceinline__ HeadRows<const T> outputs(const SequenceRows& rows, int head, int head_dim) const {
    return {y.row(rows.begin) + index_t{head} * head_dim, y.stride, head_dim, y_aligned};
  }
  __device__ __forceinline__ HeadRows<const T> doutputs(const SequenceRows& rows, int head, int head_dim) const {
    return {dy.row(rows.begin) + index_t{head} * head_dim, dy.stride, head_dim, y_aligned};
  }
  /// Heads are counted through queries, keys and values.
  __device__ __forceinline__ HeadRows<T> gradients(const SequenceRows& rows, int head, int head_dim) const {
    return {dqkv.row(rows.begin) + index_t{head} * head_dim, dqkv.stride, head_dim, dqkv_aligned};
  }
};

/// Rows that belong to no sequence become zeros. All blocks of the grid share the work.
template <class T>
__device__ __forceinline__ void zero_tail_rows(const PackedView& batch, MatrixView<T> m) {
  for (index_t row = index_t{batch.offsets[batch.sequences]} + block_x(); row < m.rows; row += grid_x()) {
    for (index_t c = thread_index(); c < m.cols; c += block_threads()) m(row, c) = from_float<T>(0.0F);
  }
}

/// A block's part: one of `pieces` pieces of one of `heads` heads of one sequence. Pieces are neighbours, so that they
/// find what they share in the cache.
struct AttentionPart {
  int piece;     ///< which
  int head;      ///< which
  int sequence;  ///< which; the number of sequences where there are none
};
__device__ __forceinline__ AttentionPart part_of_block(int pieces, int heads) {
  const int of_head = block_x() / pieces;
  return {block_x() % pieces, of_head % heads, of_head / heads};
}
/// Blocks that make all parts; at least one, for tail rows.
[[nodiscard]] inline dim3 attention_grid(index_t pieces, index_t heads, index_t sequences) {
  return dim3(std::max(1U, blocks_for(pieces * heads * sequences, 1)));
}

}  // namespace storylm::cuda
