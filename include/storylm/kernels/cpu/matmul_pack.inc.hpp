// SPDX-License-Identifier: MIT
/// @file
/// @brief Packing for matrix products: strips of A and panels of B as [unit along k][lane].

/// Where one operand lies: element (lane, p), lane a row of op(A) or a column of op(B), p along k.
template <class T>
struct MatmulOperand {
  const T* data;
  index_t stride;
  bool lanes_adjacent;  ///< (lane, p) is data[p * stride + lane], else data[lane * stride + p]
  index_t lanes;
};

/// A vector of units along k: `count` elements exist from p on, what is missing is zero.
template <class T>
[[gnu::always_inline]] inline Vector<MatmulUnit<T>> units_along(const T* p, index_t count) {
  using U = MatmulUnit<T>;
  constexpr index_t whole = vector_lanes<U> * matmul_depth<T>;
  alignas(vector_bytes) T some[whole];
  if (count < whole) {
    std::memset(static_cast<void*>(some), 0, sizeof(some));
    for (index_t i = 0; i < count; ++i) some[i] = p[i];
    p = some;
  }
  if constexpr (std::is_same_v<U, Bf16Pair>) {
    Vector<U> pairs;
    std::memcpy(&pairs, p, sizeof(pairs));
    return pairs;
  } else {
    return load_as<U>(p);
  }
}

/// One unit of adjacent lanes: `count` of them exist in `row`; the other half of pairs is in `next` unless null.
template <class T>
[[gnu::always_inline]] inline Vector<MatmulUnit<T>> units_across(const T* row, const T* next, index_t count) {
  using U = MatmulUnit<T>;
  constexpr index_t whole = vector_lanes<U>;
  alignas(vector_bytes) T some[2][whole];
  if (count < whole || (matmul_depth<T> == 2 && next == nullptr)) {
    std::memset(static_cast<void*>(some), 0, sizeof(some));
    count = std::min(count, whole);
    for (index_t i = 0; i < count; ++i) some[0][i] = row[i];
    if (next != nullptr) {
      for (index_t i = 0; i < count; ++i) some[1][i] = next[i];
    }
    row = some[0];
    next = some[1];
  }
  if constexpr (std::is_same_v<U, Bf16Pair>) {
    return pairs_of(row, next);
  } else {
    return load_as<U>(row);
  }
}

/// Adds the elements of units to sum.
template <class A, class U>
[[gnu::always_inline]] inline void add_units(Vector<A>& sum, Vector<U> units) {
  if constexpr (std::is_same_v<U, Bf16Pair>) {
    const auto [first, second] = halves_of(units);
    sum = sum + first + second;
  } else {
    sum = sum + units;
  }
}

/// Packs lanes first_lane ... + Width and elements [first, last) along k as [unit][Width]; lanes beyond the operand
/// become zero. Where lanes are adjacent, `sums` (Width) gets the sums along k unless null.
template <int Width, class T>
[[gnu::noinline]] void matmul_pack(MatmulUnit<T>* to, const MatmulOperand<T>& from, index_t first_lane, index_t first,
                                   index_t last, accumulator_t<T>* sums = nullptr) {
  using U = MatmulUnit<T>;
  constexpr int lanes = vector_lanes<U>;
  constexpr int groups = Width / lanes;
  constexpr index_t depth = matmul_depth<T>;
  const index_t valid = from.lanes - first_lane;
  if (from.lanes_adjacent) {
    Vector<accumulator_t<T>> sum[groups] = {};
    const T* row = from.data + first * from.stride + first_lane;
    for (index_t p = first; p < last; p += depth, row += depth * from.stride, to += Width) {
      const T* const next = depth == 2 && p + 1 < last ? row + from.stride : nullptr;
      unrolled<groups>([&](auto g) {
        const Vector<U> units = units_across<T>(row + g * lanes, next != nullptr ? next + g * lanes : next,
                                                std::max<index_t>(0, valid - g * lanes));
        store(to + g * lanes, units);
        if (sums != nullptr) add_units<accumulator_t<T>, U>(sum[g], units);
      });
    }
    if (sums != nullptr) unrolled<groups>([&](auto g) { store(sums + g * lanes, sum[g]); });
    return;
  }
  for (index_t p = first; p < last; p += lanes * depth, to += lanes * Width) {
    const index_t units = std::min<index_t>(lanes, (last - p + depth - 1) / depth);
    for (int g = 0; g < groups; ++g) {
      Vector<U> square[lanes];  // (lanes of the operand, units), then its transpose
      unrolled<lanes>([&](auto i) {
        const index_t lane = g * lanes + i;
        square[i] = units_along<T>(from.data + (first_lane + lane) * from.stride + p, lane < valid ? last - p : 0);
      });
      transpose<U>(square);
      if (units == lanes) {
        unrolled<lanes>([&](auto i) { store(to + i * Width + g * lanes, square[i]); });
      } else {
        for (index_t i = 0; i < units; ++i) store(to + i * Width + g * lanes, square[i]);
      }
    }
  }
}
