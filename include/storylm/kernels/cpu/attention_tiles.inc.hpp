// SPDX-License-Identifier: MIT
/// @file
/// @brief Dense tile products and softmax rows that attention is made of.
///
/// Tiles lie in scratch with rows padded to whole vectors and to strips of strip_rows, so that the inner loops know no
/// edges.
/// What is multiplied lies there in units: elements of the computing type, or two bf16 that are neighbours along the
/// sum, where the machine multiplies pairs. Every element of a product is one chain of multiply-adds over its units,
/// whatever strip or column group it falls into.

inline constexpr index_t attention_tile = 64;  ///< queries and keys in a tile; tiles begin at multiples in a sequence
inline constexpr index_t strip_rows = vector_bytes == 64 ? 8 : 4;  ///< rows of a product computed together

/// What tiles of T are multiplied in; as large as the computing type.
template <class T>
using TileUnit = std::conditional_t<std::is_same_v<T, bf16> && has_bf16_dot, Bf16Pair, accumulator_t<T>>;
/// Elements in a unit.
template <class U>
inline constexpr int unit_depth = std::is_same_v<U, Bf16Pair> ? 2 : 1;

/// n rounded up to whole vectors of T.
template <class T>
[[nodiscard]] constexpr index_t padded_to_vectors(index_t n) {
  constexpr index_t lanes = vector_lanes<T>;
  return (n + lanes - 1) / lanes * lanes;
}

/// The left operand of a strip: unit (i, p) is data[i * row + p * step]; step = 1 or row = 1 (transposed).
template <class U>
struct StripOperand {
  const U* data;
  index_t row;
  index_t step;
};

/// c (strip_rows, Vectors vectors) = factors (strip_rows) * c + a (strip_rows, k) b (k, Vectors vectors), row by row.
/// Factors null: c = a b.
template <int Vectors, class A, class U>
inline void strip_columns(A* c, index_t c_stride, const A* factors, StripOperand<U> a, const U* b, index_t b_stride,
                          index_t k) {
  constexpr int rows = strip_rows;
  constexpr int lanes = vector_lanes<A>;
  Vector<A> sum[rows][Vectors] = {};
  if (factors != nullptr) {
    unrolled<rows>([&](auto i) {
      unrolled<Vectors>([&](auto v) { sum[i][v] = load(c + i * c_stride + v * lanes) * factors[i]; });
    });
  }
  for (index_t p = 0; p < k; ++p) {
    Vector<U> y[Vectors];
    unrolled<Vectors>([&](auto v) { y[v] = load(b + p * b_stride + v * lanes); });
    unrolled<rows>([&](auto i) {
      const Vector<U> x = broadcast<U>(a.data[i * a.row + p * a.step]);
      unrolled<Vectors>([&](auto v) {
        if constexpr (std::is_same_v<U, A>) {
          sum[i][v] = multiply_add(x, y[v], sum[i][v]);
        } else {
          sum[i][v] = add_dots<A>(x, y[v], sum[i][v]);
        }
      });
    });
  }
  unrolled<rows>([&](auto i) { unrolled<Vectors>([&](auto v) { store(c + i * c_stride + v * lanes, sum[i][v]); }); });
}

/// strip_columns for n columns, a multiple of the vector's lanes; k in units.
template <class A, class U>
inline void strip_product(A* c, index_t c_stride, const A* factors, StripOperand<U> a, const U* b, index_t b_stride,
                          index_t k, index_t n) {
  constexpr index_t lanes = vector_lanes<A>;
  constexpr int widest = 2;  // 8 x 2 sums of 32 registers, 4 x 2 of 16; more rows read the right operand less often
  index_t j = 0;
  for (; j + widest * lanes <= n; j += widest * lanes) {
    strip_columns<widest>(c + j, c_stride, factors, a, b + j, b_stride, k);
  }
  const index_t rest = (n - j) / lanes;
  unrolled<widest>([&](auto v) {
    if constexpr (v > 0) {
      if (rest == v) strip_columns<v>(c + j, c_stride, factors, a, b + j, b_stride, k);
    }
  });
}

