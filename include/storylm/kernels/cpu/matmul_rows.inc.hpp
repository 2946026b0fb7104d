// SPDX-License-Identifier: MIT
/// @file
/// @brief A B^T on the CPU with rows that do not know of each other, for generation and scoring.
///
/// Element (i, j) is the dot product of row i of A and row j of B in vectors along k: one chain of multiply-adds per
/// lane, the tail padded with zeros, then the lanes in a fixed tree (lane l with lane l + half, and so on), then the
/// bias, then one rounding to C's dtype. No packing, since both operands are read along their rows: one row costs one
/// pass over B, which is what limits decoding; several rows share a register tile with the same arithmetic, so a story
/// has the same bits alone, in any batch and as a prompt.
///
/// Should the weights be kept a second time, packed as op::matmul packs them? One thread of a Zen 4 (peak 116 GFLOP/s
/// in fp32 and 230 in bf16, reading 30 to 33 GB/s), B in memory and in no cache, other programs running:
///                              m = 1           m = 4           m = 32           m = 256
///     (n, k)                fp32   bf16     fp32   bf16     fp32    bf16     fp32    bf16
///     (2048, 512)           27     25 GB/s  26     19 GB/s  102     184      103     186 GFLOP/s
///     (512, 2048)           31     29 GB/s  24     22 GB/s  107     198      106     209 GFLOP/s
///     packed once, k = 512                                  104     203      (m = 28; neither packing of A
///     packed once, k = 2048                                 112     219      nor finishing counted)
/// For one row nothing is to be gained, for 32 some 4 % in fp32 and 10 % in bf16 at best: not worth twice the memory,
/// and a copy that training would have to keep up to date. The rest is the sums of lanes, which weigh most where k is
/// small.

/// How dot products read rows of T: registers of `elements` of them, `parts` to a step.
template <class T>
struct DotStep {
  using Sum = accumulator_t<T>;
  using Register = Vector<Sum>;
  static constexpr index_t elements = vector_lanes<Sum>;
  static constexpr int parts = 1;

  /// The elements from p on.
  template <int Part>
  [[gnu::always_inline]] static Register part(const T* p) {
    return load_as<Sum>(p);
  }
  /// sum + x * y in every lane.
  [[gnu::always_inline]] static Vector<Sum> add(Register x, Register y, Vector<Sum> sum) {
    return multiply_add(x, y, sum);
  }
};

/// A lane has two bf16, whose products one instruction adds.
template <class T>
requires(std::same_as<T, bf16>&& has_bf16_dot) struct DotStep<T> {
  using Register = Vector<Bf16Pair>;
  static constexpr index_t elements = 2 * vector_lanes<float>;
  static constexpr int parts = 1;

  template <int Part>
  [[gnu::always_inline]] static Register part(const T* p) {
    return pairs_from(p);
  }
  [[gnu::always_inline]] static Vector<float> add(Register x, Register y, Vector<float> sum) {
    return add_dots<float>(x, y, sum);
  }
};

/// Without that instruction: first products of the even elements, then of the odd ones.
template <class T>
requires(std::same_as<T, bf16> && !has_bf16_dot) struct DotStep<T> {
  using Register = Vector<float>;
  static constexpr index_t elements = 2 * vector_lanes<float>;
  static constexpr int parts = 2;

  template <int Part>
  [[gnu::always_inline]] static Register part(const T* p) {
    return halves_of(pairs_from(p))[Part];
  }
  [[gnu::always_inline]] static Vector<float> add(Register x, Register y, Vector<float> sum) {
    return multiply_add(x, y, sum);
  }
};

/// Sizes of the dot-product kernel: the tile's sums, a vector of each row of B and one of A fill the registers.
template <class T>
struct DotTile {
  using Sum = accumulator_t<T>;
  static constexpr int rows = vector_bytes == 64 ? 6 : 2;                     ///< of A
  static constexpr int cols = vector_lanes<Sum> < 4 ? vector_lanes<Sum> : 4;  ///< rows of B, a power of two
  static constexpr int streamed_rows = 2;    ///< of A, at most, where memory is what limits
  static constexpr index_t block_rows = 96;  ///< a block's part of A and of B
  static constexpr index_t block_cols = 64;  ///< stays in the second cache
  static constexpr index_t least_cols = 16;  ///< of a block, where more would leave threads idle
};

