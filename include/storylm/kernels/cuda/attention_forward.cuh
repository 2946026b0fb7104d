// SPDX-License-Identifier: MIT
/// @file
/// @brief Forward of attention on tensor cores: softmax taken online, tile by tile.
///
/// M. Milakov and N. Gimelshein, arXiv:1805.02867; T. Dao, arXiv:2307.08691.
#pragma once

#include <storylm/kernels/cuda/attention_tiles.cuh>

namespace storylm::cuda {

/// How the forward of heads of D columns is cut up.
template <int D>
struct AttentionForwardShape {
  static constexpr int warps = 4;                 ///< of a block; each has 16 queries
  static constexpr int queries = 16 * warps;      ///< of a block
  static constexpr int keys = D <= 64 ? 64 : 32;  ///< of a tile
  static constexpr std::size_t shared_bytes =
      std::size_t{queries + 4 * keys} * AttentionTile<D>::row_bytes + sizeof(PhiloxKey);
};

/// One warp's 16 queries: what is known of them after some keys.
template <class T, int D, bool Dropout>
class AttentionRows {
 public:
  static constexpr int keys = AttentionForwardShape<D>::keys;

  /// @param first position of the first query
  __device__ __forceinline__ explicit AttentionRows(int first) : first_(first) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      largest_[i] = -std::numeric_limits<float>::infinity();
      sum_[i] = 0.0F;
    }
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
#pragma unroll
      for (int i = 0; i < 4; ++i) outputs_[d][i] = 0.0F;
    }
  }

  /// @param row of the tile, of the first query
  __device__ __forceinline__ void load_queries(const AttentionTile<D>& tile, int row) {
    const AttentionCursor<D> from = straight(tile, row);
#pragma unroll
    for (int step = 0; step < D / 16; ++step) load_a(queries_[step], from, 0, step);
  }

  /// The queries look at the keys from position first_key on.
  __device__ __forceinline__ void add(const AttentionCall<T>& call, const AttentionTile<D>& k,
                                      const AttentionTile<D>& v, int first_key, const ComputedMasks& masks) {
    std::uint32_t kept[2][keys / 32];
    if constexpr (Dropout) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int w = 0; w < keys / 32; ++w) {
          // Of keys that no query of the warp sees yet it does not matter.
          kept[i][w] = first_key + 32 * w < first_ + 16 ? masks.keys_of(query(i), first_key + 32 * w) : 0;
        }
      }
    }
    const AttentionCursor<D> keys_at = turned(k, 0);
    const AttentionCursor<D> values_at = straight(v, 0);
    float s[keys / 8][4] = {};  // scores, then probabilities relative to the largest so far
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
#pragma unroll
      for (int n = 0; n < keys / 8; n += 2) {
        std::uint32_t b[4];
        load_b(b, keys_at, 8 * n, step);
        multiply_add<T>(s[n], s[n + 1], queries_[step], b);
      }
    }
    const bool all_visible = first_key + keys - 1 <= first_ && call.visible(first_ + 15, first_key);
    const float scale = call.scale * log2_e;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!all_visible) {
#pragma unroll
        for (int e = 0; e < keys / 4; ++e) {
          float& x = s[e / 2][2 * i + e % 2];
          x = call.visible(query(i), first_key + column(e)) ? x : -std::numeric_limits<float>::infinity();
        }
      }
      float largest = largest_[i];
#pragma unroll
      for (int e = 0; e < keys / 4; ++e) largest = fmaxf(largest, s[e / 2][2 * i + e % 2]);
      largest = quad_max(largest);
      // A row that has seen no key yet keeps its zeros: the powers of two below are 0 then.
      const float base = largest == -std::numeric_limits<float>::infinity() ? 0.0F : largest * scale;
      const float correction = fast_exp2(largest_[i] * scale - base);
      largest_[i] = largest;
      sum_[i] *= correction;
#pragma unroll
      for (int d = 0; d < D / 8; ++d) {
        outputs_[d][2 * i] *= correction;
        outputs_[d][2 * i + 1] *= correction;
      }
#pragma unroll
      for (int e = 0; e < keys / 4; ++e) {
        float& x = s[e / 2][2 * i + e % 2];
        x = fast_exp2(x * scale - base);
        sum_[i] += x;
        if constexpr (Dropout) x = ((kept[i][e / 8] >> static_cast<unsigned>(column(e) % 32)) & 1U) != 0U ? x : 0.0F;
      }
    }
