// SPDX-License-Identifier: MIT
/// @file
/// @brief Column sums on the CPU: sums of blocks of 64 rows, each in row order, added in the order of the blocks.

/// Any storage type; sums are carried in the accumulator of T.
template <FloatDtype T>
struct kernel<op::column_sum, T, accumulator_t<T>> {
  using Sum = accumulator_t<T>;

  static void run(const Cpu& device, Sum* dsum, MatrixView<const T> x) {
    constexpr index_t block_rows = 64;
    constexpr index_t block_cols = 512;  // the partial sums of a piece stay in the first cache
    if (x.rows == 0 || x.cols == 0) return;
    const index_t row_blocks = (x.rows + block_rows - 1) / block_rows;
    const index_t col_blocks = (x.cols + block_cols - 1) / block_cols;
    auto scratch = device.scratch();
    Sum* partial = scratch.template take<Sum>(row_blocks * x.cols);  // (row_blocks, cols)

    parallel_for(device, row_blocks * col_blocks, [&](index_t piece) {
      const index_t row_block = piece / col_blocks;
      const index_t first = piece % col_blocks * block_cols;
      const index_t width = std::min(block_cols, x.cols - first);
      Sum* const sum = partial + row_block * x.cols + first;
      const index_t last_row = std::min(x.rows, (row_block + 1) * block_rows);
      index_t row = row_block * block_rows;
      std::fill_n(sum, width, Sum{0});
      for (; row + 4 <= last_row; row += 4) add_rows<4>(sum, x.slice_rows(row, 4).slice_cols(first, width));
      for (; row < last_row; ++row) add_rows<1>(sum, x.slice_rows(row, 1).slice_cols(first, width));
    });
    parallel_blocks(device, x.cols, block_cols, [&](index_t begin, index_t end) {
      for (index_t block = 1; block < row_blocks; ++block) {
        add_rows<1>(partial + begin, MatrixView<const Sum>(partial + block * x.cols + begin, 1, end - begin));
      }
      add_rows<1>(dsum + begin, MatrixView<const Sum>(partial + begin, 1, end - begin));
    });
  }

 private:
  /// sum (cols) += each of the Rows rows of x (Rows, cols), one after the other.
  template <int Rows, class S>
  static void add_rows(Sum* sum, MatrixView<const S> x) {
    for_each_vector<Sum>(x.cols, [&](index_t i, auto which) {
      Vector<Sum> total = load_as<Sum>(sum + i, which);
      unrolled<Rows>([&](auto r) { total = total + load_as<Sum>(x.row(r) + i, which); });
      store_as<Sum>(sum + i, total, which);
    });
  }
};
