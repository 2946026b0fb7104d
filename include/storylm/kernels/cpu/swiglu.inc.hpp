// SPDX-License-Identifier: MIT
/// @file
/// @brief op::swiglu on the CPU.

template <FloatDtype T>
struct kernel<op::swiglu, T> {
  using A = accumulator_t<T>;

  /// y (tokens, width) = dropout(silu(gate) * up); gate_up (tokens, 2 width), gate first.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> gate_up, const DropoutSpec& dropout,
                  const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    parallel_blocks(device, y.rows, row_grain(2 * y.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        const T* const from = gate_up.row(r);
        T* const to = y.row(r);
        mask.for_each_vector(r, y.cols, [&](index_t i, auto which, Vector<A> factors) {
          const Vector<A> gate = load_as<A>(from + i, which);
          const Vector<A> up = load_as<A>(from + y.cols + i, which);
          store_as<A>(to + i, Vector<A>(gate * sigmoid(gate) * up * factors), which);
        });
      }
    });
  }

  /// dgate_up (tokens, 2 width) from dy (tokens, width); dgate_up may be gate_up.
  static void backward(const Cpu& device, MatrixView<T> dgate_up, MatrixView<const T> dy, MatrixView<const T> gate_up,
                       const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    parallel_blocks(device, dy.rows, row_grain(2 * dy.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        const T* const gradient = dy.row(r);
        const T* const from = gate_up.row(r);
        T* const to = dgate_up.row(r);
        mask.for_each_vector(r, dy.cols, [&](index_t i, auto which, Vector<A> factors) {
          const Vector<A> gate = load_as<A>(from + i, which);
          const Vector<A> up = load_as<A>(from + dy.cols + i, which);
          const Vector<A> g = load_as<A>(gradient + i, which) * factors;
          const Vector<A> s = sigmoid(gate);
          const Vector<A> slope = s * multiply_add(gate, Vector<A>(A{1} - s), broadcast(A{1}));
          store_as<A>(to + i, Vector<A>(g * up * slope), which);
          store_as<A>(to + dy.cols + i, Vector<A>(g * gate * s), which);
        });
      }
    });
  }
};
