// SPDX-License-Identifier: MIT
/// @file
/// @brief What layer_norm and rms_norm share on the CPU: residual + dropout(branch) and the norm in one pass.

/// @tparam centred layer norm; else the mean is taken as zero: RMS norm
template <bool centred, Real T>
struct NormRows {
  /// As op::layer_norm's run; bias may be null.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<T> sum, MatrixView<T> stats,
                  MatrixView<const T> residual, MatrixView<const T> branch, const T* weight, const T* bias, double eps,
                  const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    const index_t width = y.cols;
    parallel_blocks(device, y.rows, row_grain(width), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        const T* x = residual.row(r);
        if (branch) {
          mask.for_each_piece(r, width, [&](index_t first, index_t count, const T* factors) {
            const T* const from = residual.row(r) + first;
            const T* const added = branch.row(r) + first;
            lane_map(count, sum.row(r) + first, [=](index_t i) { return from[i] + added[i] * factors[i]; });
          });
          x = sum.row(r);
        }
        T mean{0};
        if constexpr (centred) mean = lane_sum<T>(width, [=](index_t i) { return x[i]; }) / static_cast<T>(width);
        const T squares = lane_sum<T>(width, [=](index_t i) { return (x[i] - mean) * (x[i] - mean); });
        const T inverse = T{1} / std::sqrt(squares / static_cast<T>(width) + static_cast<T>(eps));
        stats(r, 0) = mean;
        stats(r, 1) = inverse;
        if (bias != nullptr) {
          lane_map(width, y.row(r), [=](index_t i) { return (x[i] - mean) * inverse * weight[i] + bias[i]; });
        } else {
          lane_map(width, y.row(r), [=](index_t i) { return (x[i] - mean) * inverse * weight[i]; });
        }
      }
    });
  }

  /// As op::layer_norm's backward; dbias may be null.
  static void backward(const Cpu& device, MatrixView<T> dsum, MatrixView<T> dbranch, T* dweight, T* dbias,
                       MatrixView<const T> dy, MatrixView<const T> sum, MatrixView<const T> stats, const T* weight,
                       MatrixView<const T> plus, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<T> mask(dropout, batch);
    const index_t rows = dy.rows;
    const index_t width = dy.cols;
    const index_t grain = std::max<index_t>(64, row_grain(width));  // each piece has column sums of its own
    const index_t pieces = (rows + grain - 1) / grain;
    auto scratch = device.scratch();
    T* const weights = scratch.template take<T>(pieces * width);                              // (pieces, width)
    T* const biases = dbias != nullptr ? scratch.template take<T>(pieces * width) : nullptr;  // (pieces, width)

    parallel_blocks(device, rows, grain, [&](index_t begin, index_t end) {
      T* const dw = weights + begin / grain * width;
      T* const db = dbias != nullptr ? biases + begin / grain * width : nullptr;
      std::fill_n(dw, width, T{0});
      if (db != nullptr) std::fill_n(db, width, T{0});
      for (index_t r = begin; r < end; ++r) {
        const T* const g = dy.row(r);
        const T* const x = sum.row(r);
        const T mean = centred ? stats(r, 0) : T{0};
        const T inverse = stats(r, 1);
        lane_map(width, dw, [=](index_t i) { return dw[i] + g[i] * ((x[i] - mean) * inverse); });
        if (db != nullptr) lane_map(width, db, [=](index_t i) { return db[i] + g[i]; });

        // With n = (x - mean) inverse and h = dy weight: dx = inverse (h - mean(h) - n mean(h n)).
        T along{0};
        if constexpr (centred) {
          along = lane_sum<T>(width, [=](index_t i) { return g[i] * weight[i]; }) / static_cast<T>(width);
        }
        const T across = lane_sum<T>(width, [=](index_t i) { return g[i] * weight[i] * ((x[i] - mean) * inverse); }) /
                         static_cast<T>(width);
        T* const dx = dsum.row(r);
        const auto gradient = [=](index_t i) {
          return inverse * (g[i] * weight[i] - along - (x[i] - mean) * inverse * across);
        };
        if (plus) {
          const T* const other = plus.row(r);
          lane_map(width, dx, [=](index_t i) { return other[i] + gradient(i); });
        } else {
          lane_map(width, dx, gradient);
        }
        if (dbranch) {
          mask.for_each_piece(r, width, [&](index_t first, index_t count, const T* factors) {
            const T* const from = dx + first;
            lane_map(count, dbranch.row(r) + first, [=](index_t i) { return from[i] * factors[i]; });
          });
        }
      }
    });

    add_pieces(device, dweight, weights, pieces, width);
    if (dbias != nullptr) add_pieces(device, dbias, biases, pieces, width);
  }

 private:
  static constexpr index_t columns = 128;

  /// to[c] += the sum of partial[p][c] over the pieces, in order.
  static void add_pieces(const Cpu& device, T* to, const T* partial, index_t pieces, index_t width) {
    parallel_blocks(device, width, columns, [&](index_t begin, index_t end) {
      std::array<T, columns> total{};
      for (index_t p = 0; p < pieces; ++p) {
        const T* const from = partial + p * width + begin;
        lane_map(end - begin, total.data(), [&](index_t i) { return total[static_cast<std::size_t>(i)] + from[i]; });
      }
      for (index_t c = begin; c < end; ++c) to[c] += total[static_cast<std::size_t>(c - begin)];
    });
  }
};
