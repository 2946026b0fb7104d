// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_activation on the CPU: function and dropout are applied to a product's sums before they leave
/// the first cache.

template <FloatDtype T>
struct kernel<op::linear_activation, T> {
  using A = accumulator_t<T>;

  /// ReLU's derivative is seen from its output, a GELU's needs its input.
  [[nodiscard]] static constexpr index_t saved_columns(Activation function, index_t width) {
    return kernel<op::activation, T>::needs_input(function) ? width : 0;
  }

  static void run(const Cpu& device, MatrixView<T> y, MatrixView<T> saved, MatrixView<const T> x,
                  MatrixView<const T> weight, const T* bias, Activation activation, const DropoutSpec& dropout,
                  const PackedView& batch, bool row_invariant) {
    if (row_invariant) {
      const MatrixView<T> pre = kernel<op::activation, T>::needs_input(activation) ? saved : y;
      kernel<op::matmul_rows, T, T, T>::run(device, pre, x, weight, bias);
      return kernel<op::activation, T>::run(device, y, pre, activation, dropout, batch);
    }
    const RowDropout<A> mask(dropout, batch);
    with_activation<A>(activation, [&](auto function) {
      const auto finish = [&](const MatmulBlock<A>& block) {
        for (index_t r = 0; r < block.rows; ++r) {
          const index_t row = block.row + r;
          const A* const sums = block.sums + r * block.stride - block.col;
          mask.for_each_vector(row, block.col, block.col + block.cols, [&](index_t j, auto which, Vector<A> factors) {
            Vector<A> pre = load(sums + j);
            if (bias != nullptr) pre = pre + load_as<A>(bias + j, which);
            if constexpr (function.needs_input) store_as<A>(saved.row(row) + j, pre, which);
            store_as<A>(y.row(row) + j, Vector<A>(function.value(pre) * factors), which);
          });
        }
      };
      matmul_packed<T>(device, {x.data, x.stride, false, y.rows}, {weight.data, weight.stride, false, y.cols}, x.cols,
                       {}, false, nullptr, MatmulFinish<A>(finish, y));
    });
  }

  /// A product and a pass: as part of the product, reading what forward left costs more than the pass (measured).
  static void backward(const Cpu& device, MatrixView<T> dpre, MatrixView<const T> dy, MatrixView<const T> weight,
                       MatrixView<const T> y, MatrixView<const T> saved, Activation activation,
                       const DropoutSpec& dropout, const PackedView& batch) {
    kernel<op::matmul, T, T, T>::run(device, dpre, dy, weight, {}, nullptr);
    kernel<op::activation, T>::backward(device, dpre, dpre, saved, y, activation, dropout, batch);
  }
};
