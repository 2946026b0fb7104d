// SPDX-License-Identifier: MIT
/// @file
/// @brief op::embedding on the CPU.

template <FloatDtype T>
struct kernel<op::embedding, T> {
  using A = accumulator_t<T>;

  /// y[t] = dropout(table[ids[t]] * scale + positions[position of t]); y (tokens, width), table (vocab, width),
  /// positions (max_len, width) or none.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> table, MatrixView<const T> positions,
                  double scale, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    const Vector<A> factor = broadcast(static_cast<A>(scale));
    parallel_blocks(device, y.rows, row_grain(y.cols), [&](index_t begin, index_t end) {
      for (index_t t = begin; t < end; ++t) {
        T* const to = y.row(t);
        const T* const from = table.row(batch.ids[t]);
        const T* const shift = positions ? positions.row(batch.positions[t]) : nullptr;
        mask.for_each_vector(t, y.cols, [&](index_t i, auto which, Vector<A> kept) {
          const Vector<A> value = load_as<A>(from + i, which);
          const Vector<A> sum =
              shift != nullptr ? multiply_add(value, factor, load_as<A>(shift + i, which)) : value * factor;
          store_as<A>(to + i, Vector<A>(sum * kept), which);
        });
      }
    });
  }

  /// dtable[ids[t]] += dropout'(dy[t]) * scale, dpositions[position of t] += dropout'(dy[t]), in the order of tokens.
  static void backward(const Cpu& device, MatrixView<A> dtable, MatrixView<A> dpositions, MatrixView<const T> dy,
                       double scale, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    add_by_row(device, dtable, batch.ids, dy, static_cast<A>(scale), mask);
    if (dpositions) add_by_row(device, dpositions, batch.positions, dy, A{1}, mask);
  }

 private:
  /// to[rows[t]] += dropout'(dy[t]) * scale. Tokens are sorted by row, stably, so that each row of `to` is one thread's
  /// and is added to in the order of tokens.
  static void add_by_row(const Cpu& device, MatrixView<A> to, const std::int32_t* rows, MatrixView<const T> dy, A scale,
                         const RowDropout<A>& mask) {
    auto scratch = device.scratch();
    auto* const start = scratch.template take<index_t>(to.rows + 2);  // (to.rows + 2)
    auto* const order = scratch.template take<index_t>(dy.rows);      // (tokens)
    std::fill_n(start, to.rows + 2, index_t{0});
    for (index_t t = 0; t < dy.rows; ++t) ++start[rows[t] + 2];
    for (index_t row = 0; row < to.rows; ++row) start[row + 2] += start[row + 1];
    for (index_t t = 0; t < dy.rows; ++t) order[start[rows[t] + 1]++] = t;  // start[row] is now where row begins

    const Vector<A> factor = broadcast(scale);
    constexpr index_t grain = 16;
    parallel_blocks(device, to.rows, grain, [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        A* const sum = to.row(row);
        for (index_t at = start[row]; at < start[row + 1]; ++at) {
          const T* const gradient = dy.row(order[at]);
          mask.for_each_vector(order[at], to.cols, [&](index_t i, auto which, Vector<A> kept) {
            const Vector<A> g = load_as<A>(gradient + i, which) * kept;
            store_as<A>(sum + i, multiply_add(g, factor, load_as<A>(sum + i, which)), which);
          });
        }
      }
    });
  }
};
