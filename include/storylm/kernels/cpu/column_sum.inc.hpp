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
      Sum* sum = partial + row_block * x.cols + first;
      std::fill_n(sum, width, Sum{0});
      const index_t last_row = std::min(x.rows, (row_block + 1) * block_rows);
      for (index_t r = row_block * block_rows; r < last_row; ++r) {
        const T* row = x.row(r) + first;
        for (index_t c = 0; c < width; ++c) sum[c] += static_cast<Sum>(row[c]);
      }
    });
    parallel_blocks(device, x.cols, block_cols, [&](index_t begin, index_t end) {
      for (index_t block = 1; block < row_blocks; ++block) {
        for (index_t c = begin; c < end; ++c) partial[c] += partial[block * x.cols + c];
      }
      for (index_t c = begin; c < end; ++c) dsum[c] += partial[c];
    });
  }
};
