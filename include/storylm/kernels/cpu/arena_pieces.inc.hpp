// SPDX-License-Identifier: MIT
/// @file
/// @brief What optimizers share: an arena in pieces, weights in the type that they are kept in.

/// f(begin, end, decays) for runs of parameters of one segment each, which together are all of them: on any thread, cut
/// by shape alone. The gaps between segments are in none.
template <class T, class F>
void for_each_piece(const Cpu& device, const ArenaView<T>& arena, const F& f) {
  parallel_blocks(device, arena.size, flat_grain, [&](index_t begin, index_t end) {
    for (index_t s = 0; s < arena.segment_count; ++s) {
      const ParameterSegment& segment = arena.segments[s];
      const index_t from = std::max(begin, segment.offset);
      const index_t to = std::min(end, segment.offset + segment.size);
      if (from < to) f(from, to, segment.decay);
    }
  });
}

/// The weights that steps are added to: the masters, where there are any.
template <class T>
[[nodiscard]] accumulator_t<T>* master_values(const ArenaView<T>& arena) {
  if constexpr (std::is_same_v<T, accumulator_t<T>>) {
    return arena.values;
  } else {
    return arena.masters;
  }
}

/// Weights from element i on; the rounded copy that the model computes with, too.
template <class T, class Which>
[[gnu::always_inline]] inline void store_values(const ArenaView<T>& arena, index_t i, Vector<accumulator_t<T>> weights,
                                                Which which) {
  using A = accumulator_t<T>;
  store_as<A>(master_values(arena) + i, weights, which);
  if constexpr (!std::is_same_v<T, A>) store_as<A>(arena.values + i, weights, which);
}
