// SPDX-License-Identifier: MIT
/// @file
/// @brief The one thin vector type of an instruction set, spelt with the vector extensions of g++ and clang++; the few
/// things that have no spelling there are intrinsics, and here alone.
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

/// v stays in a register: g++ would read it from memory again for every use, and as many reads as products are too many.
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
/// Lane i of the result, i < Count, is f of the lanes of v[i]: of lane l and lane l + half, for half = lanes/2, lanes/4,
/// ..., 1.
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

/// Two adjacent bf16 in one lane, the first in the lower half: what dot products of bf16 multiply.
using Bf16Pair = std::uint32_t;

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

/// sum + the dot product of two pairs, in every lane; where the machine has an instruction for it (has_bf16_dot).
template <class A, class Pair = Bf16Pair>
[[gnu::always_inline]] inline Vector<A> add_dots(Vector<Pair> x, Vector<Pair> y, Vector<A> sum) {
  static_assert(has_bf16_dot && sizeof(A) != 0);  // dependent, as Pair is: only where it is used
#if defined(__x86_64__)
  return Vector<A>(_mm512_dpbf16_ps(__m512(sum), __m512bh(x), __m512bh(y)));
#endif
}

/// The values of `first` and then `second`, rounded: lane l has numbers 2 l and 2 l + 1 of them. Needs has_bf16_dot.
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

/// The largest lane, if none is NaN.
template <class T>
[[gnu::always_inline]] inline T largest_lane(Vector<T> v) {
  const Vector<T> one[1] = {v};
  return lane_maxima<T, 1>(one)[0];
}
