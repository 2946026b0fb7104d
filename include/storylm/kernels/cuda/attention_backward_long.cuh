// SPDX-License-Identifier: MIT
/// @file
/// @brief Backward of attention for sequences of any length: one kernel for dQ, by blocks of queries, then one for dK
/// and dV, by blocks of keys.
#pragma once

#include <storylm/kernels/cuda/attention_backward_tiles.cuh>

namespace storylm::cuda {

/// How heads of D columns are cut up.
template <int D>
struct AttentionLongShape {
  static constexpr int warps = 4;                      ///< of a block
  static constexpr int queries = 16 * warps;           ///< of a block that makes dQ
  static constexpr int key_tiles = D <= 64 ? 2 : 1;    ///< of 16 keys that a warp makes dK and dV of
  static constexpr int keys = 16 * key_tiles * warps;  ///< of a block that makes dK and dV
  static constexpr int step = D <= 64 ? 64 : 32;       ///< keys, or queries, that come at a time

  static constexpr std::size_t dqueries_shared_bytes =
      std::size_t{2 * queries + 4 * step} * AttentionTile<D>::row_bytes + 2 * queries * sizeof(float) +
      sizeof(PhiloxKey);
  static constexpr std::size_t dkeys_shared_bytes =
      std::size_t{2 * keys + 4 * step} * AttentionTile<D>::row_bytes + 4 * step * sizeof(float) + sizeof(PhiloxKey);
};

/// A block makes `queries` rows of dQ of one head, and their sums of dy * y for the next kernel.
template <class T, int D, bool Dropout>
__global__ void __launch_bounds__(32 * AttentionLongShape<D>::warps)
    attention_dqueries_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients, int short_limit,
                              int pieces) {
  using Shape = AttentionLongShape<D>;
  constexpr int row_bytes = AttentionTile<D>::row_bytes;
  const AttentionPart part = part_of_block(pieces, call.heads);
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int first = (pieces - 1 - part.piece) * Shape::queries;  // the last queries look at the most keys
  if (first >= rows.length || rows.length <= short_limit) return;

  unsigned char* const shared = dynamic_shared();
  const AttentionTile<D> q(shared);
  const AttentionTile<D> dy(shared + Shape::queries * row_bytes);
  unsigned char* const key_tiles = shared + 2 * Shape::queries * row_bytes;
  const auto k = [&](int tile) { return AttentionTile<D>(key_tiles + tile % 2 * 2 * Shape::step * row_bytes); };
  const auto v = [&](int tile) { return AttentionTile<D>(key_tiles + (tile % 2 * 2 + 1) * Shape::step * row_bytes); };
  auto* const floats = reinterpret_cast<float*>(key_tiles + 4 * Shape::step * row_bytes);
  const QueryStats stats{floats, floats + Shape::queries};
  const HeadRows<const T> keys = call.keys(rows, part.head / call.group);
  const HeadRows<const T> values = call.values(rows, part.head / call.group);
  const auto load = [&](int tile) {
    load_tile(k(tile), keys, tile * Shape::step, Shape::step, rows.length);
    load_tile(v(tile), values, tile * Shape::step, Shape::step, rows.length);
  };

  const int begin = call.oldest_key(first) / Shape::step;
  const int end = (min(first + Shape::queries, rows.length) - 1) / Shape::step;
  load_tile(q, call.queries(rows, part.head), first, Shape::queries, rows.length);
  load_tile(dy, gradients.doutputs(rows, part.head, call.head_dim), first, Shape::queries, rows.length);
  load(begin);
  commit_copies();
  load_stats<D>(stats, call, gradients, rows, part.head, first, Shape::queries);
  const int row = 16 * warp_index();
  const int mine = first + row;
  auto* const key_of_step = reinterpret_cast<PhiloxKey*>(floats + 2 * Shape::queries);
  const ComputedMasks masks = Dropout ? masks_of(call, part.sequence, part.head, key_of_step) : ComputedMasks{};
  float dqueries[1][D / 8][4] = {};
  for (int tile = begin; tile <= end; ++tile) {
    wait_copies<0>();
    sync_block();  // the tile is there, and nobody reads the one before any more
    if (tile < end) load(tile + 1);
    commit_copies();
    if (mine >= rows.length) continue;
    const int from = max(tile * Shape::step, call.oldest_key(mine) / 32 * 32);
    const int to = min((tile + 1) * Shape::step, mine + 16);
    for (int key = from; key < to; key += 32) {
      add_dqueries<1, Dropout>(dqueries, call, q, dy, row, mine, k(tile), v(tile), key - tile * Shape::step, key, stats,
                               masks);
    }
  }
  for (int i = thread_index(); i < Shape::queries && first + i < rows.length; i += block_threads()) {
    gradients.dot[(index_t{rows.begin} + first + i) * call.heads + part.head] = stats.dot[i];
  }
  store_rows<D>(gradients.gradients(rows, part.head, call.head_dim), mine, rows.length, dqueries, call.scale);
}

