// SPDX-License-Identifier: MIT
/// @file
/// @brief Vectors from memory of any dtype and back, whole or the end of a row; and pairs of bf16, which machines
/// multiply.

namespace detail {
typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));  // the bits of vector_lanes<float> of them
typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));

// Templates of A = float, so that of the intrinsics only those of the set's width need to fit.

/// 16-bit values as words. An intrinsic where g++ 12 makes five instructions of the conversion.
template <class W>
[[gnu::always_inline]] inline W zero_extended(const void* p) {
#if defined(__x86_64__)
  if constexpr (vector_bytes == 64) {
    return W(_mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_loadu_si256(static_cast<const __m256i*>(p))));
  }
#endif
  Halves bits;
  std::memcpy(&bits, p, sizeof(bits));
  return __builtin_convertvector(bits, W);
}
template <class A>
[[gnu::always_inline]] inline Vector<A> widened(const bf16* p) {
#if defined(__x86_64__)
  if constexpr (has_bf16_dot) {  // every value to the upper half of its word at once: no extension and shift
    alignas(vector_bytes) static constexpr std::uint16_t places[32] = {
        0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
    const __m512i bits = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    constexpr __mmask32 upper_halves = 0xAAAAAAAAU;
    return reinterpret_cast<Vector<A>>(
        _mm512_maskz_permutexvar_epi16(upper_halves, _mm512_load_si512(static_cast<const void*>(places)), bits));
  }
#endif
  return reinterpret_cast<Vector<A>>(zero_extended<Words>(p) << 16U);
}
template <class A>
[[gnu::always_inline]] inline Vector<A> widened(const half* p) {
#if defined(__x86_64__)
  if constexpr (vector_bytes == 64) {
    return Vector<A>(_mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  } else if constexpr (vector_bytes == 32) {
    return Vector<A>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
#endif
  Vector<A> wide{};
  for (int l = 0; l < vector_lanes<A>; ++l) wide[l] = static_cast<A>(p[l]);
  return wide;
}
/// Other dtypes in double.
template <class A, class S>
[[gnu::always_inline]] inline Vector<A> widened_to_double(const S* p) {
  Vector<A> wide{};
  if constexpr (std::is_same_v<S, float>) {
    typedef float Part __attribute__((vector_size(vector_bytes / 2)));
    Part part;
    std::memcpy(&part, p, sizeof(part));
    wide = __builtin_convertvector(part, Vector<A>);
  } else {
    for (int l = 0; l < vector_lanes<A>; ++l) wide[l] = static_cast<A>(static_cast<float>(p[l]));
  }
  return wide;
}
/// bf16's rounding, to nearest even, a NaN staying a quiet NaN: the bits are the lower halves of the words.
template <class A>
[[gnu::always_inline]] inline Words rounded_to_bf16(Vector<A> v) {
  const Words u = reinterpret_cast<Words>(v);
  const Words rounded = (u + 0x7FFFU + ((u >> 16U) & 1U)) >> 16U;
  const Words quiet = (u >> 16U) | 0x40U;
  return (u & 0x7FFFFFFFU) > 0x7F800000U ? quiet : rounded;
}
template <class A>
[[gnu::always_inline]] inline void store_narrow(bf16* p, Vector<A> v) {
#if defined(__x86_64__)
  if constexpr (has_bf16_dot) {  // its instruction takes subnormals for zero, so they go the other way
    constexpr int subnormal = 0x20;
    if (_mm512_fpclass_ps_mask(__m512(v), subnormal) == 0) [[likely]] {
      const auto bits = _mm512_cvtneps_pbh(__m512(v));
      std::memcpy(static_cast<void*>(p), &bits, sizeof(bits));
      return;
    }
  }
#endif
  const Halves bits = __builtin_convertvector(rounded_to_bf16<A>(v), Halves);
  std::memcpy(static_cast<void*>(p), &bits, sizeof(bits));
}
template <class A>
[[gnu::always_inline]] inline void store_narrow(half* p, Vector<A> v) {
#if defined(__x86_64__)
  constexpr int rounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  if constexpr (vector_bytes == 64) {
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtps_ph(0xFFFF, __m512(v), rounding));
  } else if constexpr (vector_bytes == 32) {
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(__m256(v), rounding));
  }
#endif
  for (int l = 0; l < vector_lanes<A>; ++l) p[l] = half(v[l]);
}
}  // namespace detail

/// A vector of A from memory that holds S: bf16 and half are widened, and float to double.
template <class A, class S>
[[gnu::always_inline]] inline Vector<A> load_as(const S* p) {
  if constexpr (std::is_same_v<A, S>) {
    return load(p);
  } else if constexpr (std::is_same_v<A, double>) {
    return detail::widened_to_double<A>(p);
  } else {
    return detail::widened<A>(p);
  }
}
/// To memory that holds S: rounded to nearest even, as S's own constructor does.
template <class A, class S>
[[gnu::always_inline]] inline void store_as(S* p, Vector<A> v) {
  if constexpr (std::is_same_v<A, S>) {
    store(p, v);
  } else {
    detail::store_narrow<A>(p, v);
  }
}

