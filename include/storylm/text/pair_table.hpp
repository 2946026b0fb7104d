// SPDX-License-Identifier: MIT
/// @file
/// @brief Which pairs of tokens byte pair encoding merges: a hash table for very many look-ups.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <storylm/core/dtype.hpp>

namespace storylm::detail {

/// What becomes of a pair, and when: low ranks first.
struct Merge {
  token_t rank = 0;
  token_t merged = 0;
};

/// Merges of pairs of tokens. Open addressing with linear probing.
class PairTable {
 public:
  /// Room for `pairs` pairs.
  explicit PairTable(std::size_t pairs) : slots_(std::bit_ceil(2 * pairs + 1)) {}

  /// Sets what (left, right), which are not negative, become; at most as often as there is room.
  void set(token_t left, token_t right, const Merge& merge) {
    const std::uint64_t key = key_of(left, right);
    std::size_t i = hash(key);
    while (slots_[i & (slots_.size() - 1)].key != 0 && slots_[i & (slots_.size() - 1)].key != key) ++i;
    slots_[i & (slots_.size() - 1)] = {key, merge};
  }
  /// The merge of (left, right); null when there is none.
  [[nodiscard]] const Merge* find(token_t left, token_t right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t i = hash(key);; ++i) {
      const Slot& slot = slots_[i & (slots_.size() - 1)];
      if (slot.key == key) return &slot.merge;
      if (slot.key == 0) return nullptr;
    }
  }

 private:
  struct Slot {
    std::uint64_t key = 0;  // 0: free
    Merge merge;
  };

  static std::uint64_t key_of(token_t left, token_t right) noexcept {
    return (static_cast<std::uint64_t>(left) << 32U | static_cast<std::uint64_t>(right)) + 1;
  }
  static std::size_t hash(std::uint64_t key) noexcept {
    key *= 0xD6E8FEB86659FD93U;
    return static_cast<std::size_t>(key ^ (key >> 32U));
  }

  std::vector<Slot> slots_;  // a power of two, at most half of them taken
};

}  // namespace storylm::detail
