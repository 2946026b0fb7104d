// SPDX-License-Identifier: MIT
/// @file
/// @brief Element types: storage-only bf16 and half, their names in files, and the type sums are carried in.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <string_view>

#include <storylm/core/host_device.hpp>

namespace storylm {

using index_t = std::int64_t;  ///< extents and offsets
using token_t = std::int32_t;  ///< token ids; negative means "no token"

/// bfloat16: the upper half of a float. Storage only; arithmetic is done in accumulator_t. No vendor header, so that
/// host and device code agree on the type.
struct bf16 {
  std::uint16_t bits = 0;  ///< as stored

  bf16() = default;
  /// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
  STORYLM_HOST_DEVICE constexpr explicit bf16(float value) : bits(rounded(std::bit_cast<std::uint32_t>(value))) {}
  /// Exact.
  STORYLM_HOST_DEVICE constexpr explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
  /// Field by field.
  friend bool operator==(const bf16&, const bf16&) = default;

 private:
  STORYLM_HOST_DEVICE static constexpr std::uint16_t rounded(std::uint32_t u) {
    if ((u & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((u >> 16U) | 0x40U);
    return static_cast<std::uint16_t>((u + 0x7FFFU + ((u >> 16U) & 1U)) >> 16U);
  }
};

/// IEEE binary16. Storage only, like bf16.
struct half {
  std::uint16_t bits = 0;  ///< as stored

  half() = default;
  /// Rounds to nearest, ties to even; overflow becomes infinity, a NaN stays a (quiet) NaN.
  STORYLM_HOST_DEVICE constexpr explicit half(float value) : bits(rounded(std::bit_cast<std::uint32_t>(value))) {}
  /// Exact.
  STORYLM_HOST_DEVICE constexpr explicit operator float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    const std::uint32_t exponent = (bits >> 10U) & 0x1FU;
    std::uint32_t mantissa = bits & 0x3FFU;
    if (exponent == 0x1FU) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13U));
    if (exponent != 0U) return std::bit_cast<float>(sign | ((exponent + 112U) << 23U) | (mantissa << 13U));
    if (mantissa == 0U) return std::bit_cast<float>(sign);
    std::uint32_t shifted = 113U;  // a subnormal: normalise it
    while ((mantissa & 0x400U) == 0U) {
      mantissa <<= 1U;
      --shifted;
    }
    return std::bit_cast<float>(sign | (shifted << 23U) | ((mantissa & 0x3FFU) << 13U));
  }
  /// Field by field.
  friend bool operator==(const half&, const half&) = default;

 private:
  STORYLM_HOST_DEVICE static constexpr std::uint16_t rounded(std::uint32_t u) {
    const std::uint32_t sign = (u >> 16U) & 0x8000U;
    const std::uint32_t magnitude = u & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13U) & 0x3FFU));
    if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // 65536 and up
    if (magnitude >= 0x38800000U) {                                                   // normal in binary16
      const std::uint32_t rebased = magnitude - 0x38000000U;
      return static_cast<std::uint16_t>(sign | ((rebased + 0xFFFU + ((rebased >> 13U) & 1U)) >> 13U));
    }
    if (magnitude < 0x33000000U) return static_cast<std::uint16_t>(sign);  // below half of the smallest subnormal
    const std::uint32_t shift = 126U - (magnitude >> 23U);
    const std::uint32_t mantissa = (magnitude & 0x7FFFFFU) | 0x800000U;
    const std::uint32_t kept = mantissa >> shift;
    const std::uint32_t rest = mantissa & ((1U << shift) - 1U);
    const std::uint32_t tie = 1U << (shift - 1U);
    return static_cast<std::uint16_t>(sign | (kept + ((rest > tie || (rest == tie && (kept & 1U) != 0U)) ? 1U : 0U)));
  }
};

/// What a dtype is called in safetensors files and messages, and what its reductions accumulate in.
template <class T>
struct dtype_traits;
/// @cond every dtype's are alike
template <>
struct dtype_traits<float> {
  using accumulator = float;
  static constexpr std::string_view name = "F32";
};
template <>
struct dtype_traits<double> {
  using accumulator = double;
  static constexpr std::string_view name = "F64";
};
template <>
struct dtype_traits<bf16> {
  using accumulator = float;
  static constexpr std::string_view name = "BF16";
};
template <>
struct dtype_traits<half> {
  using accumulator = float;
  static constexpr std::string_view name = "F16";
};
template <>
struct dtype_traits<std::int32_t> {
  using accumulator = std::int64_t;
  static constexpr std::string_view name = "I32";
};
template <>
struct dtype_traits<std::uint32_t> {
  using accumulator = std::uint64_t;
  static constexpr std::string_view name = "U32";
};
template <>
struct dtype_traits<std::int64_t> {
  using accumulator = std::int64_t;
  static constexpr std::string_view name = "I64";
};
template <>
struct dtype_traits<std::uint64_t> {
  using accumulator = std::uint64_t;
  static constexpr std::string_view name = "U64";
};
template <>
struct dtype_traits<std::uint8_t> {
  using accumulator = std::uint64_t;
  static constexpr std::string_view name = "U8";
};
/// @endcond

/// A type that tensors can hold.
template <class T>
concept Dtype = requires {
  dtype_traits<T>::name;
};

/// A Dtype that stands for real numbers.
template <class T>
concept FloatDtype = Dtype<T> && !std::integral<T>;

/// The type sums, norms, softmax, loss, gradients and masters of T are carried in.
template <Dtype T>
using accumulator_t = typename dtype_traits<T>::accumulator;

}  // namespace storylm
