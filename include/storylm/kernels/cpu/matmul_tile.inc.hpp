// SPDX-License-Identifier: MIT
/// @file
/// @brief What a packed product multiplies, one step along k at a time, and the tile of sums that stays in registers.

/// What packing makes of a T: one step along k of one row or column. bf16 stays bf16, two at a time, where the machine
/// multiplies pairs; else all 16-bit types are widened.
template <class T>
using MatmulUnit = std::conditional_t<std::is_same_v<T, bf16> && has_bf16_dot, Bf16Pair, accumulator_t<T>>;

/// Elements of T along k in a unit.
template <class T>
inline constexpr index_t matmul_depth = std::is_same_v<MatmulUnit<T>, Bf16Pair> ? 2 : 1;

/// Sizes of the packed product for units of U. The tile's sums, two vectors of B and one of A fill the registers:
/// 14 x 2 + 3 of 32 with AVX-512, 12 x 2 + 3 with NEON, 6 x 2 + 3 of 16 with AVX2; without fused multiply-add products
/// need registers too.
template <class U>
struct MatmulTile {
  static constexpr int lanes = vector_lanes<U>;
  static constexpr int rows = has_many_registers ? (vector_bytes == 64 ? 14 : 12) : has_fma ? 6 : 4;
  static constexpr int cols = 2 * lanes;
  static constexpr int strip_width = (rows + lanes - 1) / lanes * lanes;  ///< rows in whole vectors
  static constexpr int group = 2;  ///< tiles side by side that are finished together: 64 columns with AVX-512
  static constexpr index_t pass_units = 8192 / (2 * sizeof(U));  ///< along k before sums leave the registers, at most
  static constexpr index_t block_units = 65536;  ///< of A packed at a time: a quarter of the second cache
};

/// sum + x * y.
template <class U, class A>
[[gnu::always_inline]] inline Vector<A> add_products(Vector<U> x, Vector<U> y, Vector<A> sum) {
  if constexpr (std::is_same_v<U, Bf16Pair>) {
    return add_dots<A>(x, y, sum);
  } else {
    return multiply_add(x, y, sum);
  }
}

/// tile (rows, cols) = a strip of A, (units, strip_width), times a panel of B, (units, cols).
template <class U, class A>
[[gnu::noinline]] void matmul_tile(index_t units, const U* a, const U* b, A* tile, index_t stride) {
  using Tile = MatmulTile<U>;
  constexpr int lanes = Tile::lanes;
  Vector<A> sum[Tile::rows][2];
  unrolled<Tile::rows>([&](auto i) { sum[i][0] = sum[i][1] = Vector<A>{}; });
  for (; units > 0; --units, a += Tile::strip_width, b += Tile::cols) {
    const Vector<U> b0 = load(b);
    const Vector<U> b1 = load(b + lanes);
    unrolled<Tile::rows>([&](auto i) {
      const Vector<U> x = broadcast(a[i]);
      sum[i][0] = add_products<U, A>(x, b0, sum[i][0]);
      sum[i][1] = add_products<U, A>(x, b1, sum[i][1]);
    });
  }
  unrolled<Tile::rows>([&](auto i) {
    store(tile + i * stride, sum[i][0]);
    store(tile + i * stride + lanes, sum[i][1]);
  });
}
