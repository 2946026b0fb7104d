// SPDX-License-Identifier: MIT
/// @file
/// @brief exp, tanh, erf and the logistic function without branches, so that compilers vectorise loops over them.
///
/// The float versions use multiply_add() wherever a product meets a sum: no compiler can then contract differently in
/// a loop's vector body and in its scalar tail, and a value has the same bits at every position of an array. The
/// polynomials are those of S. Moshier's Cephes library and, for erf, N. Juffa's. Doubles go to the standard library.

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
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(yes) & mask) | (std::bit_cast<std::uint32_t>(no) & ~mask));
}
[[nodiscard]] inline double select(bool condition, double yes, double no) {
  const std::uint64_t mask = 0U - static_cast<std::uint64_t>(condition);
  return std::bit_cast<double>((std::bit_cast<std::uint64_t>(yes) & mask) | (std::bit_cast<std::uint64_t>(no) & ~mask));
}

/// e^x within 1 ulp (2 without fused multiply-add); 0 and infinity beyond the range, NaN stays NaN.
[[nodiscard]] inline float exp(float x) {
  constexpr float round_to_integer = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  constexpr float least = -104.0F, greatest = 89.0F;  // beyond them the result is 0 or infinity anyhow
  x = select(x < least, least, x);                    // written so that a NaN passes
  x = select(x > greatest, greatest, x);
  const float shifted = multiply_add(x, 1.44269504F, round_to_integer);
  const float n = shifted - round_to_integer;
  float r = multiply_add(n, -0.693359375F, x);  // x - n ln 2, the constant in two parts
  r = multiply_add(n, 2.12194440e-4F, r);
  float p = 1.9875691500e-4F;
  p = multiply_add(p, r, 1.3981999507e-3F);
  p = multiply_add(p, r, 8.3334519073e-3F);
  p = multiply_add(p, r, 4.1665795894e-2F);
  p = multiply_add(p, r, 1.6666665459e-1F);
  p = multiply_add(p, r, 5.0000001201e-1F);
  p = multiply_add(p, r * r, r) + 1.0F;
  // p * 2^n in two factors, because 2^n alone may lie outside the normal range.
  const auto exponent =
      static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(round_to_integer));
  const std::int32_t half = exponent >> 1;
  const auto power = [](std::int32_t e) { return std::bit_cast<float>((static_cast<std::uint32_t>(e) + 127U) << 23U); };
  return p * power(half) * power(exponent - half);
}

/// tanh x within 2 ulp.
[[nodiscard]] inline float tanh(float x) {
  const float a = std::fabs(x);
  const float s = a * a;
  float p = -5.70498872745e-3F;
  p = multiply_add(p, s, 2.06390887954e-2F);
  p = multiply_add(p, s, -5.37397155531e-2F);
  p = multiply_add(p, s, 1.33314422036e-1F);
  p = multiply_add(p, s, -3.33332819422e-1F);
  const float small = multiply_add(p * s, a, a);
  const float large = 1.0F - 2.0F / (exp(2.0F * a) + 1.0F);
  return std::copysign(select(a < 0.625F, small, large), x);
}

/// erf x within 2 ulp.
[[nodiscard]] inline float erf(float x) {
  float a = std::fabs(x);
  a = select(a > 4.0F, 4.0F, a);  // erf(4) rounds to 1
  const float s = a * a;
  float p = -5.96761703e-4F;
  p = multiply_add(p, s, 4.99119423e-3F);
  p = multiply_add(p, s, -2.67681349e-2F);
  p = multiply_add(p, s, 1.12819925e-1F);
  p = multiply_add(p, s, -3.76125336e-1F);
  p = multiply_add(p, s, 1.28379166e-1F);
  const float small = multiply_add(p, a, a);
  float q = multiply_add(-1.72853470e-5F, a, 3.83197126e-4F);  // -log(1 - erf a), from 0.93 on
  q = multiply_add(q, s, multiply_add(-3.88396438e-3F, a, 2.42546219e-2F));
  q = multiply_add(q, a, -1.06777877e-1F);
  q = multiply_add(q, a, -6.34846687e-1F);
  q = multiply_add(q, a, -1.28717512e-1F);
  q = multiply_add(q, a, -a);
  const float large = 1.0F - exp(q);
  return std::copysign(select(a > 0.927734375F, large, small), x);
}

/// 1 / (1 + e^-x) within 3 ulp where the result is normal; below it is rounded to 0.
[[nodiscard]] inline float sigmoid(float x) { return 1.0F / (1.0F + exp(-x)); }

[[nodiscard]] inline double exp(double x) { return std::exp(x); }
[[nodiscard]] inline double tanh(double x) { return std::tanh(x); }
[[nodiscard]] inline double erf(double x) { return std::erf(x); }
[[nodiscard]] inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
