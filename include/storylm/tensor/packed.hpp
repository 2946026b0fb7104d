// SPDX-License-Identifier: MIT
/// @file
/// @brief Packed batches: sequences of different length one after another, nothing computed for padding.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include <storylm/tensor/tensor.hpp>

namespace storylm {

/// What memory is made for. More than this in a batch is a ShapeError.
struct Capacity {
  index_t tokens = 0;     ///< rows of an activation
  index_t sequences = 0;  ///< sequences in one packed batch
  index_t longest = 0;    ///< tokens in the longest sequence

  /// Field by field.
  friend constexpr bool operator==(const Capacity&, const Capacity&) = default;
};

inline constexpr token_t no_target = -1;  ///< a position that has no target takes no part in the loss

/// What kernels see of a packed batch. Sequence s is the rows offsets[s] .. offsets[s + 1] of every activation;
/// attention never looks across a boundary, positions restart at each (unless a KV cache says where they go on).
/// Where a backend computes more rows than that (CUDA rounds up), rows from offsets[sequences] on belong to no
/// sequence: their results are finite, their targets none, their gradients zero, and their other entries here are not
/// read.
struct PackedView {
  index_t tokens = 0;                       ///< rows of every activation
  index_t sequences = 0;                    ///< sequences in the batch
  index_t longest = 0;                      ///< tokens in the longest of them
  const token_t* ids = nullptr;             ///< (tokens)
  const token_t* targets = nullptr;         ///< (tokens)         no_target where there is none
  const std::int32_t* offsets = nullptr;    ///< (sequences + 1)  cu_seqlens
  const std::int32_t* positions = nullptr;  ///< (tokens)         position in the sequence
  const std::int32_t* sequence = nullptr;   ///< (tokens)         which sequence a row belongs to
  /// (sequences)  number of the story in the step's global batch: random keys
  const std::uint32_t* ordinals = nullptr;
};

/// How far the sizes that kernels see are rounded up, so that few different shapes occur: a GPU's graphs and matmul
/// algorithms are made per shape. Nothing is rounded beyond the capacity.
struct PackedRounding {
  index_t tokens = 1;     ///< rows of an activation
  index_t sequences = 1;  ///< the further ones are empty
  index_t longest = 1;    ///< what launches are made for
};

/// A packed batch and its memory. On the CPU it is filled sequence by sequence; other devices copy from that.
template <Device D>
class Packed {
 public:
  /// Memory for up to `capacity`; empty.
  Packed(Capacity capacity, const D& device)
      : capacity_(capacity),
        token_room_(rounded(capacity.tokens, slot)),
        sequence_room_(rounded(capacity.sequences + 1, slot)),
        memory_({4 * token_room_ + 2 * sequence_room_}, device) {
    if constexpr (!D::host_memory) tail_.reserve(static_cast<std::size_t>(token_room_ + sequence_room_));
  }

  /// Empties the batch.
  void clear() noexcept {
    tokens_ = sequences_ = longest_ = target_count_ = 0;
    ++revision_;
  }

  /// True when a further sequence of `length` tokens has room.
  [[nodiscard]] bool fits(index_t length) const noexcept {
    return sequences_ < capacity_.sequences && tokens_ + length <= capacity_.tokens && length <= capacity_.longest;
  }

  /// Appends one sequence. `targets` is empty (none has a target) or as long as `ids`; positions count from
  /// `first_position`. @throws ShapeError when it does not fit
  void append(std::span<const token_t> ids, std::span<const token_t> targets, std::uint32_t ordinal,
              index_t first_position = 0) requires D::host_memory {
    const auto length = static_cast<index_t>(ids.size());
    expects<ShapeError>(targets.empty() || targets.size() == ids.size(), "Packed::append", "the sequence has ", length,
                        " tokens and ", targets.size(), " targets");
    expects<ShapeError>(fits(length), "Packed::append", "a sequence of ", length, " tokens does not fit: ", tokens_,
                        " of ", capacity_.tokens, " tokens and ", sequences_, " of ", capacity_.sequences,
                        " sequences are taken, the longest may have ", capacity_.longest);
    for (index_t i = 0; i < length; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const token_t target = targets.empty() ? no_target : targets[at];
      this->ids()[tokens_ + i] = ids[at];
      this->targets()[tokens_ + i] = target;
      positions()[tokens_ + i] = static_cast<std::int32_t>(first_position + i);
      sequence()[tokens_ + i] = static_cast<std::int32_t>(sequences_);
      target_count_ += target >= 0 ? 1 : 0;
    }
    ordinals()[sequences_] = ordinal;
    tokens_ += length;
    longest_ = std::max(longest_, length);
    offsets()[++sequences_] = static_cast<std::int32_t>(tokens_);
    ++revision_;
  }

