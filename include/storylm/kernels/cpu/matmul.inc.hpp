// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix product on the CPU: packed panels, one register tile, the same arithmetic for every element.
///
/// k is cut into passes of equal length, by k alone. In a pass, element (i, j) of op(A) op(B) is one chain of
/// multiply-adds from zero, element by element (pair by pair for bf16 where the machine multiplies pairs); the passes'
/// chains are added in order, in the accumulator's type. What then happens to the sum, `finish` says, once per element.
/// Nothing else enters: edges are computed as full tiles on panels padded with zeros, so bits depend neither on m, n,
/// the place in the tile nor on threads.
///
/// After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008.
/// Panels:
///   B in columns of Tile::cols, [panel][unit][cols], packed once a pass and shared by all threads;
///   A in strips of Tile::rows, [strip][unit][strip_width], packed by each thread for the block of rows it works on.

/// Length of a pass along k, by k alone: a whole number of vectors of units.
template <class T>
[[nodiscard]] constexpr index_t matmul_pass_length(index_t k) {
  using Tile = MatmulTile<MatmulUnit<T>>;
  constexpr index_t most = Tile::pass_units * matmul_depth<T>;
  constexpr index_t multiple = Tile::lanes * matmul_depth<T>;
  const index_t passes = std::max<index_t>(1, (k + most - 1) / most);
  return std::max<index_t>(1, ((k + passes - 1) / passes + multiple - 1) / multiple) * multiple;
}

/// A piece of a packed product: some strips of A times some panels of B.
struct MatmulPiece {
  index_t strip_begin, strip_end, panel_begin, panel_end;
};

/// How a packed product is cut into pieces of work, which threads take in their order. It may depend on the number of
/// threads, for no bit depends on it.
template <class U>
struct MatmulPieces {
  using Tile = MatmulTile<U>;
  index_t threads;
  index_t strips, panels;  ///< of A and of B
  index_t block_strips;    ///< strips of a piece, at most
  index_t count = 0;       ///< of pieces

  MatmulPieces(index_t m, index_t n, index_t units, index_t thread_count)
      : threads(thread_count),
        strips((m + Tile::rows - 1) / Tile::rows),
        panels((n + Tile::cols - 1) / Tile::cols),
        block_strips(std::min(
            strips, std::max<index_t>(1, Tile::block_units / (Tile::strip_width * std::max<index_t>(1, units))))) {
    each([&](const MatmulPiece&) { ++count; });
  }
  /// Calls f(piece) for each. Blocks of rows become smaller towards the end, so that no thread waits long for the last
  /// one, and rows of which there are fewer strips than threads are cut into columns, too: for each part of those they
  /// are packed again.
  template <class F>
  void each(const F& f) const {
    index_t begin = 0;
    while (begin < strips && strips - begin >= threads) {
      const index_t left = strips - begin;
      const index_t size = threads > 1 ? left / (2 * threads) : left;
      const index_t end = begin + std::clamp<index_t>(size, 1, block_strips);
      f(MatmulPiece{begin, end, 0, panels});
      begin = end;
    }
    if (begin == strips) return;
    const index_t blocks = (strips - begin + block_strips - 1) / block_strips;
    const index_t groups = (panels + Tile::group - 1) / Tile::group;
    const index_t parts = std::min(groups, (2 * threads + blocks - 1) / blocks);
    for (; begin < strips; begin += block_strips) {
      for (index_t part = 0; part < parts; ++part) {
        f(MatmulPiece{begin, std::min(strips, begin + block_strips), groups * part / parts * Tile::group,
                      std::min(panels, groups * (part + 1) / parts * Tile::group)});
      }
    }
  }
};

/// Sums of rows [row, row + rows) and columns [col, col + cols) of a product, in a buffer in the first cache. Vectors
/// may be read beyond `cols`, up to the stride.
template <class A>
struct MatmulBlock {
  index_t row, col, rows, cols;
  A* sums;
  index_t stride;

