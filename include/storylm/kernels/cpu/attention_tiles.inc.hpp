// SPDX-License-Identifier: MIT
/// @file
/// @brief Dense tile products and softmax rows that attention is made of.
///
/// Tiles lie in scratch with rows padded to whole vectors and to strips of four, so that the inner loops know no edges.
/// What is multiplied lies there in units: elements of the computing type, or two bf16 that are neighbours along the
/// sum, where the machine multiplies pairs. Every element of a product is one chain of multiply-adds over its units,
/// whatever strip or column group it falls into.

inline constexpr index_t attention_tile = 64;  ///< queries and keys in a tile; tiles begin at multiples in a sequence
inline constexpr index_t strip_rows = 4;       ///< rows of a product computed together

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

/// What a product does with what is there.
enum class Sums : std::uint8_t { begin, go_on };

/// c (strip_rows, Vectors vectors) = or += a (strip_rows, k) b (k, Vectors vectors).
template <int Vectors, Sums sums, class A, class U>
inline void strip_columns(A* c, index_t c_stride, StripOperand<U> a, const U* b, index_t b_stride, index_t k) {
  constexpr int rows = strip_rows;
  constexpr int lanes = vector_lanes<A>;
  Vector<A> sum[rows][Vectors] = {};
  if constexpr (sums == Sums::go_on) {
    unrolled<rows>([&](auto i) { unrolled<Vectors>([&](auto v) { sum[i][v] = load(c + i * c_stride + v * lanes); }); });
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

/// c (strip_rows, n) = or += a (strip_rows, k) b (k, n); k in units, n a multiple of the vector's lanes.
template <Sums sums, class A, class U>
inline void strip_product(A* c, index_t c_stride, StripOperand<U> a, const U* b, index_t b_stride, index_t k,
                          index_t n) {
  constexpr index_t lanes = vector_lanes<A>;
  constexpr int widest = vector_bytes == 64 ? 4 : 2;  // 4 x 4 sums of 32 registers, 4 x 2 of 16
  index_t j = 0;
  for (; j + widest * lanes <= n; j += widest * lanes) {
    strip_columns<widest, sums>(c + j, c_stride, a, b + j, b_stride, k);
  }
  const index_t rest = (n - j) / lanes;
  unrolled<widest>([&](auto v) {
    if constexpr (v > 0) {
      if (rest == v) strip_columns<v, sums>(c + j, c_stride, a, b + j, b_stride, k);
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
  for (index_t j = 0; j < n; j += lanes) {
    const Vector<T> x = load(row + j);
    largest = x > largest ? x : largest;
  }
  return largest_lane<T>(largest);
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

/// Sum of x[i] * y[i] over n elements: one chain per lane, then the lanes in their tree.
template <class A, class T>
[[nodiscard]] inline A row_dot(const T* x, const T* y, index_t n) {
  Vector<A> sum{};
  for_each_vector<A>(n, [&](index_t i, auto which) {
    sum = multiply_add(load_as<A>(x + i, which), load_as<A>(y + i, which), sum);
  });
  return sum_of_lanes<A>(sum);
}
