// SPDX-License-Identifier: MIT
/// @file
/// @brief XXH64, a fast 64-bit checksum: tells a damaged or foreign file, not a forged one.
///
/// Y. Collet, "xxHash fast digest algorithm", specification version 0.1.1.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace storylm::detail {

/// XXH64 of bytes that come piece by piece; how they are cut does not matter.
class Hash64 {
 public:
  explicit Hash64(std::uint64_t seed = 0)
      : seed_(seed), lanes_{seed + prime1 + prime2, seed + prime2, seed, seed - prime1} {}

  /// Takes further bytes in.
  void update(std::span<const std::byte> bytes) {
    length_ += bytes.size();
    if (held_ != 0) {
      const std::size_t taken = std::min(bytes.size(), block_.size() - held_);
      std::copy_n(bytes.begin(), taken, block_.begin() + static_cast<std::ptrdiff_t>(held_));
      held_ += taken;
      bytes = bytes.subspan(taken);
      if (held_ < block_.size()) return;
      mix(block_.data());
      held_ = 0;
    }
    for (; bytes.size() >= block_.size(); bytes = bytes.subspan(block_.size())) mix(bytes.data());
    std::copy(bytes.begin(), bytes.end(), block_.begin());
    held_ = bytes.size();
  }
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }

  /// The hash of all bytes so far; more may follow.
  [[nodiscard]] std::uint64_t value() const {
    std::uint64_t h = seed_ + prime5;
    if (length_ >= block_.size()) {
      h = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
      for (const std::uint64_t lane : lanes_) h = (h ^ round(0, lane)) * prime1 + prime4;
    }
    h += length_;
    std::size_t at = 0;
    for (; at + 8 <= held_; at += 8) {
      h = std::rotl(h ^ round(0, word<std::uint64_t>(&block_[at])), 27) * prime1 + prime4;
    }
    if (at + 4 <= held_) {
      h = std::rotl(h ^ (word<std::uint32_t>(&block_[at]) * prime1), 23) * prime2 + prime3;
      at += 4;
    }
    for (; at < held_; ++at) h = std::rotl(h ^ (std::to_integer<std::uint64_t>(block_[at]) * prime5), 11) * prime1;
    h = (h ^ (h >> 33U)) * prime2;
    h = (h ^ (h >> 29U)) * prime3;
    return h ^ (h >> 32U);
  }

 private:
  static constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87U;
  static constexpr std::uint64_t prime2 = 0xC2B2AE3D27D4EB4FU;
  static constexpr std::uint64_t prime3 = 0x165667B19E3779F9U;
  static constexpr std::uint64_t prime4 = 0x85EBCA77C2B2AE63U;
  static constexpr std::uint64_t prime5 = 0x27D4EB2F165667C5U;

  template <class T>
  static std::uint64_t word(const std::byte* bytes) {
    static_assert(std::endian::native == std::endian::little, "storylm: files and hashes are little-endian");
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
  }
  static std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
    return std::rotl(lane + input * prime2, 31) * prime1;
  }
  void mix(const std::byte* block) {
    for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = round(lanes_[i], word<std::uint64_t>(block + 8 * i));
  }

  std::uint64_t seed_;
  std::array<std::uint64_t, 4> lanes_;
  std::array<std::byte, 32> block_{};
  std::size_t held_ = 0;  // bytes in block_
  std::uint64_t length_ = 0;
};

/// XXH64 of `bytes`.
[[nodiscard]] inline std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0) {
  Hash64 hash(seed);
  hash.update(bytes);
  return hash.value();
}
/// XXH64 of `text`.
[[nodiscard]] inline std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) {
  Hash64 hash(seed);
  hash.update(text);
  return hash.value();
}

/// A hash as 16 hexadecimal digits, the form in which files and messages show it.
[[nodiscard]] inline std::string hash_text(std::uint64_t hash) {
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, hash >>= 4U) *digit = "0123456789abcdef"[hash & 15U];
  return text;
}

}  // namespace storylm::detail
