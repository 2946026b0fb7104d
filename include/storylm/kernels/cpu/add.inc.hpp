// SPDX-License-Identifier: MIT
/// @file
/// @brief op::add on the CPU.

template <FloatDtype T>
struct kernel<op::add, T> {
  using A = accumulator_t<T>;

  /// y += x, both (rows, cols).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x) {
    parallel_blocks(device, y.rows, row_grain(y.cols), [=](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        T* const to = y.row(r);
        const T* const from = x.row(r);
        for_each_vector<A>(y.cols, [&](index_t i, auto which) {
          store_as<A>(to + i, Vector<A>(load_as<A>(to + i, which) + load_as<A>(from + i, which)), which);
        });
      }
    });
  }
};