/// All lanes of a vector exist.
struct AllLanes {};
/// Only the first `count` do, at least one and not all: the end of a row.
struct FirstLanes {
  index_t count;
};

/// A vector of A from memory that holds S.
template <class A, class S>
[[gnu::always_inline]] inline Vector<A> load_as(const S* p, AllLanes /*which*/) {
  return load_as<A>(p);
}
/// Zero in the lanes that do not exist, which are not read.
template <class A, class S>
[[gnu::always_inline]] inline Vector<A> load_as(const S* p, FirstLanes which) {
  alignas(vector_bytes) S lanes[vector_lanes<A>] = {};
  for (index_t i = 0; i < which.count; ++i) lanes[i] = p[i];
  return load_as<A>(lanes);
}
/// To memory that holds S.
template <class A, class S>
[[gnu::always_inline]] inline void store_as(S* p, Vector<A> v, AllLanes /*which*/) {
  store_as<A>(p, v);
}
/// Lanes that do not exist are not written.
template <class A, class S>
[[gnu::always_inline]] inline void store_as(S* p, Vector<A> v, FirstLanes which) {
  alignas(vector_bytes) S lanes[vector_lanes<A>];
  store_as<A>(lanes, v);
  for (index_t i = 0; i < which.count; ++i) p[i] = lanes[i];
}

/// f(i, which) for the vectors of A that cover [0, n), i the first element of each: all lanes of each but the last's.
template <class A, class F>
[[gnu::always_inline]] inline void for_each_vector(index_t n, const F& f) {
  index_t i = 0;
  for (; i + vector_lanes<A> <= n; i += vector_lanes<A>) f(i, AllLanes{});
  if (i < n) f(i, FirstLanes{n - i});
}

/// Two adjacent bf16 in one lane, the first in the lower half: what dot products of bf16 multiply.
using Bf16Pair = std::uint32_t;

/// The pairs that lie there, aligned for bf16 only.
template <class Pair = Bf16Pair>
[[gnu::always_inline]] inline Vector<Pair> pairs_from(const bf16* p) {
  Vector<Pair> pairs;
  std::memcpy(&pairs, p, sizeof(pairs));
  return pairs;
}
/// Pairs of first[i] and second[i], one for each lane.
template <class A = float>
[[gnu::always_inline]] inline Vector<Bf16Pair> pairs_of(const bf16* first, const bf16* second) {
  return detail::zero_extended<detail::Words>(first) | (detail::zero_extended<detail::Words>(second) << 16U);
}
/// The first, then the second of every pair.
template <class A = float>
[[gnu::always_inline]] inline std::array<Vector<A>, 2> halves_of(Vector<Bf16Pair> pairs) {
  return {reinterpret_cast<Vector<A>>(pairs << 16U), reinterpret_cast<Vector<A>>(pairs & 0xFFFF0000U)};
}

/// sum + the dot product of two pairs, in every lane; where the machine has an instruction for it (has_bf16_dot),
/// which takes subnormals for zero and makes zero of subnormal sums.
template <class A, class Pair = Bf16Pair>
[[gnu::always_inline]] inline Vector<A> add_dots(Vector<Pair> x, Vector<Pair> y, Vector<A> sum) {
  static_assert(has_bf16_dot && sizeof(A) != 0);  // dependent, as Pair is: only where it is used
#if defined(__x86_64__)
  return Vector<A>(_mm512_dpbf16_ps(__m512(sum), __m512bh(x), __m512bh(y)));
#endif
}

/// The values of `first` and then `second`, rounded: lane l has numbers 2 l and 2 l + 1 of them. Subnormals become
/// zero, as add_dots would take them. Needs has_bf16_dot.
template <class A, class Pair = Bf16Pair>
[[gnu::always_inline]] inline Vector<Pair> adjacent_pairs(Vector<A> first, Vector<A> second) {
  static_assert(has_bf16_dot && sizeof(A) != 0);
#if defined(__x86_64__)
  return Vector<Pair>(_mm512_cvtne2ps_pbh(__m512(second), __m512(first)));
#endif
}

namespace detail {
template <class V, int... I>
[[gnu::always_inline]] inline V halves_interleaved(V x, std::integer_sequence<int, I...>) {
  constexpr int lanes = sizeof...(I);
  return __builtin_shufflevector(x, x, (I / 2 + (I % 2) * (lanes / 2))...);
}
}  // namespace detail

/// Pairs of first[l] and second[l], rounded. Needs has_bf16_dot.
template <class A>
[[gnu::always_inline]] inline Vector<Bf16Pair> rounded_pairs(Vector<A> first, Vector<A> second) {
  using Bits = Vector<std::uint16_t>;
  const Bits bits = reinterpret_cast<Bits>(adjacent_pairs<A>(first, second));
  return reinterpret_cast<Vector<Bf16Pair>>(
      detail::halves_interleaved(bits, std::make_integer_sequence<int, vector_lanes<std::uint16_t>>{}));
}
