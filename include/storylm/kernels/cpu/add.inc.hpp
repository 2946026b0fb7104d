// SPDX-License-Identifier: MIT
/// @file
/// @brief op::add on the CPU.

template <Real T>
struct kernel<op::add, T> {
  /// y += x, both (rows, cols).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x) {
    parallel_blocks(device, y.rows, row_grain(y.cols), [=](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        T* const to = y.row(r);
        const T* const from = x.row(r);
        lane_map(y.cols, to, [=](index_t c) { return to[c] + from[c]; });
      }
    });
  }
};
