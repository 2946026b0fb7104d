// SPDX-License-Identifier: MIT
/// @file
/// @brief op::embedding on the CPU.

template <Real T>
struct kernel<op::embedding, T> {
  /// y[t] = dropout(table[ids[t]] * scale + positions[position of t]); y (tokens, width), table (vocab, width),
  /// positions (max_len, width) or none.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> table, MatrixView<const T> positions,
                  double scale, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    const auto factor = static_cast<T>(scale);
    parallel_blocks(device, y.rows, row_grain(y.cols), [&](index_t begin, index_t end) {
      for (index_t t = begin; t < end; ++t) {
        mask.for_each_piece(t, y.cols, [&](index_t first, index_t count, const T* kept) {
          const T* const from = table.row(batch.ids[t]) + first;
          if (positions) {
            const T* const shift = positions.row(batch.positions[t]) + first;
            lane_map(count, y.row(t) + first, [=](index_t i) { return (from[i] * factor + shift[i]) * kept[i]; });
          } else {
            lane_map(count, y.row(t) + first, [=](index_t i) { return from[i] * factor * kept[i]; });
          }
        });
      }
    });
  }

  /// dtable[ids[t]] += dropout'(dy[t]) * scale, dpositions[position of t] += dropout'(dy[t]), in the order of tokens.
  static void backward(const Cpu& device, MatrixView<T> dtable, MatrixView<T> dpositions, MatrixView<const T> dy,
                       double scale, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    add_by_row(device, dtable, batch.ids, dy, static_cast<T>(scale), mask);
    if (dpositions) add_by_row(device, dpositions, batch.positions, dy, T{1}, mask);
  }

 private:
  /// to[rows[t]] += dropout'(dy[t]) * scale. Tokens are sorted by row, stably, so that each row of `to` is one thread's
  /// and is added to in the order of tokens.
  static void add_by_row(const Cpu& device, MatrixView<T> to, const std::int32_t* rows, MatrixView<const T> dy, T scale,
                         const RowDropout<T>& mask) {
    auto scratch = device.scratch();
    auto* const start = scratch.template take<index_t>(to.rows + 2);  // (to.rows + 2)
    auto* const order = scratch.template take<index_t>(dy.rows);      // (tokens)
    std::fill_n(start, to.rows + 2, index_t{0});
    for (index_t t = 0; t < dy.rows; ++t) ++start[rows[t] + 2];
    for (index_t row = 0; row < to.rows; ++row) start[row + 2] += start[row + 1];
    for (index_t t = 0; t < dy.rows; ++t) order[start[rows[t] + 1]++] = t;  // start[row] is now where row begins

    constexpr index_t grain = 16;
    parallel_blocks(device, to.rows, grain, [&](index_t begin, index_t end) {
      for (index_t row = begin; row < end; ++row) {
        for (index_t at = start[row]; at < start[row + 1]; ++at) {
          mask.for_each_piece(order[at], to.cols, [&](index_t first, index_t count, const T* kept) {
            T* const sum = to.row(row) + first;
            const T* const gradient = dy.row(order[at]) + first;
            lane_map(count, sum, [=](index_t i) { return sum[i] + gradient[i] * kept[i] * scale; });
          });
        }
      }
    });
  }
};
