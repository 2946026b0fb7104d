// SPDX-License-Identifier: MIT
/// @file
/// @brief The two products that backward of attention is made of, for one warp, on tensor cores.
///
/// Probabilities P are computed again from the saved log of the sum of exponentials. With F their dropout factors and
/// D = rowsum(dy * y): dV = (P F)^T dY, dS = P (F (dY V^T) - D), dQ = dS K, dK = dS^T Q, up to the scale of scores.
/// T. Dao et al., arXiv:2205.14135. Sums run over keys, or queries, in their order and in steps of 16, so that the bits
/// do not depend on the kernel that takes these steps.
#pragma once

#include <storylm/kernels/cuda/attention_tiles.cuh>

namespace storylm::cuda {

/// What is known of the queries in a tile, in shared memory.
struct QueryStats {
  float* lse;  ///< times log2_e; infinite where there is no query: its probabilities are zero
  float* dot;  ///< sum of dy * y
};

/// lse of the query at `position`, as QueryStats has it.
__device__ __forceinline__ float lse_of(const float* lse, int heads, const SequenceRows& rows, int head, int position) {
  return position < rows.length ? lse[(index_t{rows.begin} + position) * heads + head] * log2_e
                                : std::numeric_limits<float>::infinity();
}
/// Fills both for `count` queries from `first` on, by all threads of the block; count is a multiple of 32.
template <int D, class T>
__device__ __forceinline__ void load_stats(const QueryStats& stats, const AttentionCall<T>& call,
                                           const AttentionGradients<T>& gradients, const SequenceRows& rows, int head,
                                           int first, int count) {
  for (int i = thread_index(); i < count; i += block_threads()) {
    stats.lse[i] = lse_of(gradients.lse, call.heads, rows, head, first + i);
  }
  constexpr int chunks = D / 8;
  const HeadRows<const T> y = gradients.outputs(rows, head, call.head_dim);
  const HeadRows<const T> dy = gradients.doutputs(rows, head, call.head_dim);
  for (int i = thread_index(); i < count * chunks; i += block_threads()) {  // whole warps
    const int row = i / chunks;
    const int column = i % chunks * group_columns;
    float dot = 0.0F;
    if (first + row < rows.length && column < call.head_dim) {
      float a[8];
      float b[8];
      load8(y.row(first + row) + column, call.head_dim - column, y.aligned, a);
      load8(dy.row(first + row) + column, call.head_dim - column, dy.aligned, b);
#pragma unroll
      for (int k = 0; k < 8; ++k) dot += a[k] * b[k];
    }
#pragma unroll
    for (int distance = chunks / 2; distance > 0; distance /= 2) dot += shuffle_xor(dot, distance);
    if (column == 0) stats.dot[row] = dot;
  }
}

/// dqueries (16 Rows, D) += dS K for 32 keys. Q and dY are at tile rows `row`, the queries' positions begin at `query`;
/// K and V at tile rows `key_row`, positions from `key` on, a multiple of 32.
template <int Rows, bool Dropout, class T, int D, class Masks>
__device__ __forceinline__ void add_dqueries(float (&dqueries)[Rows][D / 8][4], const AttentionCall<T>& call,
                                             const AttentionTile<D>& q, const AttentionTile<D>& dy, int row, int query,
                                             const AttentionTile<D>& k, const AttentionTile<D>& v, int key_row, int key,
                                             const QueryStats& stats, const Masks& masks) {
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  const float scale = call.scale * log2_e;
  const AttentionCursor<D> q_at = straight(q, row);
  const AttentionCursor<D> dy_at = straight(dy, row);
  const AttentionCursor<D> k_at = straight(k, key_row);
  const AttentionCursor<D> k_turned = turned(k, key_row);
  const AttentionCursor<D> v_turned = turned(v, key_row);
  float s[Rows][4][4] = {};   // scores, then their gradients
  float dp[Rows][4][4] = {};  // gradients of probabilities
#pragma unroll 4              // with more at once registers do not suffice
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t aq[Rows][4];
    std::uint32_t ad[Rows][4];
#pragma unroll
    for (int m = 0; m < Rows; ++m) {
      load_a(aq[m], q_at, 16 * m, step);
      load_a(ad[m], dy_at, 16 * m, step);
    }
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
      std::uint32_t bk[4];
      std::uint32_t bv[4];
      load_b(bk, k_turned, 8 * n, step);
      load_b(bv, v_turned, 8 * n, step);
#pragma unroll
      for (int m = 0; m < Rows; ++m) {
        multiply_add<T>(s[m][n], s[m][n + 1], aq[m], bk);
        multiply_add<T>(dp[m][n], dp[m][n + 1], ad[m], bv);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = 16 * m + 8 * i + g;
      const float lse = stats.lse[row + r];
      const float dot = stats.dot[row + r];
      std::uint32_t kept = 0;
      if constexpr (Dropout) kept = masks.keys_of(query + r, key);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int column = e / 2 * 8 + 2 * t + e % 2;
        float& x = s[m][e / 2][2 * i + e % 2];
        float d = dp[m][e / 2][2 * i + e % 2];
        if constexpr (Dropout) d = ((kept >> static_cast<unsigned>(column)) & 1U) != 0U ? d * call.dropout.scale : 0.0F;
        const float p = fast_exp2(x * scale - lse);
        x = call.visible(query + r, key + column) ? p * (d - dot) : 0.0F;
      }
    }
  }