/// A vector of units from a row; `which` counts units.
template <class U, class T, class Which>
[[gnu::always_inline]] inline Vector<U> load_units(const T* p, Which which) {
  if constexpr (!std::is_same_v<U, Bf16Pair>) {
    return load_as<U>(p, which);
  } else {
    Vector<U> units{};
    if constexpr (std::is_same_v<Which, AllLanes>) {
      std::memcpy(&units, p, sizeof(units));
    } else {
      std::memcpy(&units, p, static_cast<std::size_t>(which.count) * sizeof(U));
    }
    return units;
  }
}

/// Whole units from vectors that follow each other along a row.
template <class U, class A>
[[gnu::always_inline]] inline Vector<U> adjacent_units(const Vector<A> (&v)[1]) {
  return v[0];
}
template <class U, class A>
[[gnu::always_inline]] inline Vector<U> adjacent_units(const Vector<A> (&v)[2]) {
  return adjacent_pairs<A>(v[0], v[1]);
}
/// Whole units from part `part` of rows that lie below each other.
template <class U, class A>
[[gnu::always_inline]] inline Vector<U> stacked_units(const Vector<A> (&v)[1][1], int part) {
  return v[0][part];
}
template <class U, class A>
[[gnu::always_inline]] inline Vector<U> stacked_units(const Vector<A> (&v)[2][2], int part) {
  return rounded_pairs<A>(v[0][part], v[1][part]);
}

/// tile (count up to whole strips, stride) = rows (count, head_dim) in units along the head, zeros behind them: a left
/// operand of sums along the head. `stride` in whole vectors.
template <class U, class T>
inline void copy_tile(U* tile, index_t stride, const T* rows, index_t rows_stride, index_t count, index_t head_dim) {
  constexpr index_t depth = unit_depth<U>;
  for (index_t i = 0; i < count; ++i) {
    for_each_vector<U>(head_dim / depth, [&](index_t c, auto which) {
      store(tile + i * stride + c, load_units<U>(rows + i * rows_stride + c * depth, which));
    });
  }
  const index_t strips = (count + strip_rows - 1) / strip_rows;
  std::fill(tile + count * stride, tile + strips * strip_rows * stride, U{0});
}

/// tile (head_dim in units, attention_tile) = rows (count, head_dim) transposed, zeros up to a whole vector: a right
/// operand of sums along the head.
template <class U, class T>
inline void transpose_tile(U* tile, const T* rows, index_t stride, index_t count, index_t head_dim) {
  constexpr index_t lanes = vector_lanes<U>;
  constexpr index_t depth = unit_depth<U>;
  for (index_t i = 0; i < count; i += lanes) {
    for_each_vector<U>(head_dim / depth, [&](index_t c, auto which) {
      Vector<U> square[lanes];
      for (index_t l = 0; l < lanes; ++l) {
        square[l] = i + l < count ? load_units<U>(rows + (i + l) * stride + c * depth, which) : Vector<U>{};
      }
      transpose<U>(square);
      for (index_t l = 0; l < lanes; ++l) store(tile + (c + l) * attention_tile + i, square[l]);
    });
  }
}

/// tile (count in units, width) = rows (count, head_dim) in units along the rows, zeros up to a whole unit and vector:
/// a right operand of sums along the rows.
template <class U, class T>
inline void stack_tile(U* tile, index_t width, const T* rows, index_t stride, index_t count, index_t head_dim) {
  if constexpr (!std::is_same_v<U, Bf16Pair>) {
    copy_tile(tile, width, rows, stride, count, head_dim);
  } else {
    constexpr index_t lanes = vector_lanes<U>;
    for (index_t i = 0; i < count; i += 2) {
      const T* first = rows + i * stride;
      const T* second = i + 1 < count ? first + stride : nullptr;
      U* to = tile + i / 2 * width;
      for_each_vector<U>(head_dim, [&](index_t c, auto which) {
        if (std::is_same_v<decltype(which), AllLanes> && second != nullptr) {
          store(to + c, pairs_of(first + c, second + c));
        } else {
          T ends[2][lanes] = {};
          const index_t n = std::min(lanes, head_dim - c);
          std::copy_n(first + c, n, ends[0]);
          if (second != nullptr) std::copy_n(second + c, n, ends[1]);
          store(to + c, pairs_of(ends[0], ends[1]));
        }
      });
    }
  }
}

/// The keys of a tile that a query sees: [begin, end), counted from the tile's first.
struct VisibleKeys {
  index_t begin;
  index_t end;
};

