// SPDX-License-Identifier: MIT
/// @file
/// @brief exp, tanh, erf and the logistic function of a float, a vector of floats, a double and a vector of doubles.
///
/// Those of floats have no branches, and are the same text for one float and for a vector: a value has the same bits at
/// every position of an array, in a vector and alone. They use multiply_add() wherever a product meets a sum, so no
/// compiler can contract differently in two places. The polynomials are those of S. Moshier's Cephes library and, for
/// erf, N. Juffa's. Doubles go to the standard library, one by one.

/// a * b + c, rounded once where the target has fused multiply-add and twice where it has not: never left to the
/// compiler's choice.
template <std::floating_point T>
[[nodiscard]] inline T multiply_add(T a, T b, T c) {
  if constexpr (!has_fma) {
    return a * b + c;
  } else if constexpr (sizeof(T) == sizeof(float)) {
    return __builtin_fmaf(a, b, c);
  } else {
    return __builtin_fma(a, b, c);
  }
}

/// `yes` or `no` by masks: from ?: g++ makes branches, and loops with branches stay scalar.
[[nodiscard]] inline float select(bool condition, float yes, float no) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(condition);
  return bits_as<float>((bits_as<std::uint32_t>(yes) & mask) | (bits_as<std::uint32_t>(no) & ~mask));
}
[[nodiscard]] inline double select(bool condition, double yes, double no) {
  const std::uint64_t mask = 0U - static_cast<std::uint64_t>(condition);
  return bits_as<double>((bits_as<std::uint64_t>(yes) & mask) | (bits_as<std::uint64_t>(no) & ~mask));
}
/// Lane by lane; `mask` is what comparing vectors gives.
template <class Mask, class V>
requires(!std::same_as<Mask, bool>) [[nodiscard, gnu::always_inline]] inline V select(Mask mask, V yes, V no) {
  return mask ? yes : no;
}

/// One float, or a vector of them.
template <class V>
concept Floats = std::same_as<V, float> || std::same_as<V, Vector<float>>;

namespace detail {
/// Integers as many and as wide as the floats of V.
template <class V>
struct IntegersOf {
  using Unsigned = Vector<std::uint32_t>;
  using Signed = Vector<std::int32_t>;
};
template <>
struct IntegersOf<float> {
  using Unsigned = std::uint32_t;
  using Signed = std::int32_t;
};

template <Floats V>
[[gnu::always_inline]] inline V all(float value) {
  if constexpr (std::is_same_v<V, float>) {
    return value;
  } else {
    return broadcast(value);
  }
}
template <Floats V>
[[gnu::always_inline]] inline V magnitude(V x) {
  return bits_as<V>(bits_as<typename IntegersOf<V>::Unsigned>(x) & 0x7FFFFFFFU);
}
/// magnitude >= 0 with the sign of x.
template <Floats V>
[[gnu::always_inline]] inline V with_sign_of(V x, V magnitude) {
  using Unsigned = typename IntegersOf<V>::Unsigned;
  return bits_as<V>(bits_as<Unsigned>(magnitude) | (bits_as<Unsigned>(x) & 0x80000000U));
}

/// f of each lane.
template <class F>
[[gnu::always_inline]] inline Vector<double> each_lane(Vector<double> v, const F& f) {
  for (int l = 0; l < vector_lanes<double>; ++l) v[l] = f(v[l]);
  return v;
}
}  // namespace detail