  /// Becomes a copy of a batch in host memory, with the sizes of its view rounded up: the rows added are a tail that
  /// belongs to no sequence and has no targets, the sequences added are empty. Waits for nothing; `batch` may be
  /// changed at once. @throws ShapeError when it exceeds the capacity
  template <Device Host>
  void assign(const Packed<Host>& batch,
              const PackedRounding& rounding = {}) requires(!D::host_memory && Host::host_memory) {
    const PackedView from = batch.view();
    expects<ShapeError>(
        from.tokens <= capacity_.tokens && from.sequences <= capacity_.sequences && from.longest <= capacity_.longest,
        "Packed::assign", "the batch has ", from.tokens, " tokens in ", from.sequences, " sequences, the longest of ",
        from.longest, ", there is room for ", capacity_.tokens, " in ", capacity_.sequences, ", the longest of ",
        capacity_.longest);
    tokens_ = std::min(rounded(from.tokens, rounding.tokens), capacity_.tokens);
    sequences_ = std::min(rounded(from.sequences, rounding.sequences), capacity_.sequences);
    longest_ = std::min(rounded(from.longest, rounding.longest), capacity_.longest);
    target_count_ = batch.target_count();
    ++revision_;
    const D& device = memory_.device();
    const auto copy = [&](auto* to, const auto* values, index_t count) {
      device.copy_from_host(to, values, static_cast<std::size_t>(count) * sizeof(*to));
    };
    copy(ids(), from.ids, from.tokens);
    copy(targets(), from.targets, from.tokens);
    copy(positions(), from.positions, from.tokens);
    copy(sequence(), from.sequence, from.tokens);
    copy(ordinals(), from.ordinals, from.sequences);
    copy(offsets(), from.offsets, from.sequences + 1);
    tail_.assign(static_cast<std::size_t>(tokens_ - from.tokens), no_target);
    copy(targets() + from.tokens, tail_.data(), tokens_ - from.tokens);
    tail_.assign(static_cast<std::size_t>(sequences_ - from.sequences), static_cast<std::int32_t>(from.tokens));
    copy(offsets() + from.sequences + 1, tail_.data(), sequences_ - from.sequences);
  }
  /// Becomes a copy of a batch of the same capacity, in one copy on the device. @throws ShapeError when it has another
  void assign(const Packed& batch) requires(!D::host_memory) {
    expects<ShapeError>(capacity_ == batch.capacity_, "Packed::assign", "the capacities differ: ", capacity_.tokens,
                        " and ", batch.capacity_.tokens, " tokens");
    tokens_ = batch.tokens_;
    sequences_ = batch.sequences_;
    longest_ = batch.longest_;
    target_count_ = batch.target_count_;
    ++revision_;
    memory_.device().copy(memory_.data(), batch.memory_.data(), memory_.bytes());
  }

  /// What kernels see; valid until the batch changes.
  [[nodiscard]] PackedView view() const noexcept {
    auto& self = const_cast<Packed&>(*this);  // the view is read only
    return {.tokens = tokens_,
            .sequences = sequences_,
            .longest = longest_,
            .ids = self.ids(),
            .targets = self.targets(),
            .offsets = self.offsets(),
            .positions = self.positions(),
            .sequence = self.sequence(),
            .ordinals = self.ordinals()};
  }
  /// What it was made for.
  [[nodiscard]] const Capacity& capacity() const noexcept { return capacity_; }
  /// Rows of an activation.
  [[nodiscard]] index_t tokens() const noexcept { return tokens_; }
  /// Sequences in the batch.
  [[nodiscard]] index_t sequences() const noexcept { return sequences_; }
  /// Tokens in the longest sequence.
  [[nodiscard]] index_t longest() const noexcept { return longest_; }
  /// Number of positions that have a target.
  [[nodiscard]] index_t target_count() const noexcept { return target_count_; }
  /// Differs between any two batches and grows with every change: who has made a copy sees whether it is still one.
  [[nodiscard]] std::uint64_t revision() const noexcept { return revision_; }

 private:
  static constexpr index_t slot = 64;  ///< every array begins at a multiple of as many elements

  [[nodiscard]] static constexpr index_t rounded(index_t n, index_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
  }
  [[nodiscard]] static std::uint64_t first_revision() noexcept {
    static std::atomic<std::uint64_t> batches{0};
    return batches.fetch_add(1, std::memory_order_relaxed) << 32U;
  }
  [[nodiscard]] token_t* ids() noexcept { return memory_.data(); }                       // (tokens)
  [[nodiscard]] token_t* targets() noexcept { return ids() + token_room_; }              // (tokens)
  [[nodiscard]] std::int32_t* positions() noexcept { return targets() + token_room_; }   // (tokens)
  [[nodiscard]] std::int32_t* sequence() noexcept { return positions() + token_room_; }  // (tokens)
  [[nodiscard]] std::int32_t* offsets() noexcept { return sequence() + token_room_; }    // (sequences + 1)
  [[nodiscard]] std::uint32_t* ordinals() noexcept {                                     // (sequences)
    return reinterpret_cast<std::uint32_t*>(offsets() + sequence_room_);
  }

  Capacity capacity_;
  index_t token_room_;
  index_t sequence_room_;
  Tensor<std::int32_t, D> memory_;  // all arrays, so that one copy moves them
  std::vector<std::int32_t> tail_;  // what rounding adds; allocated once
  index_t tokens_ = 0;
  index_t sequences_ = 0;
  index_t longest_ = 0;
  index_t target_count_ = 0;
  std::uint64_t revision_ = first_revision();
};

}  // namespace storylm