/// @param query position of the query in its sequence; @param first_key that of the tile's first key
[[nodiscard]] inline VisibleKeys visible_keys(index_t query, index_t first_key, index_t keys, index_t window) {
  const index_t end = std::clamp<index_t>(query + 1 - first_key, 0, keys);
  const index_t begin = window > 0 ? std::clamp<index_t>(query + 1 - window - first_key, 0, end) : 0;
  return {begin, end};
}

/// Overwrites what lies outside of the visible in a row of n elements, n >= visible.end.
template <class T>
inline void fill_outside(T* row, VisibleKeys visible, index_t n, T value) {
  std::fill_n(row, visible.begin, value);
  std::fill(row + visible.end, row + n, value);
}

/// Largest of n elements, a multiple of the vector's lanes; NaNs are passed over, they show up in the sum.
template <class T>
[[nodiscard]] inline T row_max(const T* row, index_t n, T at_least) {
  constexpr index_t lanes = vector_lanes<T>;
  Vector<T> largest = broadcast<T>(at_least);
  for (index_t j = 0; j < n; j += lanes) largest = larger<T>(load(row + j), largest);
  return largest_lane<T>(largest);
}

/// 2^x for x up to 1, within 2 ulp; below the range 0, NaN stays NaN. Half the instructions of exp: a softmax whose
/// scores are scaled by log2(e) needs no more. The polynomial is that of S. Moshier's Cephes library.
template <std::floating_point A>
[[nodiscard, gnu::always_inline]] inline Vector<A> power_of_two(Vector<A> x) {
  if constexpr (std::is_same_v<A, double>) {
    return exp(Vector<A>(x * std::numbers::ln2));
  } else {
    constexpr A round_to_integer = 12582912.0F;  // 1.5 * 2^23
    x = larger<A>(broadcast(A{-160}), x);
    const Vector<A> shifted = x + round_to_integer;
    const Vector<A> n = shifted - round_to_integer;
    const Vector<A> r = x - n;
    Vector<A> p = broadcast(1.535336188319500e-4F);
    p = multiply_add(p, r, broadcast(1.339887440266574e-3F));
    p = multiply_add(p, r, broadcast(9.618437357674640e-3F));
    p = multiply_add(p, r, broadcast(5.550332471162809e-2F));
    p = multiply_add(p, r, broadcast(2.402264791363012e-1F));
    p = multiply_add(p, r, broadcast(6.931472028550421e-1F));
    p = multiply_add(p, r, broadcast(1.0F));
    if constexpr (has_scale_by_power) {
      return scale_by_power<A>(p, n);
    } else {
      // In two factors, because 2^n alone may lie outside the normal range.
      using Integers = Vector<std::int32_t>;
      const Integers exponent = reinterpret_cast<Integers>(shifted) - bits_as<std::int32_t>(round_to_integer);
      const Integers half = exponent >> 1;
      const Integers rest = exponent - half;
      return p * reinterpret_cast<Vector<A>>((half + 127) << 23) * reinterpret_cast<Vector<A>>((rest + 127) << 23);
    }
  }
}

/// row = exp(row - shift); returns the sum. n is a multiple of the vector's lanes.
template <class T>
[[nodiscard]] inline T row_exp(T* row, index_t n, T shift) {
  Vector<T> sum{};
  for (index_t j = 0; j < n; j += vector_lanes<T>) {
    const Vector<T> x = exp(Vector<T>(load(row + j) - shift));
    sum += x;
    store(row + j, x);
  }
  return sum_of_lanes<T>(sum);
}

/// out[r] = the sum of x[i] * y[i] over the n elements of row r: one chain per lane, then the lanes in their tree.
template <class A, class T>
inline void row_dots(A* out, MatrixView<const T> x, MatrixView<const T> y) {
  constexpr index_t together = std::min<index_t>(strip_rows, vector_lanes<A>);
  for (index_t r = 0; r < x.rows; r += together) {
    Vector<A> sum[together] = {};
    const index_t rows = std::min(together, x.rows - r);
    for (index_t h = 0; h < rows; ++h) {
      for_each_vector<A>(x.cols, [&](index_t i, auto which) {
        sum[h] = multiply_add(load_as<A>(x.row(r + h) + i, which), load_as<A>(y.row(r + h) + i, which), sum[h]);
      });
    }
    const Vector<A> totals = lane_sums<A, static_cast<int>(together)>(sum);
    for (index_t h = 0; h < rows; ++h) out[r + h] = totals[h];
  }
}