/// e^x within 1 ulp (2 without fused multiply-add); 0 and infinity beyond the range, NaN stays NaN.
template <Floats V>
[[nodiscard, gnu::always_inline]] inline V exp(V x) {
  using Unsigned = typename detail::IntegersOf<V>::Unsigned;
  using Signed = typename detail::IntegersOf<V>::Signed;
  constexpr auto all = detail::all<V>;
  constexpr float round_to_integer = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  constexpr float least = -104.0F, greatest = 89.0F;  // beyond them the result is 0 or infinity anyhow
  x = select(x < least, all(least), x);               // written so that a NaN passes
  x = select(x > greatest, all(greatest), x);
  const V shifted = multiply_add(x, all(1.44269504F), all(round_to_integer));
  const V n = shifted - round_to_integer;
  V r = multiply_add(n, all(-0.693359375F), x);  // x - n ln 2, the constant in two parts
  r = multiply_add(n, all(2.12194440e-4F), r);
  V p = all(1.9875691500e-4F);
  p = multiply_add(p, r, all(1.3981999507e-3F));
  p = multiply_add(p, r, all(8.3334519073e-3F));
  p = multiply_add(p, r, all(4.1665795894e-2F));
  p = multiply_add(p, r, all(1.6666665459e-1F));
  p = multiply_add(p, r, all(5.0000001201e-1F));
  p = multiply_add(p, V(r * r), r) + 1.0F;
  if constexpr (!std::is_same_v<V, float> && has_scale_by_power) {
    return scale_by_power<float>(p, n);
  } else {
    // p * 2^n in two factors, because 2^n alone may lie outside the normal range.
    const auto exponent = bits_as<Signed>(bits_as<Unsigned>(shifted) - bits_as<std::uint32_t>(round_to_integer));
    const Signed half = exponent >> 1;
    const auto power = [&](Signed e) { return bits_as<V>((bits_as<Unsigned>(e) + 127U) << 23U); };
    return p * power(half) * power(exponent - half);
  }
}

/// tanh x within 2 ulp.
template <Floats V>
[[nodiscard, gnu::always_inline]] inline V tanh(V x) {
  constexpr auto all = detail::all<V>;
  const V a = detail::magnitude(x);
  const V s = a * a;
  V p = all(-5.70498872745e-3F);
  p = multiply_add(p, s, all(2.06390887954e-2F));
  p = multiply_add(p, s, all(-5.37397155531e-2F));
  p = multiply_add(p, s, all(1.33314422036e-1F));
  p = multiply_add(p, s, all(-3.33332819422e-1F));
  const V small = multiply_add(V(p * s), a, a);
  const V large = 1.0F - 2.0F / (exp(V(2.0F * a)) + 1.0F);
  return detail::with_sign_of(x, select(a < 0.625F, small, large));
}

/// erf x within 2 ulp.
template <Floats V>
[[nodiscard, gnu::always_inline]] inline V erf(V x) {
  constexpr auto all = detail::all<V>;
  V a = detail::magnitude(x);
  a = select(a > 4.0F, all(4.0F), a);  // erf(4) rounds to 1
  const V s = a * a;
  V p = all(-5.96761703e-4F);
  p = multiply_add(p, s, all(4.99119423e-3F));
  p = multiply_add(p, s, all(-2.67681349e-2F));
  p = multiply_add(p, s, all(1.12819925e-1F));
  p = multiply_add(p, s, all(-3.76125336e-1F));
  p = multiply_add(p, s, all(1.28379166e-1F));
  const V small = multiply_add(p, a, a);
  V q = multiply_add(all(-1.72853470e-5F), a, all(3.83197126e-4F));  // -log(1 - erf a), from 0.93 on
  q = multiply_add(q, s, multiply_add(all(-3.88396438e-3F), a, all(2.42546219e-2F)));
  q = multiply_add(q, a, all(-1.06777877e-1F));
  q = multiply_add(q, a, all(-6.34846687e-1F));
  q = multiply_add(q, a, all(-1.28717512e-1F));
  q = multiply_add(q, a, V(-a));
  const V large = 1.0F - exp(q);
  return detail::with_sign_of(x, select(a > 0.927734375F, large, small));
}

/// 1 / (1 + e^-x) within 3 ulp where the result is normal; below it is rounded to 0.
template <Floats V>
[[nodiscard, gnu::always_inline]] inline V sigmoid(V x) {
  return 1.0F / (1.0F + exp(V(-x)));
}

[[nodiscard]] inline double exp(double x) { return std::exp(x); }
[[nodiscard]] inline double tanh(double x) { return std::tanh(x); }
[[nodiscard]] inline double erf(double x) { return std::erf(x); }
[[nodiscard]] inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
[[nodiscard]] inline Vector<double> exp(Vector<double> x) {
  return detail::each_lane(x, [](double v) { return std::exp(v); });
}
[[nodiscard]] inline Vector<double> tanh(Vector<double> x) {
  return detail::each_lane(x, [](double v) { return std::tanh(v); });
}
[[nodiscard]] inline Vector<double> erf(Vector<double> x) {
  return detail::each_lane(x, [](double v) { return std::erf(v); });
}
[[nodiscard]] inline Vector<double> sigmoid(Vector<double> x) { return 1.0 / (1.0 + exp(Vector<double>(-x))); }
