// SPDX-License-Identifier: MIT
/// @file
/// @brief The target's widest vectors, spelt with the vector extensions of g++ and clang++: no intrinsics.
///
/// The width is that of the instruction set the translation unit is compiled for; results may differ between widths in
/// the last bits, never within one.
#pragma once

#if defined(__GNUC__)

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <storylm/core/dtype.hpp>

namespace storylm::cpu {

/// Bytes in the widest vector register of the target.
#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

namespace detail {
template <class T>
struct VectorTypes {
  typedef T Vector __attribute__((vector_size(vector_bytes)));
  typedef T Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};

template <class F, int... I>
[[gnu::always_inline]] inline void unrolled(const F& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}
}  // namespace detail

/// A register full of T; +, - and * are elementwise, v[i] is lane i.
template <class T>
using Vector = typename detail::VectorTypes<T>::Vector;

/// Number of T in a Vector.
template <class T>
inline constexpr int vector_lanes = vector_bytes / static_cast<int>(sizeof(T));

/// f(0), f(1), ..., f(N - 1), each with its number as a compile-time constant, so that arrays indexed by it live in
/// registers.
template <int N, class F>
[[gnu::always_inline]] inline void unrolled(const F& f) {
  detail::unrolled(f, std::make_integer_sequence<int, N>{});
}

/// A vector from memory aligned for T only.
template <class T>
[[gnu::always_inline]] inline Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename detail::VectorTypes<T>::Unaligned*>(p);
}

/// A vector to memory aligned for T only.
template <class T>
[[gnu::always_inline]] inline void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename detail::VectorTypes<T>::Unaligned*>(p) = v;
}

/// The first `count` lanes from memory, zero in the others; reads nothing beyond them. count < 1: all zero.
template <class T>
[[gnu::always_inline]] inline Vector<T> load_first(const T* p, index_t count) {
  if (count >= vector_lanes<T>) return load(p);
  alignas(vector_bytes) T lanes[vector_lanes<T>] = {};
  for (index_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

namespace detail {
template <class T, int Count>
struct PartTypes {
  typedef T Part __attribute__((vector_size(Count * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class V, int... I>
[[gnu::always_inline]] inline auto first_lanes(V v, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(v, v, I...);
}
}  // namespace detail

/// The first Count lanes (a power of two) of v, plus `addend` (Count) unless null, to memory aligned for T only.
template <int Count, class T>
[[gnu::always_inline]] inline void store_sums(T* p, Vector<T> v, const T* addend) {
  if constexpr (Count == 1) {
    *p = addend != nullptr ? v[0] + *addend : v[0];
  } else {
    using Part = typename detail::PartTypes<T, Count>::Part;
    Part part = detail::first_lanes(v, std::make_integer_sequence<int, Count>{});
    if (addend != nullptr) part = part + *reinterpret_cast<const Part*>(addend);
    *reinterpret_cast<Part*>(p) = part;
  }
}

/// The same value in every lane.
template <class T>
[[gnu::always_inline]] inline Vector<T> broadcast(T value) {
  return value - Vector<T>{};  // minus: keeps the sign of zero
}

/// a * b + c, rounded once where the target has fused multiply-add; everywhere the same choice, so that no tail and no
/// edge rounds differently from the body.
template <class T>
[[gnu::always_inline]] inline T multiply_add(T a, T b, T c) {
#if defined(__clang__)
#pragma clang fp contract(on)  // an llvm.fmuladd; "fast" may be undone where a lane is taken out of the vector
#endif
  return a * b + c;  // g++ contracts by default (-ffp-contract=fast)
}

namespace detail {
template <bool High, class V, int... I>
[[gnu::always_inline]] inline V interleave(V x, V y, std::integer_sequence<int, I...>) {
  constexpr int lanes = sizeof...(I);
  return __builtin_shufflevector(x, y, ((High ? lanes / 2 : 0) + I / 2 + (I % 2) * lanes)...);
}
}  // namespace detail

/// x0 y0 x1 y1 ... of the lower halves.
template <class T>
[[gnu::always_inline]] inline Vector<T> interleave_low(Vector<T> x, Vector<T> y) {
  return detail::interleave<false>(x, y, std::make_integer_sequence<int, vector_lanes<T>>{});
}
/// The same of the upper halves.
template <class T>
[[gnu::always_inline]] inline Vector<T> interleave_high(Vector<T> x, Vector<T> y) {
  return detail::interleave<true>(x, y, std::make_integer_sequence<int, vector_lanes<T>>{});
}

namespace detail {
template <int Width, class V, int... I>
[[gnu::always_inline]] inline V lanes_from(V x, std::integer_sequence<int, I...>) {
  constexpr int lanes = sizeof...(I);
  return __builtin_shufflevector(x, x, ((I + Width) % lanes)...);
}
template <int Width, int Last, class T>
[[gnu::always_inline]] inline Vector<T> fold_lanes(Vector<T> x) {
  if constexpr (Width < Last) {
    return x;
  } else {
    const Vector<T> upper = lanes_from<Width>(x, std::make_integer_sequence<int, vector_lanes<T>>{});
    return fold_lanes<Width / 2, Last, T>(x + upper);
  }
}
template <class T, int Count>
[[gnu::always_inline]] inline Vector<T> lane_sums(const Vector<T> (&v)[Count]) {
  if constexpr (Count == 1) {
    return v[0];
  } else {
    Vector<T> half[Count / 2];
    storylm::cpu::unrolled<Count / 2>([&](auto i) {
      half[i] = interleave_low<T>(v[i], v[i + Count / 2]) + interleave_high<T>(v[i], v[i + Count / 2]);
    });
    return lane_sums<T, Count / 2>(half);
  }
}
}  // namespace detail

/// Lane i of the result, i < Count, is the sum of the lanes of v[i]: lane l is added to lane l + half, for half =
/// lanes/2, lanes/4, ..., 1. The same tree, so the same bits, for every Count (a power of two, at most the lanes).
template <class T, int Count>
[[gnu::always_inline]] inline Vector<T> lane_sums(const Vector<T> (&v)[Count]) {
  static_assert(Count <= vector_lanes<T> && (Count & (Count - 1)) == 0);
  // Pairs of vectors are halved interleaved in one; what is left in the end is Count sums in parts.
  return detail::fold_lanes<vector_lanes<T> / 2, Count, T>(detail::lane_sums<T, Count>(v));
}

/// Transposes a square of vector_lanes rows in place. Each pass interleaves row i with row i + lanes/2: it moves the
/// top bit of the lane's number to the bottom of the row's and the other way round; after log2(lanes) passes they have
/// changed places.
template <class T>
[[gnu::always_inline]] inline void transpose(Vector<T> (&rows)[vector_lanes<T>]) {
  constexpr int lanes = vector_lanes<T>;
  for (int pass = 1; pass < lanes; pass *= 2) {
    Vector<T> next[lanes];
    unrolled<lanes / 2>([&](auto i) {
      next[2 * i] = interleave_low<T>(rows[i], rows[i + lanes / 2]);
      next[2 * i + 1] = interleave_high<T>(rows[i], rows[i + lanes / 2]);
    });
    unrolled<lanes>([&](auto i) { rows[i] = next[i]; });
  }
}

}  // namespace storylm::cpu

#endif  // __GNUC__