#pragma unroll
  for (int n = 0; n < 4; n += 2) {
    std::uint32_t a[Rows][4];
#pragma unroll
    for (int m = 0; m < Rows; ++m) to_operand<T>(a[m], s[m][n], s[m][n + 1]);
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      std::uint32_t b[4];
      load_b_straight(b, k_at, 8 * n, d);
#pragma unroll
      for (int m = 0; m < Rows; ++m) multiply_add<T>(dqueries[m][d], dqueries[m][d + 1], a[m], b);
    }
  }
}

/// dkeys, dvalues (16 Rows, D) += dS^T Q, (P F)^T dY for 16 queries. K and V are at tile rows `key_row`, positions from
/// `key` on; Q and dY at tile rows `row`, positions from `query` on.
template <int Rows, bool Dropout, class T, int D, class Masks>
__device__ __forceinline__ void add_dkeys(float (&dkeys)[Rows][D / 8][4], float (&dvalues)[Rows][D / 8][4],
                                          const AttentionCall<T>& call, const AttentionTile<D>& q,
                                          const AttentionTile<D>& dy, int row, int query, const AttentionTile<D>& k,
                                          const AttentionTile<D>& v, int key_row, int key, const QueryStats& stats,
                                          const Masks& masks) {
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  const float scale = call.scale * log2_e;
  std::uint32_t prepared = 0;
  if constexpr (Dropout) prepared = masks.template prepare<Rows>(query, key);
  const AttentionCursor<D> k_at = straight(k, key_row);
  const AttentionCursor<D> v_at = straight(v, key_row);
  const AttentionCursor<D> q_at = straight(q, row);
  const AttentionCursor<D> q_turned = turned(q, row);
  const AttentionCursor<D> dy_at = straight(dy, row);
  const AttentionCursor<D> dy_turned = turned(dy, row);
  float s[Rows][2][4] = {};   // (keys, queries)
  float dp[Rows][2][4] = {};  // (keys, queries)
#pragma unroll 2              // with more at once registers do not suffice
  for (int step = 0; step < D / 16; ++step) {
    std::uint32_t b[4];
    load_b(b, q_turned, 0, step);
#pragma unroll
    for (int m = 0; m < Rows; ++m) {
      std::uint32_t a[4];
      load_a(a, k_at, 16 * m, step);
      multiply_add<T>(s[m][0], s[m][1], a, b);
    }
    load_b(b, dy_turned, 0, step);
#pragma unroll
    for (int m = 0; m < Rows; ++m) {
      std::uint32_t a[4];
      load_a(a, v_at, 16 * m, step);
      multiply_add<T>(dp[m][0], dp[m][1], a, b);
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int r = 8 * n + 2 * t + c;
      const float lse = stats.lse[row + r];
      const float dot = stats.dot[row + r];
      std::uint32_t kept = 0;
      if constexpr (Dropout) kept = masks.kept_of(prepared, 2 * n + c, query, key);
#pragma unroll
      for (int m = 0; m < Rows; ++m) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = 16 * m + 8 * i + g;
          float& x = s[m][n][2 * i + c];
          float& d = dp[m][n][2 * i + c];
          const bool visible = call.visible(query + r, key + column);
          const float p = fast_exp2(x * scale - lse);
          float dropped = p;
          if constexpr (Dropout) {
            const bool keep = ((kept >> static_cast<unsigned>(column)) & 1U) != 0U;
            dropped = keep ? p * call.dropout.scale : 0.0F;
            d = keep ? d * call.dropout.scale : 0.0F;
          }
          x = visible ? dropped : 0.0F;
          d = visible ? p * (d - dot) : 0.0F;
        }
      }
    }
  }
  std::uint32_t ap[Rows][4];
  std::uint32_t as[Rows][4];
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
    to_operand<T>(ap[m], s[m][0], s[m][1]);
    to_operand<T>(as[m], dp[m][0], dp[m][1]);
  }
#pragma unroll
  for (int d = 0; d < D / 8; d += 2) {
    std::uint32_t bd[4];
    std::uint32_t bq[4];
    load_b_straight(bd, dy_at, 0, d);
    load_b_straight(bq, q_at, 0, d);
#pragma unroll
    for (int m = 0; m < Rows; ++m) {
      multiply_add<T>(dvalues[m][d], dvalues[m][d + 1], ap[m], bd);
      multiply_add<T>(dkeys[m][d], dkeys[m][d + 1], as[m], bq);
    }
  }
}

/// Rows (16 Rows, D) from position `first` on become factor * x; all lanes of the warp take part.
template <int D, int Rows, class T>
__device__ __forceinline__ void store_rows(const HeadRows<T>& to, int first, int length,
                                           const float (&x)[Rows][D / 8][4], float factor) {
#pragma unroll
  for (int m = 0; m < Rows; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) store_row<D>(to, first + 16 * m + 8 * i + lane_index() / 4, length, x[m], i, factor);
  }
}

}  // namespace storylm::cuda
