// SPDX-License-Identifier: MIT
/// @file
/// @brief Philox4x32-10 against published vectors; what is built on it against its definition.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>

using namespace storylm;

TEST_CASE("philox4x32: the known answers that come with Random123 (kat_vectors, philox4x32, 10 rounds)") {
  constexpr PhiloxCounter zeros = philox4x32({0U, 0U, 0U, 0U}, {0U, 0U});
  CHECK(zeros == PhiloxCounter{0x6627E8D5U, 0xE169C58DU, 0xBC57AC4CU, 0x9B00DBD8U});
  constexpr std::uint32_t ones = 0xFFFFFFFFU;
  CHECK(philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
        PhiloxCounter{0x408F276DU, 0x41C83B0EU, 0xA20BC7C6U, 0x6D5451FDU});
  CHECK(philox4x32({0x243F6A88U, 0x85A308D3U, 0x13198A2EU, 0x03707344U}, {0xA4093822U, 0x299F31D0U}) ==
        PhiloxCounter{0xD16CFE09U, 0x94FDCCEBU, 0x5001E420U, 0x24126EA1U});
}

TEST_CASE("derive_key: the first two words of philox(seed; step, site), every bit of each used") {
  const std::uint64_t seed = 0x0123456789ABCDEFU;
  const std::uint64_t step = 0xFEDCBA9876543210U;
  const PhiloxCounter out = philox4x32({0x76543210U, 0xFEDCBA98U, 77U, 0U}, {0x89ABCDEFU, 0x01234567U});
  CHECK(derive_key(seed, step, 77U) == PhiloxKey{out[0], out[1]});
  for (unsigned bit = 0; bit < 64; ++bit) {
    CHECK_FALSE(derive_key(seed ^ (std::uint64_t{1} << bit), step, 77U) == derive_key(seed, step, 77U));
    CHECK_FALSE(derive_key(seed, step ^ (std::uint64_t{1} << bit), 77U) == derive_key(seed, step, 77U));
    CHECK_FALSE(derive_key(seed, step, 77U ^ (1U << bit % 32U)) == derive_key(seed, step, 77U));
  }
}

TEST_CASE("lane16: low half before high half, words in order") {
  const PhiloxCounter block{0x22221111U, 0x44443333U, 0x66665555U, 0x88887777U};
  for (int i = 0; i < 8; ++i) CHECK(lane16(block, i) == 0x1111U * static_cast<std::uint32_t>(i + 1));
}

TEST_CASE("RandomStream: block i gives the i-th 64 bits") {
  RandomStream stream(5, 6, 7);
  const PhiloxKey key = derive_key(5, 6, 7);
  for (std::uint32_t i = 0; i < 100; ++i) {
    const PhiloxCounter block = philox4x32({i, 0U, 0U, 0U}, key);
    CHECK(stream.bits() == ((std::uint64_t{block[1]} << 32U) | block[0]));
  }
}

TEST_CASE("RandomStream: equal arguments give equal numbers, others do not") {
  RandomStream a(1, 2, 3);
  RandomStream b(1, 2, 3);
  RandomStream other_seed(2, 2, 3);
  RandomStream other_stream(1, 3, 3);
  RandomStream other_site(1, 2, 4);
  const std::uint64_t first = a.bits();
  CHECK(b.bits() == first);
  CHECK(other_seed.bits() != first);
  CHECK(other_stream.bits() != first);
  CHECK(other_site.bits() != first);
}

TEST_CASE("RandomStream::uniform: in [0, 1), mean 1/2, variance 1/12") {
  RandomStream stream(11);
  RandomStream bits(11);
  const int n = 100000;
  double sum = 0.0;
  double squares = 0.0;
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform();
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    REQUIRE(u == std::ldexp(static_cast<double>(bits.bits() >> 11U), -53));
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
  }
  CHECK(std::abs(sum / n - 0.5) < 4.0 / std::sqrt(12.0 * n));  // four standard errors
  CHECK(std::abs(squares / n - 1.0 / 12.0) < 0.001);
}

TEST_CASE("RandomStream::below: every value equally often, none outside") {
  for (const std::uint64_t n : {1U, 2U, 3U, 7U, 10U}) {
    RandomStream stream(n);
    std::array<int, 10> counts{};
    const int draws = 20000;
    for (int i = 0; i < draws; ++i) {
      const std::uint64_t value = stream.below(n);
      REQUIRE(value < n);
      ++counts[static_cast<std::size_t>(value)];
    }
    for (std::uint64_t value = 0; value < n; ++value) {
      const double expected = draws / static_cast<double>(n);
      CHECK(std::abs(counts[static_cast<std::size_t>(value)] - expected) <= 4.0 * std::sqrt(expected));
    }
  }
}

TEST_CASE("RandomStream::below: a range that does not divide 2^64 skips, so that it stays without bias") {
  // Of n = 3 * 2^62, 2^62 values are rejected: a quarter of the draws. Without that the lowest third came twice.
  const std::uint64_t n = std::uint64_t{3} << 62U;
  RandomStream stream(12);
  std::array<int, 3> thirds{};
  for (int i = 0; i < 30000; ++i) {
    const std::uint64_t value = stream.below(n);
    REQUIRE(value < n);
    ++thirds[static_cast<std::size_t>(value >> 62U)];
  }
  for (const int count : thirds) CHECK(std::abs(count - 10000) < 400);
  CHECK(RandomStream(3).below(std::numeric_limits<std::uint64_t>::max()) == RandomStream(3).bits());
}

TEST_CASE("RandomStream::normal: finite, mean 0, variance 1, skew 0, kurtosis 3") {
  RandomStream stream(13);
  const int n = 200000;
  double mean = 0.0;
  double variance = 0.0;
  double skew = 0.0;
  double kurtosis = 0.0;
  for (int i = 0; i < n; ++i) {
    const double z = stream.normal();
    REQUIRE(std::isfinite(z));
    mean += z / n;
    variance += z * z / n;
    skew += z * z * z / n;
    kurtosis += z * z * z * z / n;
  }
  CHECK(std::abs(mean) < 0.01);
  CHECK(std::abs(variance - 1.0) < 0.02);
  CHECK(std::abs(skew) < 0.04);
  CHECK(std::abs(kurtosis - 3.0) < 0.12);
}