  /// The part of a matrix that this is a block of.
  template <class T>
  [[nodiscard]] MatrixView<T> part_of(MatrixView<T> whole) const {
    return whole.slice_rows(row, rows).slice_cols(col, cols);
  }
  /// sums = from + sums. Apart from whatever writes there: rows are often a multiple of 4 KiB apart, and a processor
  /// takes a read for one of what it is about to write where the last 12 bits of the addresses are equal.
  template <class T>
  void add(MatrixView<T> from) const {
    for (index_t r = 0; r < rows; ++r) {
      for_each_vector<A>(cols, [&](index_t j, auto which) {
        A* const place = sums + r * stride + j;
        store(place, Vector<A>(load_as<A>(from.row(r) + j, which) + load(place)));
      });
    }
  }
  /// to = sums.
  void copy(MatrixView<A> to) const {
    for (index_t r = 0; r < rows; ++r) {
      for_each_vector<A>(
          cols, [&](index_t j, auto which) { store_as<A>(to.row(r) + j, load(sums + r * stride + j), which); });
    }
  }
};

/// What becomes of a block of whole sums, and where: a reference to a function of MatmulBlock. Not a template parameter
/// of the product, which is compiled once for all.
template <class A>
class MatmulFinish {
 public:
  /// @param f called with MatmulBlock<A>, once for each block of sums
  /// @param to what it writes to, which is fetched in time
  template <class F, class T>
  MatmulFinish(const F& f, MatrixView<T> to)
      : function_(&f),
        call_([](const void* function, const MatmulBlock<A>& block) { (*static_cast<const F*>(function))(block); }),
        to_(reinterpret_cast<const char*>(to.data)),
        stride_(to.stride * static_cast<index_t>(sizeof(T))),
        size_(sizeof(T)) {}
  void operator()(const MatmulBlock<A>& block) const { call_(function_, block); }
  /// Begins to read the block's place into the nearest cache.
  void fetch(const MatmulBlock<A>& block) const {
    constexpr index_t line = 64;
    for (index_t r = 0; r < block.rows; ++r) {
      const char* const row = to_ + (block.row + r) * stride_ + block.col * size_;
      for (index_t byte = 0; byte < block.cols * size_; byte += line) __builtin_prefetch(row + byte, 1);
    }
  }

 private:
  const void* function_;
  void (*call_)(const void*, const MatmulBlock<A>&);
  const char* to_;
  index_t stride_;  // in bytes
  index_t size_;
};

