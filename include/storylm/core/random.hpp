// SPDX-License-Identifier: MIT
/// @file
/// @brief The one random number generator: counter-based Philox4x32-10, with the same values on every device.
///
/// J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. There is no hidden state: a value is a
/// function of (seed, step, site) and of what it belongs to, so masks depend neither on batches nor on threads.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#include <storylm/core/host_device.hpp>

namespace storylm {

/// What a block of random bits belongs to; a block has the same type.
using PhiloxCounter = std::array<std::uint32_t, 4>;

/// Whose random bits they are.
struct PhiloxKey {
  std::uint32_t low = 0;   ///< first word
  std::uint32_t high = 0;  ///< second word
  /// Field by field.
  friend constexpr bool operator==(const PhiloxKey&, const PhiloxKey&) = default;
};

/// Ten rounds of Philox4x32.
STORYLM_HOST_DEVICE constexpr PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32U) ^ counter[1] ^ key.low, static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32U) ^ counter[3] ^ key.high,
               static_cast<std::uint32_t>(product0)};
    key.low += 0x9E3779B9U;
    key.high += 0xBB67AE85U;
  }
  return counter;
}

/// The key of one use of randomness in one step: philox(seed; step, site). `site` tells the uses apart.
STORYLM_HOST_DEVICE constexpr PhiloxKey derive_key(std::uint64_t seed, std::uint64_t step, std::uint32_t site) {
  const PhiloxCounter out =
      philox4x32({static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32U), site, 0U},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)});
  return {out[0], out[1]};
}

/// The i-th of the eight 16-bit lanes of a block, i in [0, 8): the low half of word i/2 comes before the high half.
STORYLM_HOST_DEVICE constexpr std::uint32_t lane16(const PhiloxCounter& block, int i) {
  return (block[static_cast<std::size_t>(i / 2)] >> (16U * static_cast<std::uint32_t>(i % 2))) & 0xFFFFU;
}

/// A sequence of host random numbers: initial weights, shuffles, tests. Its whole state is (key, position).
class RandomStream {
 public:
  /// @param stream and site tell streams of one seed apart
  explicit constexpr RandomStream(std::uint64_t seed, std::uint64_t stream = 0, std::uint32_t site = 0)
      : key_(derive_key(seed, stream, site)) {}

  /// 64 random bits.
  constexpr std::uint64_t bits() {
    const PhiloxCounter block =
        philox4x32({static_cast<std::uint32_t>(position_), static_cast<std::uint32_t>(position_ >> 32U), 0U, 0U}, key_);
    ++position_;
    return (std::uint64_t{block[1]} << 32U) | block[0];
  }
  /// Uniform in [0, 1), 53 bits.
  constexpr double uniform() { return static_cast<double>(bits() >> 11U) * 0x1.0p-53; }
  /// Uniform in {0, ..., n - 1}, without bias; n > 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    const std::uint64_t rejected = (0U - n) % n;  // 2^64 mod n
    std::uint64_t value = bits();
    while (value < rejected) value = bits();
    return value % n;
  }
  /// Standard normal, by Box and Muller; one value a call.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  PhiloxKey key_;
  std::uint64_t position_ = 0;
};

}  // namespace storylm
