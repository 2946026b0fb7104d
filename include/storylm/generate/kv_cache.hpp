// SPDX-License-Identifier: MIT
/// @file
/// @brief Memory for the keys and values of many stories, in slots that stories come to and leave.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <storylm/core/precision.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm {

/// Keys and values of every block for `slots` stories of up to `capacity` positions, all of it allocated at once.
/// @tparam P dtype or Precision of the model; the elements are kv_t<P>
template <class P, Device D>
class KvCache {
 public:
  using Element = kv_t<P>;  ///< dtype of keys and values

  /// @throws ArgumentError when a size is not positive
  KvCache(const TransformerConfig& shape, index_t slots, index_t capacity, const D& device)
      : slots_(slots), capacity_(capacity), width_(index_t{shape.kv_heads()} * shape.head_size()) {
    expects<ArgumentError>(slots > 0 && capacity > 0, "KvCache", "sizes must be positive: ", slots, " slots of ",
                           capacity, " positions");
    slot_of_sequence_ = Tensor<std::int32_t, D>({slots}, device);
    const auto memory = [&] { return Tensor<Element, D>::uninitialised({slots, capacity, width_}, device); };
    for (int block = 0; block < shape.n_layers; ++block) {
      keys_.push_back(memory());
      values_.push_back(memory());
      views_.push_back({.keys = keys_.back().data(),
                        .values = values_.back().data(),
                        .capacity = capacity,
                        .slots = slot_of_sequence_.data()});
    }
    free_.reserve(static_cast<std::size_t>(slots));
    for (index_t slot = slots; slot-- > 0;) free_.push_back(static_cast<std::int32_t>(slot));
  }

  /// Stories at a time.
  [[nodiscard]] index_t slots() const noexcept { return slots_; }
  /// Positions per slot.
  [[nodiscard]] index_t capacity() const noexcept { return capacity_; }
  /// Elements of a key: kv heads times head size.
  [[nodiscard]] index_t width() const noexcept { return width_; }
  /// Blocks of the model.
  [[nodiscard]] index_t blocks() const noexcept { return static_cast<index_t>(views_.size()); }
  /// Slots that no story has.
  [[nodiscard]] index_t available() const noexcept { return static_cast<index_t>(free_.size()); }
  /// Those slots.
  [[nodiscard]] std::span<const std::int32_t> free_slots() const noexcept { return free_; }
  /// Bytes of keys and values.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(2 * blocks() * slots_ * capacity_ * width_) * sizeof(Element);
  }

  /// Gives a slot to a story. What another story left there is never read: a row attends to positions up to its own
  /// only, and those its story has written. @throws ArgumentError when none is free
  [[nodiscard]] std::int32_t acquire() {
    expects<ArgumentError>(!free_.empty(), "KvCache", "all ", slots_, " slots are taken");
    const std::int32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  /// Takes a slot back. @throws ArgumentError when it is no slot in use
  void release(std::int32_t slot) {
    const bool in_use = slot >= 0 && slot < slots_ && std::find(free_.begin(), free_.end(), slot) == free_.end();
    expects<ArgumentError>(in_use, "KvCache", "slot ", slot, " of ", slots_, " is not in use");
    free_.push_back(slot);
  }
  /// Takes all slots back.
  void release_all() {
    free_.clear();
    for (index_t slot = slots_; slot-- > 0;) free_.push_back(static_cast<std::int32_t>(slot));
  }

  /// What the blocks of a model are given: sequence s of the batch is the story in slots[s].
  /// @throws ShapeError when there are more sequences than slots, or a number is no slot
  [[nodiscard]] const nn::KvViews<P>& views(std::span<const std::int32_t> slots) {
    expects<ShapeError>(static_cast<index_t>(slots.size()) <= slots_, "KvCache", slots.size(), " sequences, there are ",
                        slots_, " slots");
    for (const std::int32_t slot : slots)
      expects<ShapeError>(slot >= 0 && slot < slots_, "KvCache", "slot ", slot, " of ", slots_);
    slot_of_sequence_.device().copy_from_host(slot_of_sequence_.data(), slots.data(), slots.size_bytes());
    return views_;
  }
  /// The same once more, for the sequences that were given last.
  [[nodiscard]] const nn::KvViews<P>& views() const noexcept { return views_; }

 private:
  index_t slots_;
  index_t capacity_;
  index_t width_;
  Tensor<std::int32_t, D> slot_of_sequence_;  // (slots)                   for the sequences of the batch under way
  std::vector<Tensor<Element, D>> keys_;      // (slots, capacity, width)  one per block
  std::vector<Tensor<Element, D>> values_;    // (slots, capacity, width)
  nn::KvViews<P> views_;
  std::vector<std::int32_t> free_;  // the next one given out is last
};

}  // namespace storylm
