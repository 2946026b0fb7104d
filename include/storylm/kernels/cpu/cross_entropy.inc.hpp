// SPDX-License-Identifier: MIT
/// @file
/// @brief op::cross_entropy on the CPU: loss and gradient in place, row by row; a row stays in the first cache.

template <FloatDtype T>
struct kernel<op::cross_entropy, T> {
  using A = accumulator_t<T>;

  /// loss (rows); logits (rows, vocab) become the gradient when asked for; targets (rows), negative: none.
  static void run(const Cpu& device, A* loss, MatrixView<T> logits, const token_t* targets, bool gradient) {
    constexpr bool in_place = std::is_same_v<T, A>;
    const index_t vocab = logits.cols;
    auto scratch = device.scratch();
    A* const buffers = in_place ? nullptr : scratch.template take<A>(thread_count(device) * vocab);  // (threads, vocab)
    parallel_blocks(device, logits.rows, row_grain(vocab), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        T* const row = logits.row(r);
        const token_t target = targets[r];
        if (target < 0) {
          loss[r] = A{0};
          if (gradient) std::fill_n(row, vocab, T{});
          continue;
        }
        const auto at_target = static_cast<A>(row[target]);
        const A largest = largest_of(vocab, row);
        A* exponentials = nullptr;  // kept in the computing type, for the gradient
        if constexpr (in_place) {
          if (gradient) exponentials = row;
        } else {
          if (gradient) exponentials = buffers + thread_index() * vocab;
        }
        const A sum = sum_of_vectors<A>(vocab, [=](index_t i, auto which) {
          const Vector<A> e = exp(Vector<A>(load_as<A>(row + i, which) - largest));
          if (exponentials != nullptr) store_as<A>(exponentials + i, e, which);
          return e;
        });
        loss[r] = std::log(sum) + (largest - at_target);
        if (!gradient) continue;
        const A inverse = A{1} / sum;
        for_each_vector<A>(vocab, [=](index_t i, auto which) {
          store_as<A>(row + i, Vector<A>(load_as<A>(exponentials + i, which) * inverse), which);
        });
        row[target] = T(exp(at_target - largest) * inverse - A{1});  // rounded once
      }
    });
  }

 private:
  /// NaNs are passed over, unless a vector begins with one: they show in the sum.
  static A largest_of(index_t n, const T* row) {
    const auto first = static_cast<A>(row[0]);
    Vector<A> largest = broadcast(first);
    for_each_vector<A>(n, [&](index_t i, auto which) {
      const Vector<A> next = only<A>(load_as<A>(row + i, which), which, first);
      largest = select(largest < next, next, largest);
    });
    return largest_lane<A>(largest);
  }
};
