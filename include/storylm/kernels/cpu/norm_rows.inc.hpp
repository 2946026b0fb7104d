// SPDX-License-Identifier: MIT
/// @file
/// @brief What layer_norm and rms_norm share on the CPU: residual + dropout(branch) and the norm in one pass over
/// memory; a row stays in the first cache.

/// @tparam centred layer norm; else the mean is taken as zero: RMS norm
template <bool centred, FloatDtype T>
struct NormRows {
  using A = accumulator_t<T>;

  /// As op::layer_norm's run; bias may be null.
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<T> sum, MatrixView<A> stats,
                  MatrixView<const T> residual, MatrixView<const T> branch, const T* weight, const T* bias, double eps,
                  const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    const index_t width = y.cols;
    const A share = A{1} / static_cast<A>(width);
    parallel_blocks(device, y.rows, row_grain(width), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        const T* x = residual.row(r);
        if (branch) x = add_branch(sum.row(r), residual.row(r), branch.row(r), r, width, mask);
        A mean{0};
        if constexpr (centred) {
          mean = share * sum_of_vectors<A>(width, [=](index_t i, auto which) { return load_as<A>(x + i, which); });
        }
        const A squares = sum_of_vectors<A>(width, [=](index_t i, auto which) {
          const Vector<A> d = load_as<A>(x + i, which) - mean;
          return d * d;
        });
        const A inverse = A{1} / std::sqrt(squares * share + static_cast<A>(eps));
        stats(r, 0) = mean;
        stats(r, 1) = inverse;
        T* const to = y.row(r);
        for_each_vector<A>(width, [=](index_t i, auto which) {
          const Vector<A> normal = (load_as<A>(x + i, which) - mean) * inverse;
          const Vector<A> w = load_as<A>(weight + i, which);
          const Vector<A> value = bias != nullptr ? multiply_add(normal, w, load_as<A>(bias + i, which)) : normal * w;
          store_as<A>(to + i, value, which);
        });
      }
    });
  }

  /// As op::layer_norm's backward; dbias may be null.
  static void backward(const Cpu& device, MatrixView<T> dsum, MatrixView<T> dbranch, A* dweight, A* dbias,
                       MatrixView<const T> dy, MatrixView<const T> sum, MatrixView<const A> stats, const T* weight,
                       MatrixView<const T> plus, const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    const index_t rows = dy.rows;
    const index_t width = dy.cols;
    const index_t grain = std::max<index_t>(64, row_grain(width));  // each piece has column sums of its own
    const index_t pieces = (rows + grain - 1) / grain;
    auto scratch = device.scratch();
    A* const weights = scratch.template take<A>(pieces * width);                              // (pieces, width)
    A* const biases = dbias != nullptr ? scratch.template take<A>(pieces * width) : nullptr;  // (pieces, width)

    parallel_blocks(device, rows, grain, [&](index_t begin, index_t end) {
      A* const dw = weights + begin / grain * width;
      A* const db = dbias != nullptr ? biases + begin / grain * width : nullptr;
      std::fill_n(dw, width, A{0});
      if (db != nullptr) std::fill_n(db, width, A{0});
      const auto rows_from = [&](index_t first, auto count) {
        Row row[count];
        for (index_t k = 0; k < count; ++k) {
          const index_t r = first + k;
          row[k] = {.dy = dy.row(r),
                    .x = sum.row(r),
                    .weight = weight,
                    .plus = plus ? plus.row(r) : nullptr,
                    .mean = centred ? stats(r, 0) : A{0},
                    .inverse = stats(r, 1)};
        }
        add_columns<count>(row, width, dw, db);
        for (index_t k = 0; k < count; ++k) {
          const index_t r = first + k;
          T* const branch = dbranch ? dbranch.row(r) : nullptr;
          row_gradient(row[k], r, width, dsum.row(r), branch, mask);
        }
      };
      index_t r = begin;
      for (; r + together <= end; r += together) rows_from(r, std::integral_constant<int, together>{});
      for (; r < end; ++r) rows_from(r, std::integral_constant<int, 1>{});
    });

    add_pieces(device, dweight, weights, pieces, width);
    if (dbias != nullptr) add_pieces(device, dbias, biases, pieces, width);
  }

 private:
  /// What backward reads of a row. With n = (x - mean) inverse and h = dy weight, the gradient is
  /// inverse (h - mean(h) - n mean(h n)).
  struct Row {
    const T* dy;
    const T* x;
    const T* weight;
    const T* plus;  // or null
    A mean;
    A inverse;
    A along = A{0};   // mean of h; zero unless centred
    A across = A{0};  // mean of h n
  };
  /// Rows whose columns are summed together: the sums are then read and written once for all of them.
  static constexpr int together = has_many_registers ? 4 : 2;

  /// sum = residual + dropout(branch), (width); returns sum, rounded as backward will see it.
  static const T* add_branch(T* sum, const T* residual, const T* branch, index_t row, index_t width,
                             const RowDropout<A>& mask) {
    mask.for_each_vector(row, width, [&](index_t i, auto which, Vector<A> factors) {
      store_as<A>(sum + i, multiply_add(load_as<A>(branch + i, which), factors, load_as<A>(residual + i, which)),
                  which);
    });
    return sum;
  }

  /// dw += dy n and db += dy, (width), row by row, db unless null; finds the rows' means.
  template <int Rows>
  static void add_columns(Row (&rows)[Rows], index_t width, A* dw, A* db) {
    Vector<A> along[Rows] = {};
    Vector<A> across[Rows] = {};
    for_each_vector<A>(width, [&](index_t i, auto which) {  // lanes that do not exist: dy is zero there
      const Vector<A> w = load_as<A>(rows[0].weight + i, which);
      Vector<A> weights = load_as<A>(dw + i, which);
      Vector<A> biases = db != nullptr ? load_as<A>(db + i, which) : Vector<A>{};
      unrolled<Rows>([&](auto k) {
        const Vector<A> g = load_as<A>(rows[k].dy + i, which);
        const Vector<A> n = (load_as<A>(rows[k].x + i, which) - rows[k].mean) * rows[k].inverse;
        weights = multiply_add(g, n, weights);
        biases = biases + g;
        const Vector<A> h = g * w;
        along[k] = along[k] + h;
        across[k] = multiply_add(h, n, across[k]);
      });
      store_as<A>(dw + i, weights, which);
      if (db != nullptr) store_as<A>(db + i, biases, which);
    });
    const A share = A{1} / static_cast<A>(width);
    unrolled<Rows>([&](auto k) {
      if constexpr (centred) rows[k].along = sum_of_lanes<A>(along[k]) * share;
      rows[k].across = sum_of_lanes<A>(across[k]) * share;
    });
  }

  /// dsum = plus + the gradient, (width), and dbranch = dropout of that, unless null.
  static void row_gradient(const Row& row, index_t r, index_t width, T* dsum, T* dbranch, const RowDropout<A>& mask) {
    if (dbranch == nullptr) {
      return for_each_vector<A>(
          width, [&](index_t i, auto which) { store_as<A>(dsum + i, gradient_of(row, i, which), which); });
    }
    mask.for_each_vector(r, width, [&](index_t i, auto which, Vector<A> factors) {
      const Vector<A> gradient = gradient_of(row, i, which);
      store_as<A>(dsum + i, gradient, which);
      store_as<A>(dbranch + i, Vector<A>(gradient * factors), which);
    });
  }

  template <class Which>
  [[gnu::always_inline]] static inline Vector<A> gradient_of(const Row& row, index_t i, Which which) {
    const Vector<A> h = load_as<A>(row.dy + i, which) * load_as<A>(row.weight + i, which);
    const Vector<A> n = (load_as<A>(row.x + i, which) - row.mean) * row.inverse;
    const Vector<A> inner = multiply_add(n, broadcast(-row.across), Vector<A>(h - row.along));
    if (row.plus == nullptr) return row.inverse * inner;
    return multiply_add(broadcast(row.inverse), inner, load_as<A>(row.plus + i, which));
  }

  /// to[c] += the sum of partial[p][c] over the pieces, in order.
  static void add_pieces(const Cpu& device, A* to, const A* partial, index_t pieces, index_t width) {
    constexpr index_t columns = 128;
    parallel_blocks(device, width, columns, [&](index_t begin, index_t end) {
      for_each_vector<A>(end - begin, [&](index_t i, auto which) {
        Vector<A> total{};
        for (index_t p = 0; p < pieces; ++p) total = total + load_as<A>(partial + p * width + begin + i, which);
        store_as<A>(to + begin + i, Vector<A>(load_as<A>(to + begin + i, which) + total), which);
      });
    });
  }
};
