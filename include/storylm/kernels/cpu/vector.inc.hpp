// SPDX-License-Identifier: MIT
/// @file
/// @brief The one thin vector type of an instruction set, spelt with the vector extensions of g++ and clang++; the few
/// things that have no spelling there are intrinsics, here and in vector_dtypes.inc.hpp alone.
///
/// Results may differ between instruction sets in the last bits, never within one.

namespace detail {
template <class T>
struct VectorTypes {
  typedef T Vector __attribute__((vector_size(vector_bytes)));
  typedef T Unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};

template <class F, int... I>
[[gnu::always_inline]] inline void unrolled_over(const F& f, std::integer_sequence<int, I...>) {
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
  detail::unrolled_over(f, std::make_integer_sequence<int, N>{});
}

/// std::bit_cast, of vectors too: one in std would be compiled for what the flags promise, and take and return vectors
/// in other registers than these functions do.
template <class To, class From>
[[gnu::always_inline]] inline To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
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

/// The first Count lanes (a power of two) of v to memory aligned for T only.
template <int Count, class T>
[[gnu::always_inline]] inline void store_sums(T* p, Vector<T> v) {
  if constexpr (Count == 1) {
    *p = v[0];
  } else {
    using Part = typename detail::PartTypes<T, Count>::Part;
    *reinterpret_cast<Part*>(p) = Part(detail::first_lanes(v, std::make_integer_sequence<int, Count>{}));
  }
}

/// v stays in a register: g++ would read it from memory again for every use, and as many reads as products are too
/// many.
template <class V>
[[gnu::always_inline]] inline void keep_in_register(V& v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

/// Asks for the cache line at p, into the second cache. Anywhere: nothing happens where there is no memory.
[[gnu::always_inline]] inline void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }

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
template <int Width, int Last, class T, class F>
[[gnu::always_inline]] inline Vector<T> fold_lanes(Vector<T> x, const F& f) {
  if constexpr (Width < Last) {
    return x;
  } else {
    const Vector<T> upper = lanes_from<Width>(x, std::make_integer_sequence<int, vector_lanes<T>>{});
    return fold_lanes<Width / 2, Last, T>(f(x, upper), f);
  }
}
template <class T, int Count, class F>
[[gnu::always_inline]] inline Vector<T> halve_together(const Vector<T> (&v)[Count], const F& f) {
  if constexpr (Count == 1) {
    return v[0];
  } else {
    Vector<T> half[Count / 2];
    unrolled<Count / 2>([&](auto i) {
      half[i] = f(interleave_low<T>(v[i], v[i + Count / 2]), interleave_high<T>(v[i], v[i + Count / 2]));
    });
    return halve_together<T, Count / 2>(half, f);
  }
}
/// Lane i of the result, i < Count, is f of the lanes of v[i]: of lane l and lane l + half, for half = lanes/2,
/// lanes/4, ..., 1.
template <class T, int Count, class F>
[[gnu::always_inline]] inline Vector<T> lane_totals(const Vector<T> (&v)[Count], const F& f) {
  static_assert(Count <= vector_lanes<T> && (Count & (Count - 1)) == 0);
  // Pairs of vectors are halved interleaved in one; what is left in the end is Count totals in parts.
  return fold_lanes<vector_lanes<T> / 2, Count, T>(halve_together<T, Count>(v, f), f);
}
}  // namespace detail

/// The larger of each two lanes; b where one is NaN.
template <class T>
[[gnu::always_inline]] inline Vector<T> larger(Vector<T> a, Vector<T> b) {
#if defined(__x86_64__)  // one instruction where compilers compare and blend
  constexpr bool single = std::is_same_v<T, float>;
  if constexpr (vector_bytes == 64 && single) {
    return Vector<T>(_mm512_maskz_max_ps(0xFFFF, __m512(a), __m512(b)));
  } else if constexpr (vector_bytes == 64) {
    return Vector<T>(_mm512_maskz_max_pd(0xFF, __m512d(a), __m512d(b)));
  } else if constexpr (vector_bytes == 32 && single) {
    return Vector<T>(_mm256_max_ps(__m256(a), __m256(b)));
  } else if constexpr (vector_bytes == 32) {
    return Vector<T>(_mm256_max_pd(__m256d(a), __m256d(b)));
  } else if constexpr (single) {
    return Vector<T>(_mm_max_ps(__m128(a), __m128(b)));
  } else {
    return Vector<T>(_mm_max_pd(__m128d(a), __m128d(b)));
  }
#else
  return a > b ? a : b;
#endif
}

