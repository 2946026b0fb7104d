// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_gradient on the CPU: no pass over dy of its own for the bias.

/// dweight += dy^T x by a product that sums the columns of dy, its A, while it packs them.
template <FloatDtype T>
struct kernel<op::linear_gradient, T, accumulator_t<T>> {
  using A = accumulator_t<T>;

  static void run(const Cpu& device, MatrixView<A> dweight, A* dbias, MatrixView<const T> dy, MatrixView<const T> x) {
    if (x.cols == 0) {  // nothing to multiply with
      if (dbias != nullptr) kernel<op::column_sum, T, A>::run(device, dbias, dy);
      return;
    }
    auto scratch = device.scratch();
    A* const column_sums = dbias != nullptr ? scratch.template take<A>(dy.cols) : nullptr;  // (out)
    matmul_into<T, A>(device, dweight, dy, x, {.transpose_a = true, .accumulate = true}, nullptr, column_sums);
    for (index_t c = 0; dbias != nullptr && c < dy.cols; ++c) dbias[c] += column_sums[c];
  }
};
