// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix product on the CPU: packed panels, one register tile, the same arithmetic for every element.
///
/// Element (i, j) of C is the chain s = fma(op(A)[i, p], op(B)[p, j], s) over p in blocks of `k_block`, each chain from
/// zero; the blocks' sums are added in order: ((([C] + s0) + [bias]) + s1) + ... Nothing else enters: edges are
/// computed as full tiles on panels padded with zeros, so bits depend neither on m, n, the place in the tile nor on
/// threads.
///
/// After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008.
/// Panels:
///   B in columns of `tile_cols`, [panel][k][tile_cols], packed once and shared by all threads;
///   A in strips of `tile_rows`, [strip][k][strip_width], packed by each thread for the block of rows it works on.

/// Sizes of the packed product for elements of T. The tile's sums, two vectors of B and one of A fill the registers:
/// 14 x 2 + 3 of 32 with AVX-512, 6 x 2 + 3 of 16 otherwise.
template <class T>
struct MatmulTile {
  static constexpr int lanes = vector_lanes<T>;
  static constexpr int tile_rows = vector_bytes == 64 ? 14 : 6;
  static constexpr int tile_cols = 2 * lanes;
  static constexpr int strip_width = (tile_rows + lanes - 1) / lanes * lanes;  ///< tile_rows in whole vectors
  static constexpr index_t k_block = 256;          ///< a panel of B of this length is 32 KiB at most: the first cache
  static constexpr index_t strips_per_block = 16;  ///< a block of A is 256 KiB at most: the second cache
  static constexpr index_t b_elements = index_t{1}
                                        << 20;  ///< of B packed at a time, so that it stays in the third cache
};

/// Where one operand lies: element (lane, p), lane a row of op(A) or a column of op(B), p along k.
template <class T>
struct MatmulOperand {
  const T* data;
  index_t stride;
  bool lanes_adjacent;  ///< (lane, p) is data[p * stride + lane], else data[lane * stride + p]
  index_t lanes;
};

/// Packs lanes first_lane ... + Width and p in [first, last) as [p][Width]; lanes beyond the operand become zero.
template <int Width, class T>
void matmul_pack(T* to, const MatmulOperand<T>& from, index_t first_lane, index_t first, index_t last) {
  constexpr int lanes = vector_lanes<T>;
  constexpr int groups = Width / lanes;
  const index_t valid = from.lanes - first_lane;
  if (from.lanes_adjacent) {
    const T* row = from.data + first * from.stride + first_lane;
    for (index_t p = first; p < last; ++p, row += from.stride, to += Width) {
      unrolled<groups>([&](auto g) { store(to + g * lanes, load_first(row + g * lanes, valid - g * lanes)); });
    }
    return;
  }
  for (index_t p = first; p < last; p += lanes, to += lanes * Width) {
    const index_t length = std::min<index_t>(lanes, last - p);
    for (int g = 0; g < groups; ++g) {
      Vector<T> square[lanes];  // (lanes of the operand, k), then its transpose
      unrolled<lanes>([&](auto i) {
        const index_t lane = g * lanes + i;
        square[i] = load_first(from.data + (first_lane + lane) * from.stride + p, lane < valid ? length : 0);
      });
      transpose<T>(square);
      if (length == lanes) {
        unrolled<lanes>([&](auto i) { store(to + i * Width + g * lanes, square[i]); });
      } else {
        for (index_t i = 0; i < length; ++i) store(to + i * Width + g * lanes, square[i]);
      }
    }
  }
}

/// C (tile_rows, tile_cols) = or += A strip times B panel, `length` steps along k; bias (tile_cols) is added unless
/// null.
template <class T>
void matmul_tile(index_t length, const T* a, const T* b, T* c, index_t stride, bool add, const T* bias) {
  using Tile = MatmulTile<T>;
  constexpr int lanes = Tile::lanes;
  constexpr int rows = Tile::tile_rows;
  Vector<T> sum[rows][2];
  unrolled<rows>([&](auto i) {
    sum[i][0] = sum[i][1] = Vector<T>{};
    __builtin_prefetch(c + i * stride);
    __builtin_prefetch(c + i * stride + lanes);
  });
  for (; length > 0; --length, a += Tile::strip_width, b += Tile::tile_cols) {
    const Vector<T> b0 = load(b);
    const Vector<T> b1 = load(b + lanes);
    unrolled<rows>([&](auto i) {
      const Vector<T> x = broadcast(a[i]);
      sum[i][0] = multiply_add(x, b0, sum[i][0]);
      sum[i][1] = multiply_add(x, b1, sum[i][1]);
    });
  }
  if (add) {
    unrolled<rows>([&](auto i) {
      sum[i][0] = load(c + i * stride) + sum[i][0];
      sum[i][1] = load(c + i * stride + lanes) + sum[i][1];
    });
  }
  if (bias != nullptr) {
    unrolled<rows>([&](auto i) {
      sum[i][0] = sum[i][0] + load(bias);
      sum[i][1] = sum[i][1] + load(bias + lanes);
    });
  }
  unrolled<rows>([&](auto i) {
    store(c + i * stride, sum[i][0]);
    store(c + i * stride + lanes, sum[i][1]);
  });
}