/// sums[i][j] += the products of one step.
template <int Rows, int Cols, class T>
[[gnu::always_inline]] inline void dot_step(MatrixView<const T> a, MatrixView<const T> b, index_t p,
                                            Vector<accumulator_t<T>> (&sums)[Rows][Cols]) {
  using Step = DotStep<T>;
  unrolled<Step::parts>([&](auto part) __attribute__((always_inline)) {
    typename Step::Register y[Cols];
    unrolled<Cols>([&](auto j) { y[j] = Step::template part<part>(b.row(j) + p); });
    unrolled<Rows>([&](auto i) __attribute__((always_inline)) {
      typename Step::Register x = Step::template part<part>(a.row(i) + p);
      keep_in_register(x);
      unrolled<Cols>([&](auto j) { sums[i][j] = Step::add(x, y[j], sums[i][j]); });
    });
  });
}

/// tail (Rows, elements of a step) = the columns of `rows` from p on, zeros behind them.
template <int Rows, class T>
[[gnu::noinline]] void copy_tail(T* tail, MatrixView<const T> rows, index_t p) {
  constexpr index_t elements = DotStep<T>::elements;
  for (int i = 0; i < Rows; ++i) {
    T* const end = std::copy(rows.row(i) + p, rows.row(i) + rows.cols, tail + i * elements);
    std::fill(end, tail + (i + 1) * elements, T{});
  }
}

/// c (Rows, Cols) = A (Rows, k) B (Cols, k)^T; on the way Ahead rows from `next` on, as far apart as B's, are fetched.
template <int Rows, int Cols, int Ahead, class T>
void dot_tile(MatrixView<const T> a, MatrixView<const T> b, const T* next, MatrixView<accumulator_t<T>> c) {
  using A = accumulator_t<T>;
  constexpr index_t elements = DotStep<T>::elements;
  alignas(vector_bytes) T tail_a[Rows * elements];
  alignas(vector_bytes) T tail_b[Cols * elements];
  const index_t end = a.cols / elements * elements;
  if (end < a.cols) {  // before the sums are in registers
    copy_tail<Rows>(tail_a, a, end);
    copy_tail<Cols>(tail_b, b, end);
  }
  Vector<A> sums[Rows][Cols];
  unrolled<Rows>([&](auto i) { unrolled<Cols>([&](auto j) { sums[i][j] = Vector<A>{}; }); });
  for (index_t p = 0; p < end; p += elements) {
    for (int j = 0; j < Ahead; ++j) fetch(next + j * b.stride + p);
    dot_step<Rows, Cols, T>(a, b, p, sums);
  }
  if (end < a.cols) dot_step<Rows, Cols, T>({tail_a, Rows, elements}, {tail_b, Cols, elements}, 0, sums);
  unrolled<Rows>([&](auto i) { store_sums<Cols, A>(c.row(i), lane_sums<A, Cols>(sums[i])); });
}

/// dot_tile for Least to Rows rows: a smaller tile has the same arithmetic.
template <int Least, int Rows, int Cols, int Ahead, class T>
void dot_tile_of(MatrixView<const T> a, MatrixView<const T> b, const T* next, MatrixView<accumulator_t<T>> c) {
  if constexpr (Rows > Least) {
    if (a.rows < Rows) return dot_tile_of<Least, Rows - 1, Cols, Ahead, T>(a, b, next, c);
  }
  dot_tile<Rows, Cols, Ahead, T>(a, b, next, c);
}

/// One block of sums for few rows, limited by the reading of B: each of Tile::cols readers goes through rows of B that
/// follow each other, so that the processor sees as many long streams and fetches ahead by itself.
template <class T>
void dots_streamed(MatrixView<const T> a, MatrixView<const T> b, MatrixView<accumulator_t<T>> sums) {
  using Tile = DotTile<T>;
  constexpr int most = Tile::streamed_rows;
  const index_t length = b.rows / Tile::cols;  // of a stream, in rows
  for (index_t j = 0; j < length; ++j) {
    alignas(vector_bytes) accumulator_t<T> tile[most * Tile::cols];  // (rows, cols)
    dot_tile_of<1, most, Tile::cols, 0, T>(a, {b.row(j), Tile::cols, b.cols, b.stride * length}, nullptr,
                                           {tile, a.rows, Tile::cols});
    for (index_t i = 0; i < a.rows; ++i) {
      for (index_t stream = 0; stream < Tile::cols; ++stream) {
        sums(i, stream * length + j) = tile[i * Tile::cols + stream];
      }
    }
  }
  for (index_t j = length * Tile::cols; j < b.rows; ++j) {
    dot_tile_of<1, most, 1, 0, T>(a, b.slice_rows(j, 1), nullptr, sums.slice_cols(j, 1));
  }
}

