// SPDX-License-Identifier: MIT
/// @file
/// @brief One block of memory cut into slots; who owns what a model's parameters are views of.
#pragma once

#include <storylm/tensor/tensor.hpp>

namespace storylm {

/// Slots begin at multiples of this many elements: 1 KiB in fp32, enough for any vector width, bucket or rank.
inline constexpr index_t arena_slot_elements = 256;

/// `size` rounded up to whole slots.
[[nodiscard]] constexpr index_t arena_padded(index_t size) {
  return (size + arena_slot_elements - 1) / arena_slot_elements * arena_slot_elements;
}

/// Plans the layout before there is memory: add() hands out offsets, size() is what to allocate.
class ArenaPlan {
 public:
  /// Reserves room for `size` elements; returns the offset of the first.
  [[nodiscard]] index_t add(index_t size) {
    const index_t offset = size_;
    size_ += arena_padded(size);
    return offset;
  }
  /// Elements of all slots so far.
  [[nodiscard]] index_t size() const noexcept { return size_; }

 private:
  index_t size_ = 0;
};

}  // namespace storylm