/// The same for a tile that reaches beyond C: only its first `rows` x `cols` are read and written.
template <class T>
void matmul_edge(index_t length, const T* a, const T* b, T* c, index_t stride, bool add, const T* bias, index_t rows,
                 index_t cols) {
  using Tile = MatmulTile<T>;
  T tile[Tile::tile_rows * Tile::tile_cols] = {};
  T tile_bias[Tile::tile_cols] = {};
  if (add) {
    for (index_t i = 0; i < rows; ++i) std::copy_n(c + i * stride, cols, tile + i * Tile::tile_cols);
  }
  if (bias != nullptr) std::copy_n(bias, cols, tile_bias);
  matmul_tile(length, a, b, tile, Tile::tile_cols, add, bias != nullptr ? tile_bias : nullptr);
  for (index_t i = 0; i < rows; ++i) std::copy_n(tile + i * Tile::tile_cols, cols, c + i * stride);
}

/// C (m, n) = op(A) op(B) [+ C] [+ bias], see op::matmul.
template <class T>
void matmul_packed(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                   const T* bias) {
  using Tile = MatmulTile<T>;
  const index_t m = c.rows;
  const index_t n = c.cols;
  const index_t k = flags.transpose_a ? a.rows : a.cols;
  if (m == 0 || n == 0) return;
  const MatmulOperand<T> rows_of_a{a.data, a.stride, flags.transpose_a, m};
  const MatmulOperand<T> cols_of_b{b.data, b.stride, !flags.transpose_b, n};

  const auto blocks_of = [](index_t size, index_t block) { return (size + block - 1) / block; };
  const index_t strips = blocks_of(m, Tile::tile_rows);
  const index_t panels = blocks_of(n, Tile::tile_cols);
  // Pieces of work: blocks of rows, and of columns where there are few rows. By shape alone.
  const index_t row_blocks = blocks_of(strips, Tile::strips_per_block);
  const index_t col_blocks = std::clamp<index_t>(blocks_of(32, row_blocks), 1, std::max<index_t>(1, panels / 4));
  const index_t block_strips = blocks_of(strips, row_blocks);
  const index_t block_panels = blocks_of(panels, col_blocks);
  const index_t chunk =
      std::min(k, Tile::k_block * std::max<index_t>(1, Tile::b_elements / (Tile::k_block * panels * Tile::tile_cols)));

  auto scratch = device.scratch();
  T* packed_b = scratch.template take<T>(panels * Tile::tile_cols * chunk);  // (panels, chunk, tile_cols)
  const index_t a_size = block_strips * Tile::strip_width * std::min(k, Tile::k_block);
  T* packed_a =
      scratch.template take<T>(a_size * thread_count(device));  // (threads, block_strips, k_block, strip_width)

  index_t chunk_first = 0;
  do {  // once for k = 0 too: C is to be written
    const index_t chunk_last = std::min(k, chunk_first + chunk);
    const index_t panel_size = (chunk_last - chunk_first) * Tile::tile_cols;
    parallel_blocks(device, panels, 4, [&](index_t begin, index_t end) {
      for (index_t panel = begin; panel < end; ++panel) {
        matmul_pack<Tile::tile_cols>(packed_b + panel * panel_size, cols_of_b, panel * Tile::tile_cols, chunk_first,
                                     chunk_last);
      }
    });
    parallel_for(device, row_blocks * col_blocks, [&](index_t piece) {
      const index_t strip_begin = piece % row_blocks * block_strips;
      const index_t strip_end = std::min(strips, strip_begin + block_strips);
      const index_t panel_begin = piece / row_blocks * block_panels;
      const index_t panel_end = std::min(panels, panel_begin + block_panels);
      T* strips_of_a = packed_a + a_size * thread_index();
      index_t first = chunk_first;
      do {
        const index_t last = std::min(chunk_last, first + Tile::k_block);
        const index_t length = last - first;
        for (index_t strip = strip_begin; strip < strip_end; ++strip) {
          matmul_pack<Tile::strip_width>(strips_of_a + (strip - strip_begin) * length * Tile::strip_width, rows_of_a,
                                         strip * Tile::tile_rows, first, last);
        }
        const bool add = flags.accumulate || first > 0;
        for (index_t panel = panel_begin; panel < panel_end; ++panel) {
          const index_t col = panel * Tile::tile_cols;
          const T* panel_of_b = packed_b + panel * panel_size + (first - chunk_first) * Tile::tile_cols;
          const T* panel_bias = bias != nullptr && first == 0 ? bias + col : nullptr;
          for (index_t strip = strip_begin; strip < strip_end; ++strip) {
            const index_t row = strip * Tile::tile_rows;
            const T* strip_of_a = strips_of_a + (strip - strip_begin) * length * Tile::strip_width;
            if (m - row >= Tile::tile_rows && n - col >= Tile::tile_cols) {
              matmul_tile(length, strip_of_a, panel_of_b, c.row(row) + col, c.stride, add, panel_bias);
            } else {
              matmul_edge(length, strip_of_a, panel_of_b, c.row(row) + col, c.stride, add, panel_bias,
                          std::min<index_t>(m - row, Tile::tile_rows), std::min<index_t>(n - col, Tile::tile_cols));
            }
          }
        }
        first = last;
      } while (first < chunk_last);
    });
    chunk_first = chunk_last;
  } while (chunk_first < k);
}

/// Packed product of equal dtypes.
template <class T>
requires std::same_as<T, float> || std::same_as<T, double>
struct kernel<op::matmul, T, T, T> {
  static void run(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                  const T* bias) {
    matmul_packed<T>(device, c, a, b, flags, bias);
  }
};
