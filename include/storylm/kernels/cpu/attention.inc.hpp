// SPDX-License-Identifier: MIT
/// @file
/// @brief Causal attention over packed sequences on the CPU; no matrix of tokens x tokens exists.
///
/// Tiles are counted from the beginning of a sequence. A piece of work is one (sequence, block of queries, head)
/// forward and one (sequence, key-value head) backward: bits depend neither on threads nor on what else is in the
/// batch.

/// Any even head size and floating-point dtype.
template <FloatDtype T>
struct kernel<op::attention, T> {
  using A = accumulator_t<T>;

  static void run(const Cpu& device, MatrixView<T> y, A* lse, MatrixView<const T> qkv, const AttentionSpec& spec,
                  const DropoutSpec& dropout, const PackedView& batch) {
    struct Block {
      index_t sequence;
      index_t first;
      index_t end;  // about what it costs: its queries see the keys before it
    };
    constexpr index_t grain = AttentionForward<T>::query_block;
    auto scratch = device.scratch();
    auto* const blocks = scratch.template take<Block>(batch.tokens / grain + batch.sequences);
    index_t count = 0;
    for (index_t s = 0; s < batch.sequences; ++s) {
      const index_t length = batch.offsets[s + 1] - batch.offsets[s];
      for (index_t first = 0; first < length; first += grain) {
        blocks[count++] = {s, first, std::min(length, first + grain)};
      }
    }
    // The dearest first, so that no thread is left with one when the others are done.
    std::sort(blocks, blocks + count,
              [](const Block& a, const Block& b) { return a.end != b.end ? a.end > b.end : a.sequence < b.sequence; });
    const AttentionCall<T> call(qkv, spec, dropout, batch);
    const index_t size = AttentionForward<T>::scratch_size(call);
    A* const buffers = scratch.template take<A>(size * thread_count(device));  // (threads, size)
    parallel_for(device, count * spec.heads, [&](index_t piece) {
      const Block& block = blocks[piece / spec.heads];
      const AttentionForward<T> forward(call, buffers + size * thread_index());
      forward.run(y, lse, block.sequence, piece % spec.heads, block.first);
    });
  }

  static void backward(const Cpu& device, MatrixView<T> dqkv, MatrixView<const T> dy, MatrixView<const T> y,
                       const A* lse, MatrixView<const T> qkv, const AttentionSpec& spec, const DropoutSpec& dropout,
                       const PackedView& batch) {
    auto scratch = device.scratch();
    const AttentionCall<T> call(qkv, spec, dropout, batch);
    const index_t size = AttentionBackward<T>::scratch_size(call);
    A* const buffers = scratch.template take<A>(size * thread_count(device));  // (threads, size)
    auto* const order = scratch.template take<std::int32_t>(batch.sequences);  // (sequences)  the longest first
    for (index_t s = 0; s < batch.sequences; ++s) order[s] = static_cast<std::int32_t>(s);
    std::sort(order, order + batch.sequences, [&](std::int32_t a, std::int32_t b) {
      const index_t length_a = batch.offsets[a + 1] - batch.offsets[a];
      const index_t length_b = batch.offsets[b + 1] - batch.offsets[b];
      return length_a != length_b ? length_a > length_b : a < b;
    });
    parallel_for(device, batch.sequences * spec.kv_heads, [&](index_t piece) {
      const AttentionBackward<T> part(call, buffers + size * thread_index());
      part.run(dqkv, dy, y, lse, order[piece / spec.kv_heads], piece % spec.kv_heads);
    });
  }
};