/// One block of sums for more rows, limited by the products. A's rows are shared out evenly among tiles; while these
/// take turns at some rows of B, each fetches a share of the next rows, for the processor's own prefetching begins anew
/// with every row. `behind`: rows of memory behind b's that belong to B too.
template <class T>
void dots_tiled(MatrixView<const T> a, MatrixView<const T> b, MatrixView<accumulator_t<T>> sums, index_t behind) {
  using Tile = DotTile<T>;
  constexpr int least = Tile::rows / 2;  // tiles that share have no fewer
  const index_t tiles = (a.rows + Tile::rows - 1) / Tile::rows;
  const index_t share = tiles == 1 ? Tile::cols : tiles < Tile::cols ? (Tile::cols + 1) / 2 : 1;
  for (index_t col = 0; col < b.rows;) {
    const index_t cols = b.rows - col >= Tile::cols ? Tile::cols : 1;
    const bool more = b.rows + behind - col >= 2 * Tile::cols;
    const MatrixView<const T> tile_b = b.slice_rows(col, cols);
    for (index_t tile = 0; tile < tiles; ++tile) {
      const index_t row = a.rows * tile / tiles;
      const index_t rows = a.rows * (tile + 1) / tiles - row;
      const auto run = [&](auto width, auto ahead) {
        dot_tile_of<least, Tile::rows, width, ahead, T>(a.slice_rows(row, rows), tile_b,
                                                        tile_b.row(Tile::cols + tile * ahead),
                                                        sums.slice_rows(row, rows).slice_cols(col, cols));
      };
      constexpr std::integral_constant<int, Tile::cols> whole;
      if (cols == 1) {
        run(std::integral_constant<int, 1>{}, std::integral_constant<int, 0>{});
      } else if (!more || tile * share >= Tile::cols) {
        run(whole, std::integral_constant<int, 0>{});
      } else if (share == 1) {
        run(whole, std::integral_constant<int, 1>{});
      } else if (share < Tile::cols) {
        run(whole, std::integral_constant<int, (Tile::cols + 1) / 2>{});
      } else {
        run(whole, whole);
      }
    }
    col += cols;
  }
}

/// The sums of A (m, k) B (n, k)^T. finish(row, col, rows, cols, tile, stride) is called once for each block of them.
template <class T, class Finish>
void matmul_dots(const Cpu& device, MatrixView<const T> a, MatrixView<const T> b, const Finish& finish) {
  using Tile = DotTile<T>;
  using A = accumulator_t<T>;
  const index_t row_blocks = (a.rows + Tile::block_rows - 1) / Tile::block_rows;
  // Smaller blocks where there are few, so that no thread waits long for the last one. No bit depends on it.
  index_t width = Tile::block_cols;
  const auto col_blocks = [&] { return (b.rows + width - 1) / width; };
  while (width > Tile::least_cols && row_blocks * col_blocks() < 8 * thread_count(device)) width /= 2;
  parallel_for(device, row_blocks * col_blocks(), [&](index_t piece) {
    const index_t row = piece % row_blocks * Tile::block_rows;
    const index_t col = piece / row_blocks * width;
    const index_t rows = std::min(Tile::block_rows, a.rows - row);
    const index_t cols = std::min(width, b.rows - col);
    alignas(vector_bytes) A sums[Tile::block_rows * Tile::block_cols];  // (rows, block_cols)
    const MatrixView<A> block(sums, rows, cols, Tile::block_cols);
    if (rows <= Tile::streamed_rows) {
      dots_streamed<T>(a.slice_rows(row, rows), b.slice_rows(col, cols), block);
    } else {
      dots_tiled<T>(a.slice_rows(row, rows), b.slice_rows(col, cols), block, b.rows - col - cols);
    }
    finish(row, col, rows, cols, sums, Tile::block_cols);
  });
}

/// Dot products of equal dtypes.
template <FloatDtype T>
struct kernel<op::matmul_rows, T, T, T> {
  static void run(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
    using A = accumulator_t<T>;
    matmul_dots<T>(device, a, b,
                   [&](index_t row, index_t col, index_t rows, index_t cols, const A* tile, index_t stride) {
                     for (index_t i = 0; i < rows; ++i) {
                       T* const out = c.row(row + i) + col;
                       for_each_vector<A>(cols, [&](index_t j, auto which) {
                         Vector<A> sum = load(tile + i * stride + j);
                         if (bias != nullptr) sum = sum + load_as<A>(bias + col + j, which);
                         store_as<A>(out + j, sum, which);
                       });
                     }
                   });
  }
};
