// SPDX-License-Identifier: MIT
/// @file
/// @brief A B^T on the CPU with rows that do not know of each other, for generation and scoring.
///
/// Element (i, j) is the dot product of row i of A and row j of B in vectors along k: one chain of fused multiply-adds
/// per lane, the tail padded with zeros, then the lanes in a fixed tree (lane l with lane l + half, and so on), then
/// the bias. No packing, since both operands are read along their rows: one row costs one pass over B, which is what
/// limits decoding; several rows share a register tile with the same arithmetic, so a story has the same bits alone and
/// in any batch.
/// The packed kernel's order, one chain over k per element, would need B transposed first: for one row that costs as
/// much as the product itself.
///
/// GFLOP/s of dots / packed, one thread on a Zen 4 with AVX-512 (peak 116), B from memory, roughly:
///     (n, k)         m = 1       m = 4       m = 32      m = 300
///     (1536,  512)   9 / 2.2     47 / 8      72 / 44     78 / 88
///     (2048,  512)   8 / 2.1     45 / 8      67 / 40     70 / 82
///     ( 512, 2048)   10 / 1.8    43 / 7      71 / 36     84 / 81
///     (5120,  512)   8 / 1.9     36 / 6      59 / 31     61 / 65
/// m = 1 and 4 read B at 17 to 24 GB/s: the memory's speed.

/// Sizes of the dot-product kernel: the tile's sums, a vector of each row of B and one of A fill the registers.
template <class T>
struct DotTile {
  static constexpr int rows = vector_bytes == 64 ? 6 : 2;                 ///< of A
  static constexpr int cols = vector_lanes<T> < 4 ? vector_lanes<T> : 4;  ///< rows of B, a power of two
  static constexpr index_t block_rows = 96;                               ///< a block's part of A and of B
  static constexpr index_t block_cols = 64;                               ///< stays in the second cache
};

/// C (Rows, Cols) = A (Rows, k) B (Cols, k)^T [+ bias (Cols)]. Ahead: fetches the Cols rows of memory after B's on the
/// way, since the processor's own prefetching begins anew with each row.
template <int Rows, int Cols, bool Ahead, class T>
void dot_tile(index_t k, MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c, const T* bias) {
  constexpr int lanes = vector_lanes<T>;
  Vector<T> sum[Rows][Cols];
  unrolled<Rows>([&](auto i) { unrolled<Cols>([&](auto j) { sum[i][j] = Vector<T>{}; }); });
  index_t p = 0;
  for (; p + lanes <= k; p += lanes) {
    Vector<T> y[Cols];
    unrolled<Cols>([&](auto j) {
      y[j] = load(b.row(j) + p);
      if constexpr (Ahead) __builtin_prefetch(b.row(Cols + j) + p, 0, 2);
    });
    unrolled<Rows>([&](auto i) {
      const Vector<T> x = load(a.row(i) + p);
      unrolled<Cols>([&](auto j) { sum[i][j] = multiply_add(x, y[j], sum[i][j]); });
    });
  }
  if (p < k) {
    Vector<T> y[Cols];
    unrolled<Cols>([&](auto j) { y[j] = load_first(b.row(j) + p, k - p); });
    unrolled<Rows>([&](auto i) {
      const Vector<T> x = load_first(a.row(i) + p, k - p);
      unrolled<Cols>([&](auto j) { sum[i][j] = multiply_add(x, y[j], sum[i][j]); });
    });
  }
  unrolled<Rows>([&](auto i) { store_sums<Cols>(c.row(i), lane_sums<T, Cols>(sum[i]), bias); });
}

/// dot_tile for 1 to Rows rows: a smaller tile has the same arithmetic.
template <int Rows, int Cols, class T>
void dot_tile_of(index_t rows, bool ahead, MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c,
                 const T* bias) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return dot_tile_of<Rows - 1, Cols, T>(rows, ahead, a, b, c, bias);
  }
  if (ahead) {
    dot_tile<Rows, Cols, true, T>(a.cols, a, b, c, bias);
  } else {
    dot_tile<Rows, Cols, false, T>(a.cols, a, b, c, bias);
  }
}

/// C (m, n) = A (m, k) B (n, k)^T [+ bias], see op::matmul_rows.
template <class T>
void matmul_dots(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
  using Tile = DotTile<T>;
  const index_t row_blocks = (c.rows + Tile::block_rows - 1) / Tile::block_rows;
  const index_t col_blocks = (c.cols + Tile::block_cols - 1) / Tile::block_cols;
  parallel_for(device, row_blocks * col_blocks, [&](index_t piece) {
    const index_t row_begin = piece % row_blocks * Tile::block_rows;
    const index_t row_end = std::min(c.rows, row_begin + Tile::block_rows);
    const index_t col_begin = piece / row_blocks * Tile::block_cols;
    const index_t col_end = std::min(c.cols, col_begin + Tile::block_cols);
    for (index_t col = col_begin; col < col_end;) {
      const bool whole = col_end - col >= Tile::cols;
      const index_t cols = whole ? Tile::cols : 1;
      const MatrixView<const T> tile_b = b.slice_rows(col, cols);
      const T* tile_bias = bias != nullptr ? bias + col : nullptr;
      for (index_t row = row_begin; row < row_end; row += Tile::rows) {
        const index_t rows = std::min<index_t>(Tile::rows, row_end - row);
        const MatrixView<const T> tile_a = a.slice_rows(row, rows);
        const MatrixView<T> tile_c = c.slice_rows(row, rows).slice_cols(col, cols);
        // The last tile that reads these rows of B sees to the next.
        const bool ahead = whole && row + rows == row_end && c.cols - col >= 2 * Tile::cols;
        if (whole) {
          dot_tile_of<Tile::rows, Tile::cols, T>(rows, ahead, tile_a, tile_b, tile_c, tile_bias);
        } else {
          dot_tile_of<Tile::rows, 1, T>(rows, false, tile_a, tile_b, tile_c, tile_bias);
        }
      }
      col += cols;
    }
  });
}

/// Dot products of equal dtypes.
template <class T>
requires std::same_as<T, float> || std::same_as<T, double>
struct kernel<op::matmul_rows, T, T, T> {
  static void run(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
    matmul_dots<T>(device, c, a, b, bias);
  }
};
