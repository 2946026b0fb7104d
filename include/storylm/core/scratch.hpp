// SPDX-License-Identifier: MIT
/// @file
/// @brief A stack of temporary memory: kernels and layers borrow from it and give back in reverse order.
///
/// Part of the device, so `core` and not `tensor`. The stack grows by further blocks while it is in use and becomes one
/// block when it is empty again: after the first step nothing is allocated any more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>

namespace storylm {

/// @tparam Memory provides allocate(bytes) and deallocate(pointer) noexcept; blocks aligned to 64 bytes or more.
/// Used by one host thread at a time.
template <class Memory>
class ScratchStack {
 public:
  /// Of everything that take() gives, in bytes.
  static constexpr std::size_t alignment = 64;

  /// @param memory where blocks come from
  explicit ScratchStack(Memory memory = {}) : memory_(std::move(memory)) {}
  ScratchStack(const ScratchStack&) = delete;
  ScratchStack& operator=(const ScratchStack&) = delete;
  ~ScratchStack() {
    for (const Block& block : blocks_) memory_.deallocate(block.data);
  }

  /// Memory taken through a Frame is given back when the Frame ends.
  class Frame {
   public:
    /// Begins where the stack stands.
    explicit Frame(ScratchStack& stack) : stack_(&stack), blocks_(stack.used_blocks_), offset_(stack.offset_) {
      ++stack.depth_;
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
    ~Frame() { stack_->release(blocks_, offset_); }

    /// Room for n values, not initialised, aligned to 64 bytes.
    template <class T>
    [[nodiscard]] T* take(index_t n) {
      static_assert(std::is_trivially_copyable_v<T>);
      return static_cast<T*>(stack_->take(static_cast<std::size_t>(n) * sizeof(T)));
    }

   private:
    ScratchStack* stack_;
    std::size_t blocks_;
    std::size_t offset_;
  };

  /// Blocks it has asked for so far: the number stands still once every frame finds room.
  [[nodiscard]] std::uint64_t growths() const noexcept { return growths_; }
  /// Bytes it holds, in use or not.
  [[nodiscard]] std::size_t capacity() const noexcept {
    std::size_t bytes = 0;
    for (const Block& block : blocks_) bytes += block.bytes;
    return bytes;
  }

 private:
  struct Block {
    void* data;
    std::size_t bytes;
  };

  void* take(std::size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    if (used_blocks_ == 0 || offset_ + bytes > blocks_[used_blocks_ - 1].bytes) {
      if (used_blocks_ == blocks_.size()) {
        blocks_.reserve(blocks_.size() + 1);
        const std::size_t size = std::max({bytes, capacity(), std::size_t{1} << 16U});
        blocks_.push_back({memory_.allocate(size), size});
        ++growths_;
      } else if (blocks_[used_blocks_].bytes < bytes) {
        void* bigger = memory_.allocate(bytes);
        ++growths_;
        memory_.deallocate(blocks_[used_blocks_].data);
        blocks_[used_blocks_] = {bigger, bytes};
      }
      ++used_blocks_;
      offset_ = 0;
    }
    void* p = static_cast<std::byte*>(blocks_[used_blocks_ - 1].data) + offset_;
    offset_ += bytes;
    return p;
  }

  void release(std::size_t used_blocks, std::size_t offset) noexcept {
    used_blocks_ = used_blocks;
    offset_ = offset;
    --depth_;
    if (depth_ != 0 || blocks_.size() < 2) return;
    const std::size_t total = capacity();
    for (const Block& block : blocks_) memory_.deallocate(block.data);
    blocks_.clear();
    used_blocks_ = 0;
    offset_ = 0;
    try {  // one block for next time; without the memory for it, the next frame grows again
      blocks_.push_back({memory_.allocate(total), total});
      ++growths_;
    } catch (...) {
      blocks_.clear();
    }
  }

  [[no_unique_address]] Memory memory_;
  std::vector<Block> blocks_;
  std::size_t used_blocks_ = 0;
  std::size_t offset_ = 0;
  std::size_t depth_ = 0;
  std::uint64_t growths_ = 0;
};

}  // namespace storylm