/// The product of a (m lanes) and b (n lanes) over k elements. finish(block) is called once for each block of whole
/// sums. Between passes sums are in `sums` (m, n), or in scratch memory if that is none; with `add`, `sums` is what
/// they begin from. lane_sums (m), unless null: the sums of a along k, if its lanes are adjacent.
template <class T>
void matmul_packed(const Cpu& device, const MatmulOperand<T>& a, const MatmulOperand<T>& b, index_t k,
                   MatrixView<accumulator_t<T>> sums, bool add, accumulator_t<T>* lane_sums,
                   MatmulFinish<accumulator_t<T>> finish) {
  using U = MatmulUnit<T>;
  using A = accumulator_t<T>;
  using Tile = MatmulTile<U>;
  const index_t m = a.lanes;
  const index_t n = b.lanes;
  if (m == 0 || n == 0) return;
  const index_t pass_length = matmul_pass_length<T>(k);
  const index_t pass_units = (std::min(k, pass_length) + matmul_depth<T> - 1) / matmul_depth<T>;
  const MatmulPieces<U> pieces(m, n, pass_units, thread_count(device));

  auto scratch = device.scratch();
  U* const packed_b = scratch.template take<U>(pieces.panels * Tile::cols * pass_units);  // (panels, units, cols)
  MatmulPiece* const list = scratch.template take<MatmulPiece>(pieces.count);
  index_t listed = 0;
  pieces.each([&](const MatmulPiece& piece) { list[listed++] = piece; });
  const index_t a_size = pieces.block_strips * Tile::strip_width * pass_units;
  U* const packed_a = scratch.template take<U>(a_size * thread_count(device));  // (threads, strips, units, strip_width)
  A* const strip_sums = lane_sums != nullptr ? scratch.template take<A>(pieces.strips * Tile::strip_width) : nullptr;
  if (k > pass_length && sums.data == nullptr) sums = {scratch.template take<A>(m * n), m, n};

  for (index_t first = 0; first == 0 || first < k; first += pass_length) {  // once for k = 0 too: C is to be written
    const index_t last = std::min(k, first + pass_length);
    const index_t units = (last - first + matmul_depth<T> - 1) / matmul_depth<T>;
    // Few panels at a time, so that all threads have some.
    const index_t grain = std::clamp<index_t>(pieces.panels / (4 * thread_count(device)), 1, 4);
    parallel_blocks(device, pieces.panels, grain, [&](index_t begin, index_t end) {
      matmul_pack<Tile::cols, Tile::cols>(packed_b + begin * units * Tile::cols, b, begin, end, first, last);
    });
    parallel_for(device, pieces.count, [&](index_t index) {
      const auto [strip_begin, strip_end, panel_begin, panel_end] = list[index];
      U* const strips = packed_a + a_size * thread_index();
      const bool sum_lanes = lane_sums != nullptr && panel_begin == 0;
      A* const along = sum_lanes ? strip_sums + strip_begin * Tile::strip_width : nullptr;  // (strips, strip_width)
      matmul_pack<Tile::rows, Tile::strip_width>(strips, a, strip_begin, strip_end, first, last, along);
      for (index_t i = 0; sum_lanes && i < std::min(m, strip_end * Tile::rows) - strip_begin * Tile::rows; ++i) {
        A& sum = lane_sums[strip_begin * Tile::rows + i];
        const A added = along[i / Tile::rows * Tile::strip_width + i % Tile::rows];
        sum = first == 0 ? added : sum + added;
      }
      constexpr int width = Tile::group * Tile::cols;
      alignas(vector_bytes) A tile[Tile::rows * width];
      for (index_t panel = panel_begin; panel < panel_end; panel += Tile::group) {
        const index_t col = panel * Tile::cols;
        const index_t cols = std::min<index_t>(width, n - col);
        for (index_t strip = strip_begin; strip < strip_end; ++strip) {
          const U* const strip_of_a = strips + (strip - strip_begin) * units * Tile::strip_width;
          const index_t row = strip * Tile::rows;
          const MatmulBlock<A> block{row, col, std::min<index_t>(Tile::rows, m - row), cols, tile, width};
          if (last == k) finish.fetch(block);
          for (index_t i = 0; i < Tile::group && panel + i < panel_end; ++i) {
            matmul_tile(units, strip_of_a, packed_b + (panel + i) * units * Tile::cols, tile + i * Tile::cols, width);
          }
          if (first > 0 || add) block.add(block.part_of(sums));
          if (last < k) {
            block.copy(block.part_of(sums));
          } else {
            finish(block);
          }
        }
      }
    });
  }
}

/// C (m, n) of TC = op(A) op(B) [+ C] [+ bias], see op::matmul. lane_sums as above.
template <class T, class TC>
void matmul_into(const Cpu& device, MatrixView<TC> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                 const TC* bias, accumulator_t<T>* lane_sums = nullptr) {
  using A = accumulator_t<T>;
  constexpr bool sums_in_c = std::is_same_v<TC, A>;
  MatrixView<A> sums{};
  if constexpr (sums_in_c) sums = c;
  const auto finish = [&](const MatmulBlock<A>& block) {
    const MatrixView<TC> to = block.part_of(c);
    if (flags.accumulate && !sums_in_c) block.add(to);
    for (index_t r = 0; r < block.rows; ++r) {
      for_each_vector<A>(block.cols, [&](index_t j, auto which) {
        Vector<A> sum = load(block.sums + r * block.stride + j);
        if (bias != nullptr) sum = sum + load_as<A>(bias + block.col + j, which);
        store_as<A>(to.row(r) + j, sum, which);
      });
    }
  };
  matmul_packed<T>(device, {a.data, a.stride, flags.transpose_a, c.rows},
                   {b.data, b.stride, !flags.transpose_b, c.cols}, flags.transpose_a ? a.rows : a.cols, sums,
                   flags.accumulate && sums_in_c, lane_sums, MatmulFinish<A>(finish, c));
}

/// Packed products of equal dtypes, into the same dtype or into its accumulator.
template <FloatDtype T, class TC>
requires std::same_as<TC, T> || std::same_as<TC, accumulator_t<T>>
struct kernel<op::matmul, T, T, TC> {
  static void run(const Cpu& device, MatrixView<TC> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                  const TC* bias) {
    matmul_into<T, TC>(device, c, a, b, flags, bias);
  }
};