#pragma unroll
    for (int n = 0; n < keys / 8; n += 2) {
      std::uint32_t a[4];
      to_operand<T>(a, s[n], s[n + 1]);
#pragma unroll
      for (int d = 0; d < D / 8; d += 2) {
        std::uint32_t b[4];
        load_b_straight(b, values_at, 8 * n, d);
        multiply_add<T>(outputs_[d], outputs_[d + 1], a, b);
      }
    }
  }

  /// @param y and lse of the head; lse in rows of `lse_stride`
  __device__ __forceinline__ void store(const HeadRows<T>& y, float* lse, int lse_stride, int length,
                                        const AttentionCall<T>& call) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = quad_sum(sum_[i]);
      store_row<D>(y, query(i), length, outputs_, i, (Dropout ? call.dropout.scale : 1.0F) / sum);
      if (lane_index() % 4 == 0 && query(i) < length) {
        lse[index_t{query(i)} * lse_stride] = largest_[i] * call.scale + fast_log2(sum) * ln_2;
      }
    }
  }

 private:
  // Position of row g + 8i.
  __device__ __forceinline__ int query(int i) const { return first_ + lane_index() / 4 + 8 * i; }
  // Of a lane's e-th score of a row, among the keys of a tile.
  static __device__ __forceinline__ int column(int e) { return e / 2 * 8 + lane_index() % 4 * 2 + e % 2; }

  int first_;
  std::uint32_t queries_[D / 16][4];
  float outputs_[D / 8][4];
  float largest_[2];
  float sum_[2];
};

/// A block makes `queries` rows of y of one head. The tile after the one at work is on its way.
template <class T, int D, bool Dropout>
__global__ void __launch_bounds__(32 * AttentionForwardShape<D>::warps)
    attention_forward_kernel(const AttentionCall<T> call, MatrixView<T> y, float* lse, bool y_aligned, int pieces) {
  using Shape = AttentionForwardShape<D>;
  zero_tail_rows(call.batch, y);
  zero_tail_rows(call.batch, MatrixView<float>(lse, call.batch.tokens, call.heads));
  const AttentionPart part = part_of_block(pieces, call.heads);
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int first = (pieces - 1 - part.piece) * Shape::queries;  // the last queries look at the most keys
  if (first >= rows.length) return;

  unsigned char* const shared = dynamic_shared();
  constexpr int tile_bytes = Shape::keys * AttentionTile<D>::row_bytes;
  const AttentionTile<D> q(shared);
  unsigned char* const key_tiles = shared + Shape::queries * AttentionTile<D>::row_bytes;
  const auto k = [&](int tile) { return AttentionTile<D>(key_tiles + tile % 2 * 2 * tile_bytes); };
  const auto v = [&](int tile) { return AttentionTile<D>(key_tiles + (tile % 2 * 2 + 1) * tile_bytes); };
  const HeadRows<const T> keys = call.keys(rows, part.head / call.group);
  const HeadRows<const T> values = call.values(rows, part.head / call.group);
  const auto load = [&](int tile) {
    load_tile(k(tile), keys, tile * Shape::keys, Shape::keys, rows.length);
    load_tile(v(tile), values, tile * Shape::keys, Shape::keys, rows.length);
  };

  const int begin = call.oldest_key(first) / Shape::keys;
  const int last = (min(first + Shape::queries, rows.length) - 1) / Shape::keys;
  load_tile(q, call.queries(rows, part.head), first, Shape::queries, rows.length);
  load(begin);
  commit_copies();
  const int mine = first + 16 * warp_index();
  AttentionRows<T, D, Dropout> work(mine);
  auto* const key_of_step = reinterpret_cast<PhiloxKey*>(key_tiles + 4 * tile_bytes);
  const ComputedMasks masks = Dropout ? masks_of(call, part.sequence, part.head, key_of_step) : ComputedMasks{};
  for (int tile = begin; tile <= last; ++tile) {
    wait_copies<0>();
    sync_block();  // the tile is there, and nobody reads the one before any more
    if (tile < last) load(tile + 1);
    commit_copies();
    if (tile == begin) work.load_queries(q, 16 * warp_index());
    const int key = tile * Shape::keys;
    const bool some_visible = key <= mine + 15 && call.visible(max(mine, key + Shape::keys - 1), key + Shape::keys - 1);
    if (mine < rows.length && some_visible) work.add(call, k(tile), v(tile), key, masks);
  }
  const HeadRows<T> out{y.row(rows.begin) + index_t{part.head} * call.head_dim, y.stride, call.head_dim, y_aligned};
  work.store(out, lse + index_t{rows.begin} * call.heads + part.head, call.heads, rows.length, call);
}

/// On tensor cores, heads of up to D columns.
template <class T, int D, bool Dropout>
void attention_forward(const Cuda& device, const AttentionCall<T>& call, MatrixView<T> y, float* lse) {
  using Shape = AttentionForwardShape<D>;
  const index_t pieces = std::max<index_t>(1, ceil_divide(call.batch.longest, Shape::queries));
  launch(device, attention_forward_kernel<T, D, Dropout>, attention_grid(pieces, call.heads, call.batch.sequences),
         32 * Shape::warps, Shape::shared_bytes, call, y, lse, heads_aligned(y, call.head_dim),
         static_cast<int>(pieces));
}

}  // namespace storylm::cuda
