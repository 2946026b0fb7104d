// SPDX-License-Identifier: MIT
/// @file
/// @brief op::cross_entropy on the CPU: loss and gradient in place.

template <Real T>
struct kernel<op::cross_entropy, T> {
  /// loss (rows); logits (rows, vocab) become the gradient when asked for; targets (rows), negative: none.
  static void run(const Cpu& device, T* loss, MatrixView<T> logits, const token_t* targets, bool gradient) {
    const index_t vocab = logits.cols;
    parallel_blocks(device, logits.rows, row_grain(vocab), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        T* const row = logits.row(r);
        const token_t target = targets[r];
        if (target < 0) {
          loss[r] = T{0};
          if (gradient) std::fill_n(row, vocab, T{0});
          continue;
        }
        const T largest = lane_max(vocab, row);
        const T distance = largest - row[target];
        std::array<T, piece> exponentials;  // NOLINT: written before it is read
        T sum{0};
        for (index_t first = 0; first < vocab; first += piece) {
          const index_t count = std::min(piece, vocab - first);
          const T* const from = row + first;
          T* const to = gradient ? row + first : exponentials.data();
          lane_map(count, to, [=](index_t i) { return exp(from[i] - largest); });
          sum += lane_sum<T>(count, [=](index_t i) { return to[i]; });
        }
        loss[r] = std::log(sum) + distance;
        if (!gradient) continue;
        const T inverse = T{1} / sum;
        lane_map(vocab, row, [=](index_t i) { return row[i] * inverse; });
        row[target] -= T{1};
      }
    });
  }

 private:
  static constexpr index_t piece = 256;
};
