// SPDX-License-Identifier: MIT
/// @file
/// @brief Backward of attention for short sequences: one block has a whole head of one in shared memory.
///
/// Each warp makes dQ of its queries, then dK and dV of its keys. A warp far behind looks at many keys and is seen by
/// few queries, so all warps have the same work.
#pragma once

#include <storylm/kernels/cuda/attention_backward_tiles.cuh>

namespace storylm::cuda {

/// How a head of D columns is cut up.
template <int D>
struct AttentionShortShape {
  static constexpr int most_warps = 8;                       ///< of a block: 255 registers a thread
  static constexpr int tiles = D <= 64 ? 2 : 1;              ///< of 16 rows that a warp has: two accumulators of them
  static constexpr int most_rows = 16 * tiles * most_warps;  ///< of a sequence

  /// 32-bit words of a row of masks; odd.
  [[nodiscard]] STORYLM_HOST_DEVICE static constexpr int mask_stride(int rows) { return rows / 32 + 1 - rows / 32 % 2; }
  /// Of dynamic shared memory, for sequences up to `rows`, a multiple of 32.
  [[nodiscard]] static constexpr std::size_t shared_bytes(int rows) {
    return static_cast<std::size_t>(rows) *
           static_cast<std::size_t>(4 * AttentionTile<D>::row_bytes + 2 * static_cast<int>(sizeof(float)) +
                                    4 * mask_stride(rows));
  }
  /// The longest sequence that fits, in 32s.
  [[nodiscard]] static constexpr int rows_that_fit(std::size_t available) {
    int rows = most_rows;
    while (rows > 0 && shared_bytes(rows) > available) rows -= 32;
    return rows;
  }
};

/// Masks of all queries of one head, up to `rows`, a multiple of 32: those words whose keys some query of the same 32
/// sees. Threads get the same number of them each, with queries taken in pairs from both ends.
template <class T>
__device__ __forceinline__ void store_masks(std::uint32_t* words, int stride, const AttentionCall<T>& call,
                                            int sequence, int head, int rows) {
  const PhiloxKey key = dropout_key(call.dropout);
  const std::uint32_t ordinal = call.batch.ordinals[sequence];
  const int of_pair = rows / 32 + 1;
  for (int i = thread_index(); i < rows / 2 * of_pair; i += block_threads()) {
    const int pair = i / of_pair;
    const int place = i % of_pair;
    const int of_first = pair / 32 + 1;
    const int query = place < of_first ? pair : rows - 1 - pair;
    const int word = place < of_first ? place : place - of_first;
    if (word * 32 + 31 < call.oldest_key(query / 32 * 32)) continue;
    std::uint32_t kept = 0;
#pragma unroll
    for (int byte = 0; byte < 4; ++byte) {
      kept |= kept_columns(key, call.dropout, ordinal, static_cast<std::uint32_t>(query),
                           static_cast<std::uint32_t>(head), static_cast<std::uint32_t>(4 * word + byte))
              << static_cast<unsigned>(8 * byte);
    }
    words[query * stride + word] = kept;
  }
}

/// A block makes dK and dV of one key-value head of one sequence, and dQ of the heads that read it.
template <class T, int D, bool Dropout>
__global__ void __launch_bounds__(32 * AttentionShortShape<D>::most_warps, 1)
    attention_backward_short_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients) {
  using Shape = AttentionShortShape<D>;
  constexpr int tiles = Shape::tiles;
  zero_tail_rows(call.batch, gradients.dqkv);
  const AttentionPart part = part_of_block(1, call.kv_heads());
  const int kv = part.head;
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int room = block_threads() / 32 * 16 * tiles;
  if (rows.length == 0 || rows.length > room) return;  // longer ones are another kernel's
  const int count = (rows.length + 31) / 32 * 32;

  unsigned char* const shared = dynamic_shared();
  const int tile_bytes = room * AttentionTile<D>::row_bytes;
  const AttentionTile<D> q(shared);
  const AttentionTile<D> k(shared + tile_bytes);
  const AttentionTile<D> v(shared + 2 * tile_bytes);
  const AttentionTile<D> dy(shared + 3 * tile_bytes);
  auto* const floats = reinterpret_cast<float*>(shared + 4 * tile_bytes);
  const QueryStats stats{floats, floats + room};
  auto* const words = reinterpret_cast<std::uint32_t*>(floats + 2 * room);
  const StoredMasks masks{words, Shape::mask_stride(room)};
  const auto load_head = [&](int head) {
    load_tile(q, call.queries(rows, head), 0, count, rows.length);
    load_tile(dy, gradients.doutputs(rows, head, call.head_dim), 0, count, rows.length);
    commit_copies();
    load_stats<D>(stats, call, gradients, rows, head, 0, count);
    if constexpr (Dropout) store_masks(words, masks.stride, call, part.sequence, head, count);
    wait_copies<0>();
    sync_block();
  };
  load_tile(k, call.keys(rows, kv), 0, count, rows.length);
  load_tile(v, call.values(rows, kv), 0, count, rows.length);

  const int mine = warp_index() * 16 * tiles;
  const int last = mine + 16 * tiles - 1;
  const bool busy = mine < rows.length;
  const int first_head = kv * call.group;
  for (int i = 0; i < call.group; ++i) {
    const int head = first_head + i;
    if (i > 0) sync_block();  // nobody reads the head before any more
    load_head(head);
    if (!busy) continue;
    float dqueries[tiles][D / 8][4] = {};
    for (int key = call.oldest_key(mine) / 32 * 32; key <= last; key += 32) {
      add_dqueries<tiles, Dropout>(dqueries, call, q, dy, mine, mine, k, v, key, key, stats, masks);
    }
    store_rows<D>(gradients.gradients(rows, head, call.head_dim), mine, rows.length, dqueries, call.scale);
  }
  // From the last head to the first: the last one is still there.
  float dkeys[tiles][D / 8][4] = {};
  float dvalues[tiles][D / 8][4] = {};
  for (int i = call.group - 1; i >= 0; --i) {
    if (i < call.group - 1) {
      sync_block();
      load_head(first_head + i);
    }
    if (!busy) continue;
    const int end = call.queries_end(last, rows.length);
    for (int query = mine; query < end; query += 16) {
      add_dkeys<tiles, Dropout>(dkeys, dvalues, call, q, dy, query, query, k, v, mine, mine, stats, masks);
    }
  }
  if (!busy) return;
  store_rows<D>(gradients.gradients(rows, call.heads + kv, call.head_dim), mine, rows.length, dkeys, call.scale);
  store_rows<D>(gradients.gradients(rows, call.heads + call.kv_heads() + kv, call.head_dim), mine, rows.length, dvalues,
                1.0F);
}

/// Of sequences up to `limit`, a multiple of 32 that fits; also of tail rows.
template <class T, int D, bool Dropout>
void attention_backward_short(const Cuda& device, const AttentionCall<T>& call, const AttentionGradients<T>& gradients,
                              int limit) {
  using Shape = AttentionShortShape<D>;
  const index_t longest = std::max<index_t>(1, std::min<index_t>(call.batch.longest, limit));
  const auto rows = static_cast<int>(ceil_divide(longest, 32)) * 32;
  launch(device, attention_backward_short_kernel<T, D, Dropout>,
         attention_grid(1, call.kv_heads(), call.batch.sequences), 2 * rows / Shape::tiles, Shape::shared_bytes(rows),
         call, gradients);
}

}  // namespace storylm::cuda