namespace detail {
struct Sum {
  template <class V>
  [[gnu::always_inline]] inline V operator()(V a, V b) const {
    return a + b;
  }
};
template <class T>
struct Larger {
  [[gnu::always_inline]] inline Vector<T> operator()(Vector<T> a, Vector<T> b) const { return larger<T>(a, b); }
};
}  // namespace detail

/// Lane i of the result, i < Count, is the sum of the lanes of v[i]: lane l is added to lane l + half, for half =
/// lanes/2, lanes/4, ..., 1. The same tree, so the same bits, for every Count (a power of two, at most the lanes).
template <class T, int Count>
[[gnu::always_inline]] inline Vector<T> lane_sums(const Vector<T> (&v)[Count]) {
  return detail::lane_totals<T, Count>(v, detail::Sum{});
}
/// The same of the largest lanes, if none is NaN.
template <class T, int Count>
[[gnu::always_inline]] inline Vector<T> lane_maxima(const Vector<T> (&v)[Count]) {
  return detail::lane_totals<T, Count>(v, detail::Larger<T>{});
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

namespace detail {
template <class V, int... I>
[[gnu::always_inline]] inline V swap_neighbours(V x, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(x, x, (I ^ 1)...);
}
}  // namespace detail

/// x1 x0 x3 x2 ...
template <class T>
[[gnu::always_inline]] inline Vector<T> swap_neighbours(Vector<T> x) {
  return detail::swap_neighbours(x, std::make_integer_sequence<int, vector_lanes<T>>{});
}

/// The square root of every lane, correctly rounded like std::sqrt.
template <std::floating_point T>
[[gnu::always_inline]] inline void square_root(Vector<T>& v) {
#if defined(__x86_64__)
  constexpr bool single = std::is_same_v<T, float>;
  if constexpr (vector_bytes == 64 && single) {  // masked, for the plain ones of g++ 12 read an uninitialised value
    v = Vector<T>(_mm512_maskz_sqrt_ps(0xFFFF, __m512(v)));
  } else if constexpr (vector_bytes == 64) {
    v = Vector<T>(_mm512_maskz_sqrt_pd(0xFF, __m512d(v)));
  } else if constexpr (vector_bytes == 32 && single) {
    v = Vector<T>(_mm256_sqrt_ps(__m256(v)));
  } else if constexpr (vector_bytes == 32) {
    v = Vector<T>(_mm256_sqrt_pd(__m256d(v)));
  } else if constexpr (single) {
    v = Vector<T>(_mm_sqrt_ps(__m128(v)));
  } else {
    v = Vector<T>(_mm_sqrt_pd(__m128d(v)));
  }
#else
  for (int l = 0; l < vector_lanes<T>; ++l) v[l] = std::sqrt(v[l]);
#endif
}

/// a ^ b ^ c, in one instruction where there is one.
template <class T>
[[gnu::always_inline]] inline Vector<T> exclusive_or(Vector<T> a, Vector<T> b, Vector<T> c) {
#if defined(__x86_64__)
  if constexpr (vector_bytes == 64) {
    return Vector<T>(_mm512_maskz_ternarylogic_epi64(0xFF, __m512i(a), __m512i(b), __m512i(c), 0x96));
  }
#endif
  return a ^ b ^ c;
}

/// The 64-bit products of the lower halves of 64-bit lanes; what is in the upper halves does not matter.
template <class T = std::uint64_t>
[[gnu::always_inline]] inline Vector<T> multiply_lower_halves(Vector<T> a, Vector<T> b) {
#if defined(__x86_64__)
  if constexpr (vector_bytes == 64) {
    return Vector<T>(_mm512_maskz_mul_epu32(0xFF, __m512i(a), __m512i(b)));
  } else if constexpr (vector_bytes == 32) {
    return Vector<T>(_mm256_mul_epu32(__m256i(a), __m256i(b)));
  } else {
    return Vector<T>(_mm_mul_epu32(__m128i(a), __m128i(b)));
  }
#else
  return (a & T{0xFFFFFFFFU}) * (b & T{0xFFFFFFFFU});
#endif
}

/// True where scale_by_power is one instruction.
inline constexpr bool has_scale_by_power = vector_bytes == 64;

/// v * 2^n, rounded once, for whole numbers n.
template <std::same_as<float> T>
requires has_scale_by_power [[gnu::always_inline]] inline Vector<T> scale_by_power(Vector<T> v, Vector<T> n) {
#if defined(__x86_64__)
  return Vector<T>(_mm512_maskz_scalef_ps(0xFFFF, __m512(v), __m512(n)));
#endif
}

/// The largest lane, if none is NaN.
template <class T>
[[gnu::always_inline]] inline T largest_lane(Vector<T> v) {
  const Vector<T> one[1] = {v};
  return lane_maxima<T, 1>(one)[0];
}
