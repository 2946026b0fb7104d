// SPDX-License-Identifier: MIT
/// @file
/// @brief Dense tile products and softmax rows that attention is made of.
///
/// Tiles lie in scratch with rows padded to whole vectors and to strips of four, zeros in the padding, so that the
/// inner loops know no edges. Every element of a product is one chain of fused multiply-adds over k, whatever strip or
/// column group it falls into.

inline constexpr index_t attention_tile = 64;  ///< queries and keys in a tile; tiles begin at multiples in a sequence
inline constexpr index_t strip_rows = 4;       ///< rows of a product computed together

/// n rounded up to whole vectors of T.
template <class T>
[[nodiscard]] constexpr index_t padded_to_vectors(index_t n) {
  constexpr index_t lanes = vector_lanes<T>;
  return (n + lanes - 1) / lanes * lanes;
}

/// The left operand of a strip: element (i, p) is data[i * row + p * step]; step = 1 or row = 1 (transposed).
template <class T>
struct StripOperand {
  const T* data;
  index_t row;
  index_t step;
};

/// c (strip_rows, Vectors vectors) += a (strip_rows, k) b (k, Vectors vectors).
template <int Vectors, class T>
inline void strip_columns(T* c, index_t c_stride, StripOperand<T> a, const T* b, index_t b_stride, index_t k) {
  constexpr int rows = strip_rows;
  constexpr int lanes = vector_lanes<T>;
  Vector<T> sum[rows][Vectors];
  unrolled<rows>([&](auto i) { unrolled<Vectors>([&](auto v) { sum[i][v] = load(c + i * c_stride + v * lanes); }); });
  for (index_t p = 0; p < k; ++p) {
    Vector<T> y[Vectors];
    unrolled<Vectors>([&](auto v) { y[v] = load(b + p * b_stride + v * lanes); });
    unrolled<rows>([&](auto i) {
      const Vector<T> x = broadcast<T>(a.data[i * a.row + p * a.step]);
      unrolled<Vectors>([&](auto v) { sum[i][v] = multiply_add(x, y[v], sum[i][v]); });
    });
  }
  unrolled<rows>([&](auto i) { unrolled<Vectors>([&](auto v) { store(c + i * c_stride + v * lanes, sum[i][v]); }); });
}

/// c (strip_rows, n) += a (strip_rows, k) b (k, n); n a multiple of the vector's lanes.
template <class T>
inline void strip_product(T* c, index_t c_stride, StripOperand<T> a, const T* b, index_t b_stride, index_t k,
                          index_t n) {
  constexpr index_t lanes = vector_lanes<T>;
  constexpr int widest = vector_bytes == 64 ? 4 : 2;  // 4 x 4 sums of 32 registers, 4 x 2 of 16
  index_t j = 0;
  for (; j + widest * lanes <= n; j += widest * lanes) strip_columns<widest>(c + j, c_stride, a, b + j, b_stride, k);
  for (; j < n; j += lanes) strip_columns<1>(c + j, c_stride, a, b + j, b_stride, k);
}

/// tile (attention_tile, width) = factor * rows (count, head_dim), zeros behind both.
template <class T>
inline void copy_tile(T* tile, index_t width, const T* rows, index_t stride, index_t count, index_t head_dim,
                      T factor) {
  for (index_t i = 0; i < attention_tile; ++i) {
    T* to = tile + i * width;
    if (i >= count) {
      std::fill_n(to, width, T{0});
      continue;
    }
    const T* from = rows + i * stride;
    for (index_t c = 0; c < head_dim; ++c) to[c] = factor * from[c];
    for (index_t c = head_dim; c < width; ++c) to[c] = T{0};
  }
}

/// tile (head_dim, attention_tile) = rows (count, head_dim) transposed, zeros behind `count`.
template <class T>
inline void transpose_tile(T* tile, const T* rows, index_t stride, index_t count, index_t head_dim) {
  constexpr index_t lanes = vector_lanes<T>;
  for (index_t i = 0; i < attention_tile; i += lanes) {
    index_t c = 0;
    if (i + lanes <= count) {
      for (; c + lanes <= head_dim; c += lanes) {
        Vector<T> square[lanes];
        for (index_t l = 0; l < lanes; ++l) square[l] = load(rows + (i + l) * stride + c);
        transpose<T>(square);
        for (index_t l = 0; l < lanes; ++l) store(tile + (c + l) * attention_tile + i, square[l]);
      }
    }
    for (; c < head_dim; ++c) {
      for (index_t l = 0; l < lanes; ++l) {
        tile[c * attention_tile + i + l] = i + l < count ? rows[(i + l) * stride + c] : T{0};
      }
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
  T result = at_least;
  for (index_t l = 0; l < lanes; ++l) result = largest[l] > result ? largest[l] : result;
  return result;
}

/// row = exp(row - shift); returns the sum. n is a multiple of the vector's lanes.
template <class T>
[[nodiscard]] inline T row_exp(T* row, index_t n, T shift) {
  constexpr index_t lanes = vector_lanes<T>;
  Vector<T> sum{};
  for (index_t j = 0; j < n; j += lanes) {
    T group[lanes];
    for (index_t l = 0; l < lanes; ++l) group[l] = exp(row[j + l] - shift);
    const Vector<T> x = load(group);
    sum += x;
    store(row + j, x);
  }
  const Vector<T> parts[1] = {sum};
  return lane_sums<T, 1>(parts)[0];
}

/// Sum of x[i] * y[i] over n elements: one chain per lane, then the lanes in their tree.
template <class T>
[[nodiscard]] inline T row_dot(const T* x, const T* y, index_t n) {
  constexpr index_t lanes = vector_lanes<T>;
  Vector<T> sum{};
  index_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = multiply_add(load(x + i), load(y + i), sum);
  if (i < n) sum = multiply_add(load_first(x + i, n - i), load_first(y + i, n - i), sum);
  const Vector<T> parts[1] = {sum};
  return lane_sums<T, 1>(parts)[0];
}

/// y = a * x for n elements, a multiple of the vector's lanes.
template <class T>
inline void row_scale(T* y, const T* x, index_t n, T a) {
  for (index_t j = 0; j < n; j += vector_lanes<T>) store(y + j, load(x + j) * a);
}
