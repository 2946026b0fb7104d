// SPDX-License-Identifier: MIT
/// @file
/// @brief bf16 and half: every value, and the rounding at and beside every midpoint between neighbours.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <doctest/doctest.h>

#include <storylm/core/dtype.hpp>

using namespace storylm;

namespace {

template <class T>
T from_bits(std::uint32_t bits) {
  T value;
  value.bits = static_cast<std::uint16_t>(bits);
  return value;
}

/// The value of a 16-bit float by definition; infinity and NaN aside.
double defined_value(std::uint32_t bits, int mantissa_bits, int bias) {
  const auto fraction = static_cast<int>(bits & ((1U << mantissa_bits) - 1U));
  const auto exponent = static_cast<int>((bits & 0x7FFFU) >> mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias - mantissa_bits)
                                         : std::ldexp(fraction + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

template <class T>
struct Layout;
template <>
struct Layout<bf16> {
  static constexpr int mantissa_bits = 7;
  static constexpr int bias = 127;
  static constexpr std::uint32_t infinity = 0x7F80U;
};
template <>
struct Layout<half> {
  static constexpr int mantissa_bits = 10;
  static constexpr int bias = 15;
  static constexpr std::uint32_t infinity = 0x7C00U;
};

}  // namespace

TEST_CASE_TEMPLATE("16-bit floats: every value reads as defined and comes back unchanged", T, bf16, half) {
  using L = Layout<T>;
  long wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const T value = from_bits<T>(bits);
    const auto read = static_cast<float>(value);
    const std::uint32_t magnitude = bits & 0x7FFFU;
    if (magnitude > L::infinity) {
      wrong += std::isnan(read) && std::isnan(static_cast<float>(T(read))) ? 0 : 1;
      continue;
    }
    const double expected = magnitude == L::infinity ? std::copysign(std::numeric_limits<double>::infinity(), read)
                                                     : defined_value(bits, L::mantissa_bits, L::bias);
    wrong += static_cast<double>(read) == expected ? 0 : 1;
    wrong += std::signbit(read) == ((bits & 0x8000U) != 0) ? 0 : 1;
    wrong += T(read).bits == bits ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("16-bit floats: to nearest, ties to even, between all neighbours", T, bf16, half) {
  using L = Layout<T>;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  long wrong = 0;
  for (std::uint32_t low = 0; low < L::infinity; ++low) {  // the last one's upper neighbour is where infinity begins
    const double a = defined_value(low, L::mantissa_bits, L::bias);
    const double b = defined_value(low + 1U, L::mantissa_bits, L::bias);
    const auto middle = static_cast<float>(a / 2 + b / 2);
    REQUIRE(static_cast<double>(middle) == a / 2 + b / 2);  // exact, or the test tests nothing
    const std::uint32_t even = low % 2U == 0U ? low : low + 1U;
    for (const std::uint32_t sign : {0U, 0x8000U}) {
      const float s = sign == 0U ? 1.0F : -1.0F;
      wrong += T(s * middle).bits == (sign | even) ? 0 : 1;
      wrong += T(s * std::nextafter(middle, 0.0F)).bits == (sign | low) ? 0 : 1;
      wrong += T(s * std::nextafter(middle, infinity)).bits == (sign | (low + 1U)) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("16-bit floats: beyond the range, signs, NaN", T, bf16, half) {
  using L = Layout<T>;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(T(infinity).bits == L::infinity);
  CHECK(T(-infinity).bits == (0x8000U | L::infinity));
  CHECK(T(std::numeric_limits<float>::max()).bits == L::infinity);
  CHECK(T(0.0F).bits == 0U);
  CHECK(T(-0.0F).bits == 0x8000U);
  CHECK(T(std::numeric_limits<float>::denorm_min()).bits == 0U);
  CHECK(T(-std::numeric_limits<float>::denorm_min()).bits == 0x8000U);
  // NaNs whose payload lies only in bits that are cut off, quiet and signalling, both signs.
  for (const std::uint32_t u : {0x7F800001U, 0x7FC00000U, 0xFF800001U, 0xFFFFFFFFU, 0x7F801FFFU, 0x7F80FFFFU}) {
    const T value(std::bit_cast<float>(u));
    CHECK((value.bits & 0x7FFFU) > L::infinity);
    CHECK((value.bits >> 15U) == (u >> 31U));
    CHECK((value.bits & (1U << (L::mantissa_bits - 1))) != 0U);  // quiet
  }
}

TEST_CASE("dtypes: default values, constant expressions, names and accumulators") {
  static_assert(static_cast<float>(half(1.5F)) == 1.5F && static_cast<float>(bf16(-3.0F)) == -3.0F);
  static_assert(half(65504.0F).bits == 0x7BFFU && half(65520.0F).bits == 0x7C00U);
  static_assert(sizeof(bf16) == 2 && sizeof(half) == 2);
  static_assert(std::is_trivially_copyable_v<bf16> && std::is_trivially_copyable_v<half>);
  static_assert(!std::is_convertible_v<float, half> && !std::is_convertible_v<half, float>);  // explicit only
  static_assert(!std::is_convertible_v<float, bf16> && !std::is_convertible_v<bf16, float>);
  static_assert(std::is_same_v<accumulator_t<half>, float> && std::is_same_v<accumulator_t<bf16>, float> &&
                std::is_same_v<accumulator_t<float>, float> && std::is_same_v<accumulator_t<double>, double>);
  static_assert(FloatDtype<float> && FloatDtype<half> && FloatDtype<bf16> && FloatDtype<double>);
  static_assert(Dtype<std::int32_t> && !FloatDtype<std::int32_t> && !Dtype<char*> && !Dtype<void>);
  CHECK(half{}.bits == 0U);
  CHECK(bf16{}.bits == 0U);
  CHECK(dtype_traits<bf16>::name == "BF16");
  CHECK(dtype_traits<half>::name == "F16");
  CHECK(dtype_traits<float>::name == "F32");
  CHECK(dtype_traits<double>::name == "F64");
  CHECK(dtype_traits<std::uint8_t>::name == "U8");
  CHECK(dtype_traits<std::int64_t>::name == "I64");
}
