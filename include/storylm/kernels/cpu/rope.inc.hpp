// SPDX-License-Identifier: MIT
/// @file
/// @brief Rotary positions on the CPU: Su et al., arXiv:2104.09864.
///
/// Frequencies and angles are computed in T, as PyTorch programs do: in float a far position's angle is a rounded one,
/// and only the same rounding gives the same logits.

/// out (2, half) = cos and sin of position * frequencies[i].
template <class T>
inline void rope_angles(T* out, const T* frequencies, index_t half, index_t position) {
  for (index_t i = 0; i < half; ++i) {
    const T angle = static_cast<T>(position) * frequencies[i];
    out[i] = std::cos(angle);
    out[half + i] = std::sin(angle);
  }
}

/// Turns the pairs (x[i * step], x[i * step + distance]) by the angles; sign = -1 turns them back.
template <index_t Step, class T>
inline void rope_rotate(T* x, index_t distance, const T* cosine, const T* sine, T sign, index_t half) {
  for (index_t i = 0; i < half; ++i) {
    const T first = x[i * Step];
    const T second = x[i * Step + distance];
    const T s = sign * sine[i];
    x[i * Step] = multiply_add(first, cosine[i], -(second * s));
    x[i * Step + distance] = multiply_add(second, cosine[i], first * s);
  }
}

/// Any even head size; float and double.
template <class T>
requires std::same_as<T, float> || std::same_as<T, double>
struct kernel<op::rope, T> {
  static void run(const Cpu& device, MatrixView<T> qkv, const AttentionSpec& spec, double theta, RopeLayout layout,
                  bool inverse, const PackedView& batch) {
    const index_t half = spec.head_dim / 2;
    auto scratch = device.scratch();
    T* frequencies = scratch.take<T>(half);  // (half)
    for (index_t i = 0; i < half; ++i) {
      const T exponent = static_cast<T>(2 * i) / static_cast<T>(spec.head_dim);
      frequencies[i] = T{1} / std::pow(static_cast<T>(theta), exponent);
    }
    // Sequences share positions, so a table by position is shorter than one by row, except when single rows stand far
    // in their sequences. Heads share it in any case.
    index_t positions = 0;
    for (index_t row = 0; row < batch.tokens; ++row) {
      positions = std::max<index_t>(positions, index_t{batch.positions[row]} + 1);
    }
    const bool by_position = positions <= batch.tokens;
    const index_t entries = by_position ? positions : batch.tokens;
    T* angles = scratch.take<T>(entries * 2 * half);  // (entries, 2, half)
    parallel_blocks(device, entries, 16, [&](index_t begin, index_t end) {
      for (index_t e = begin; e < end; ++e) {
        rope_angles(angles + e * 2 * half, frequencies, half, by_position ? e : index_t{batch.positions[e]});
      }
    });
    const T sign = inverse ? T{-1} : T{1};
    parallel_blocks(device, batch.tokens, 16, [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        const T* cosine = angles + (by_position ? index_t{batch.positions[row]} : row) * 2 * half;
        // Keys follow queries in a row, and both are turned alike.
        for (index_t head = 0; head < spec.heads + spec.kv_heads; ++head) {
          T* x = qkv.row(row) + head * spec.head_dim;
          if (layout == RopeLayout::half_split) {
            rope_rotate<1>(x, half, cosine, cosine + half, sign, half);
          } else {
            rope_rotate<2>(x, 1, cosine, cosine + half, sign, half);
          }
        }
      }
    });
  }
};
