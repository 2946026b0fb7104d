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

namespace detail {
/// The first `count` of N elements, then zeros: what a vector is read from at an edge.
template <int N, class T>
struct SomeOf {
  alignas(vector_bytes) T values[N];

  [[gnu::noinline]] SomeOf(const T* from, index_t count) {
    std::memset(static_cast<void*>(values), 0, sizeof(values));
    if (from == nullptr) return;
    for (index_t i = 0; i < std::min<index_t>(count, N); ++i) values[i] = from[i];
  }
};
}  // namespace detail

/// A vector of units along k: `count` elements exist from p on, what is missing is zero.
template <class T>
[[gnu::always_inline]] inline Vector<MatmulUnit<T>> units_along(const T* p, index_t count) {
  using U = MatmulUnit<T>;
  constexpr index_t whole = vector_lanes<U> * matmul_depth<T>;
  const auto at = [&](const T* from) {
    if constexpr (std::is_same_v<U, Bf16Pair>) {
      return pairs_from(from);
    } else {
      return load_as<U>(from);
    }
  };
  return at(count < whole ? detail::SomeOf<whole, T>(p, count).values : p);
}

/// One unit of adjacent lanes: `count` of them exist in `row`; the other half of pairs is in `next` unless null.
template <class T>
[[gnu::always_inline]] inline Vector<MatmulUnit<T>> units_across(const T* row, const T* next, index_t count) {
  using U = MatmulUnit<T>;
  constexpr index_t whole = vector_lanes<U>;
  if constexpr (std::is_same_v<U, Bf16Pair>) {
    if (count >= whole && next != nullptr) return pairs_of(row, next);
    return pairs_of(detail::SomeOf<whole, T>(row, count).values, detail::SomeOf<whole, T>(next, count).values);
  } else {
    return load_as<U>(count >= whole ? row : detail::SomeOf<whole, T>(row, count).values);
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

/// Elements along k of adjacent lanes that are packed for one strip after another: a line of memory has lanes of
/// several strips, which are taken while it is in the cache.
inline constexpr index_t matmul_pack_rows = 32;

/// Packs elements [first, last) along k of lanes first_lane ... + Width, which are adjacent, as [unit][Width]; lanes
/// beyond the operand become zero. The sums along k are added to `sums` (Width) unless null.
template <int Width, class T>
[[gnu::noinline]] void matmul_pack_across(MatmulUnit<T>* to, const MatmulOperand<T>& from, index_t first_lane,
                                          index_t first, index_t last, accumulator_t<T>* sums) {
  using U = MatmulUnit<T>;
  constexpr int lanes = vector_lanes<U>;
  constexpr index_t depth = matmul_depth<T>;
  constexpr index_t line = 64 / sizeof(T);
  const index_t valid = from.lanes - first_lane;
  Vector<accumulator_t<T>> sum[Width / lanes] = {};
  const T* row = from.data + first * from.stride + first_lane;
  for (index_t p = first; p < last; p += depth, row += depth * from.stride, to += Width) {
    const T* const next = depth == 2 && p + 1 < last ? row + from.stride : nullptr;
    for (index_t i = 0; i < depth; ++i) {
      for (index_t lane = 0; lane < Width; lane += line)
        __builtin_prefetch(row + (matmul_pack_rows + i) * from.stride + lane, 0, 2);
    }
    unrolled<Width / lanes>([&](auto g) {
      const Vector<U> units = units_across<T>(row + g * lanes, next != nullptr ? next + g * lanes : next,
                                              std::max<index_t>(0, valid - g * lanes));
      store(to + g * lanes, units);
      if (sums != nullptr) add_units<accumulator_t<T>, U>(sum[g], units);
    });
  }
  if (sums != nullptr) {
    unrolled<Width / lanes>(
        [&](auto g) { store(sums + g * lanes, Vector<accumulator_t<T>>(load(sums + g * lanes) + sum[g])); });
  }
}

/// The same of lanes that are rows of memory. Fetches what lies `ahead` lanes further, which is packed next.
template <int Width, class T>
[[gnu::noinline]] void matmul_pack_along(MatmulUnit<T>* to, const MatmulOperand<T>& from, index_t first_lane,
                                         index_t first, index_t last, index_t ahead) {
  using U = MatmulUnit<T>;
  constexpr int lanes = vector_lanes<U>;
  constexpr index_t depth = matmul_depth<T>;
  const index_t valid = from.lanes - first_lane;
  for (index_t p = first; p < last; p += lanes * depth, to += lanes * Width) {
    const index_t units = std::min<index_t>(lanes, (last - p + depth - 1) / depth);
    for (int g = 0; g < Width / lanes; ++g) {
      Vector<U> square[lanes];  // (lanes of the operand, units), then its transpose
      unrolled<lanes>([&](auto i) {
        const index_t lane = g * lanes + i;
        const T* const place = from.data + (first_lane + lane) * from.stride + p;
        __builtin_prefetch(place + ahead * from.stride, 0, 2);
        square[i] = units_along<T>(place, lane < valid ? last - p : 0);
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

/// Packs strips [begin, end) of a product: strip s has lanes s * Step ... + Width, and becomes [unit][Width] of `to`
/// (strips, units, Width). Where lanes are adjacent, `sums` (strips, Width) gets the sums along k unless null.
template <int Step, int Width, class T>
void matmul_pack(MatmulUnit<T>* to, const MatmulOperand<T>& from, index_t begin, index_t end, index_t first,
                 index_t last, accumulator_t<T>* sums = nullptr) {
  const index_t strip_size = (last - first + matmul_depth<T> - 1) / matmul_depth<T> * Width;
  if (!from.lanes_adjacent) {
    for (index_t s = begin; s < end; ++s) {
      matmul_pack_along<Width>(to + (s - begin) * strip_size, from, s * Step, first, last, Step);
    }
    return;
  }
  if (sums != nullptr) std::fill_n(sums, (end - begin) * Width, accumulator_t<T>{0});
  for (index_t p = first; p < last; p += matmul_pack_rows) {
    for (index_t s = begin; s < end; ++s) {
      matmul_pack_across<Width>(to + (s - begin) * strip_size + (p - first) / matmul_depth<T> * Width, from, s * Step,
                                p, std::min(last, p + matmul_pack_rows),
                                sums != nullptr ? sums + (s - begin) * Width : nullptr);
    }
  }
}
