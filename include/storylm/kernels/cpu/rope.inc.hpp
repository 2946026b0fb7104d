// SPDX-License-Identifier: MIT
/// @file
/// @brief Rotary positions on the CPU: Su et al., arXiv:2104.09864.
///
/// Frequencies and angles are computed in the computing type, as PyTorch programs do: in float a far position's angle
/// is a rounded one, and only the same rounding gives the same logits.

/// out (2, head_dim): the cosines and sines of position * frequencies[i], where the elements of pair i find theirs in
/// the layout; of interleaved pairs the first has the sine negated.
template <class A>
inline void rope_angles(A* out, const A* frequencies, index_t half, index_t position, RopeLayout layout) {
  A* const cosines = out;
  A* const sines = out + 2 * half;
  for (index_t i = 0; i < half; ++i) {
    const A angle = static_cast<A>(position) * frequencies[i];
    if (layout == RopeLayout::half_split) {
      cosines[i] = std::cos(angle);
      sines[i] = std::sin(angle);
    } else {
      cosines[2 * i] = cosines[2 * i + 1] = std::cos(angle);
      sines[2 * i + 1] = std::sin(angle);
      sines[2 * i] = -sines[2 * i + 1];
    }
  }
}

/// Turns the pairs (x[i], x[i + half]) by the angles; sign = -1 turns them back.
template <class A, class T>
inline void rope_turn_halves(T* x, const A* cosines, const A* sines, A sign, index_t half) {
  for_each_vector<A>(half, [&](index_t i, auto which) {
    const Vector<A> first = load_as<A>(x + i, which);
    const Vector<A> second = load_as<A>(x + half + i, which);
    const Vector<A> cosine = load_as<A>(cosines + i, which);
    const Vector<A> sine = sign * load_as<A>(sines + i, which);
    store_as<A>(x + i, multiply_add(first, cosine, Vector<A>(-(second * sine))), which);
    store_as<A>(x + half + i, multiply_add(second, cosine, Vector<A>(first * sine)), which);
  });
}

/// Turns the pairs (x[2 i], x[2 i + 1]): every element meets its neighbour in the same vector.
template <class A, class T>
inline void rope_turn_neighbours(T* x, const A* cosines, const A* sines, A sign, index_t half) {
  for_each_vector<A>(2 * half, [&](index_t i, auto which) {
    const Vector<A> here = load_as<A>(x + i, which);
    const Vector<A> sine = sign * load_as<A>(sines + i, which);
    const Vector<A> turned =
        multiply_add(here, load_as<A>(cosines + i, which), Vector<A>(swap_neighbours<A>(here) * sine));
    store_as<A>(x + i, turned, which);
  });
}

/// Any even head size.
template <FloatDtype T>
struct kernel<op::rope, T> {
  using A = accumulator_t<T>;

  static void run(const Cpu& device, MatrixView<T> qkv, const AttentionSpec& spec, double theta, RopeLayout layout,
                  bool inverse, const PackedView& batch) {
    const index_t half = spec.head_dim / 2;
    auto scratch = device.scratch();
    A* const frequencies = scratch.template take<A>(half);  // (half)
    for (index_t i = 0; i < half; ++i) {
      const A exponent = static_cast<A>(2 * i) / static_cast<A>(spec.head_dim);
      frequencies[i] = A{1} / std::pow(static_cast<A>(theta), exponent);
    }
    // Sequences share positions, so a table by position is shorter than one by row, except when single rows stand far
    // in their sequences. Heads share it in any case.
    index_t positions = 0;
    for (index_t row = 0; row < batch.tokens; ++row) {
      positions = std::max<index_t>(positions, index_t{batch.positions[row]} + 1);
    }
    const bool by_position = positions <= batch.tokens;
    const index_t entries = by_position ? positions : batch.tokens;
    const index_t entry_size = 2 * spec.head_dim;
    A* const angles = scratch.template take<A>(entries * entry_size);  // (entries, 2, head_dim)
    parallel_blocks(device, entries, 16, [&](index_t begin, index_t end) {
      for (index_t e = begin; e < end; ++e) {
        rope_angles(angles + e * entry_size, frequencies, half, by_position ? e : index_t{batch.positions[e]}, layout);
      }
    });
    const A sign = inverse ? A{-1} : A{1};
    parallel_blocks(device, batch.tokens, 16, [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        const A* const cosines = angles + (by_position ? index_t{batch.positions[row]} : row) * entry_size;
        const A* const sines = cosines + spec.head_dim;
        // Keys follow queries in a row, and both are turned alike.
        for (index_t head = 0; head < spec.heads + spec.kv_heads; ++head) {
          T* const x = qkv.row(row) + head * spec.head_dim;
          if (layout == RopeLayout::half_split) {
            rope_turn_halves<A>(x, cosines, sines, sign, half);
          } else {
            rope_turn_neighbours<A>(x, cosines, sines, sign, half);
          }
        }
      }
    });
  }
};