/// A block makes `keys` rows of dK and dV of one key-value head. What comes at a time: queries of one of its heads.
template <class T, int D, bool Dropout>
__global__ void __launch_bounds__(32 * AttentionLongShape<D>::warps)
    attention_dkeys_kernel(const AttentionCall<T> call, const AttentionGradients<T> gradients, int short_limit,
                           int pieces) {
  using Shape = AttentionLongShape<D>;
  constexpr int row_bytes = AttentionTile<D>::row_bytes;
  static_assert(2 * Shape::step <= 32 * Shape::warps);
  const AttentionPart part = part_of_block(pieces, call.kv_heads());
  if (part.sequence >= call.batch.sequences) return;
  const SequenceRows rows = rows_of_sequence(call.batch, part.sequence);
  const int first = part.piece * Shape::keys;  // the first keys are seen by the most queries
  if (first >= rows.length || rows.length <= short_limit) return;

  unsigned char* const shared = dynamic_shared();
  const AttentionTile<D> k(shared);
  const AttentionTile<D> v(shared + Shape::keys * row_bytes);
  unsigned char* const query_tiles = shared + 2 * Shape::keys * row_bytes;
  const auto q = [&](int half) { return AttentionTile<D>(query_tiles + half * 2 * Shape::step * row_bytes); };
  const auto dy = [&](int half) { return AttentionTile<D>(query_tiles + (half * 2 + 1) * Shape::step * row_bytes); };
  auto* const floats = reinterpret_cast<float*>(query_tiles + 4 * Shape::step * row_bytes);  // (2, 2, step)

  // Heads from the last to the first, each from the first query that sees a key of the block to the last.
  struct Place {
    int head;   // of queries
    int query;  // the first
  };
  const int last_head = part.head * call.group;
  const int end = call.queries_end(first + Shape::keys - 1, rows.length);
  const auto after = [&](Place place) {
    place.query += Shape::step;
    if (place.query >= end) place = {place.head - 1, first / Shape::step * Shape::step};
    return place;
  };
  const auto load = [&](int half, Place place) {
    load_tile(q(half), call.queries(rows, place.head), place.query, Shape::step, rows.length);
    load_tile(dy(half), gradients.doutputs(rows, place.head, call.head_dim), place.query, Shape::step, rows.length);
  };
  // A thread has lse or the sum of dy * y of one query.
  const auto load_stat = [&](Place place) {
    const int query = place.query + thread_index() % Shape::step;
    if (thread_index() < Shape::step) return lse_of(gradients.lse, call.heads, rows, place.head, query);
    if (thread_index() >= 2 * Shape::step || query >= rows.length) return 0.0F;
    return gradients.dot[(index_t{rows.begin} + query) * call.heads + place.head];
  };
  const auto store_stat = [&](int half, float stat) {
    if (thread_index() < 2 * Shape::step) floats[half * 2 * Shape::step + thread_index()] = stat;
  };

  Place now{last_head + call.group - 1, first / Shape::step * Shape::step};
  load_tile(k, call.keys(rows, part.head), first, Shape::keys, rows.length);
  load_tile(v, call.values(rows, part.head), first, Shape::keys, rows.length);
  load(0, now);
  commit_copies();
  store_stat(0, load_stat(now));
  const int row = 16 * Shape::key_tiles * warp_index();
  const int mine = first + row;
  const int last = mine + 16 * Shape::key_tiles - 1;
  float dkeys[Shape::key_tiles][D / 8][4] = {};
  float dvalues[Shape::key_tiles][D / 8][4] = {};
  auto* const key_of_step = reinterpret_cast<PhiloxKey*>(floats + 4 * Shape::step);
  ComputedMasks masks = Dropout ? masks_of(call, part.sequence, 0, key_of_step) : ComputedMasks{};
  for (int half = 0; now.head >= last_head; half ^= 1) {
    wait_copies<0>();
    sync_block();  // the tiles are there, and nobody reads those before any more
    const Place next = after(now);
    float stat = 0.0F;
    if (next.head >= last_head) {
      load(half ^ 1, next);
      stat = load_stat(next);
    }
    commit_copies();
    if (mine < rows.length) {
      masks.head = static_cast<std::uint32_t>(now.head);
      float* const of_tile = floats + half * 2 * Shape::step;
      const QueryStats stats{of_tile, of_tile + Shape::step};
      const int to = min(now.query + Shape::step, call.queries_end(last, rows.length));
      for (int query = max(now.query, mine); query < to; query += 16) {
        add_dkeys<Shape::key_tiles, Dropout>(dkeys, dvalues, call, q(half), dy(half), query - now.query, query, k, v,
                                             row, mine, stats, masks);
      }
    }
    if (next.head >= last_head) store_stat(half ^ 1, stat);
    now = next;
  }
  store_rows<D>(gradients.gradients(rows, call.heads + part.head, call.head_dim), mine, rows.length, dkeys, call.scale);
  store_rows<D>(gradients.gradients(rows, call.heads + call.kv_heads() + part.head, call.head_dim), mine, rows.length,
                dvalues, 1.0F);
}

/// Of sequences longer than `short_limit`.
template <class T, int D, bool Dropout>
void attention_backward_long(const Cuda& device, const AttentionCall<T>& call, const AttentionGradients<T>& gradients,
                             int short_limit) {
  using Shape = AttentionLongShape<D>;
  const PackedView& batch = call.batch;
  auto scratch = device.scratch();
  AttentionGradients<T> with_dot = gradients;
  with_dot.dot = scratch.template take<float>(batch.tokens * call.heads);  // (tokens, heads)
  const index_t query_pieces = ceil_divide(batch.longest, Shape::queries);
  launch(device, attention_dqueries_kernel<T, D, Dropout>, attention_grid(query_pieces, call.heads, batch.sequences),
         32 * Shape::warps, Shape::dqueries_shared_bytes, call, with_dot, short_limit, static_cast<int>(query_pieces));
  const index_t key_pieces = ceil_divide(batch.longest, Shape::keys);
  launch(device, attention_dkeys_kernel<T, D, Dropout>, attention_grid(key_pieces, call.kv_heads(), batch.sequences),
         32 * Shape::warps, Shape::dkeys_shared_bytes, call, with_dot, short_limit, static_cast<int>(key_pieces));
}

}  // namespace storylm::cuda
