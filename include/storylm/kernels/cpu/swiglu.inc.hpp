// SPDX-License-Identifier: MIT
/// @file
/// @brief op::swiglu on the CPU.

template <Real T>
struct kernel<op::swiglu, T> {
  /// y (tokens, width) = dropout(silu(gate) * up); gate_up (tokens, 2 width), gate first.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> gate_up, const DropoutSpec& dropout,
                  const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    parallel_blocks(device, y.rows, row_grain(2 * y.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        mask.for_each_piece(r, y.cols, [&](index_t first, index_t count, const T* factors) {
          const T* const gate = gate_up.row(r) + first;
          const T* const up = gate + y.cols;
          lane_map(count, y.row(r) + first, [=](index_t i) { return gate[i] * sigmoid(gate[i]) * up[i] * factors[i]; });
        });
      }
    });
  }

  /// dgate_up (tokens, 2 width) from dy (tokens, width); dgate_up may be gate_up.
  static void backward(const Cpu& device, MatrixView<T> dgate_up, MatrixView<const T> dy, MatrixView<const T> gate_up,
                       const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    parallel_blocks(device, dy.rows, row_grain(2 * dy.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        mask.for_each_piece(r, dy.cols, [&](index_t first, index_t count, const T* factors) {
          backward_piece(count, dgate_up.row(r) + first, dgate_up.row(r) + dy.cols + first, dy.row(r) + first,
                         gate_up.row(r) + first, gate_up.row(r) + dy.cols + first, factors);
        });
      }
    });
  }

 private:
  static void backward_piece(index_t n, T* dgate, T* dup, const T* dy, const T* gate, const T* up, const T* factors) {
    // A group at a time through local memory, so that dgate_up may be gate_up.
    T dgates[lane_count];
    T dups[lane_count];
    const auto one = [&](index_t i, index_t l) {
      const T s = sigmoid(gate[i]);
      const T g = dy[i] * factors[i];
      dgates[l] = g * up[i] * s * (T{1} + gate[i] * (T{1} - s));
      dups[l] = g * gate[i] * s;
    };
    const index_t whole = n / lane_count * lane_count;
    for (index_t i = 0; i < whole; i += lane_count) {
      for (index_t l = 0; l < lane_count; ++l) one(i + l, l);
      for (index_t l = 0; l < lane_count; ++l) dgate[i + l] = dgates[l];
      for (index_t l = 0; l < lane_count; ++l) dup[i + l] = dups[l];
    }
    for (index_t i = whole; i < n; ++i) {
      one(i, 0);
      dgate[i] = dgates[0];
      dup[i] = dups[0];
    }
  }
};
