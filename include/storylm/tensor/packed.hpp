// SPDX-License-Identifier: MIT
/// @file
/// @brief Packed batches: sequences of different length one after another, nothing computed for padding.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>

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

/// A packed batch and its memory. On the CPU it is filled sequence by sequence; other devices copy from that.
template <Device D>
class Packed {
 public:
  /// Memory for up to `capacity`; empty.
  Packed(Capacity capacity, const D& device)
      : capacity_(capacity),
        ids_({capacity.tokens}, device),
        targets_({capacity.tokens}, device),
        offsets_({capacity.sequences + 1}, device),
        positions_({capacity.tokens}, device),
        sequence_({capacity.tokens}, device),
        ordinals_({capacity.sequences}, device) {}

  /// Empties the batch.
  void clear() noexcept { tokens_ = sequences_ = longest_ = target_count_ = 0; }

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
      ids_.data()[tokens_ + i] = ids[at];
      targets_.data()[tokens_ + i] = target;
      positions_.data()[tokens_ + i] = static_cast<std::int32_t>(first_position + i);
      sequence_.data()[tokens_ + i] = static_cast<std::int32_t>(sequences_);
      target_count_ += target >= 0 ? 1 : 0;
    }
    ordinals_.data()[sequences_] = ordinal;
    tokens_ += length;
    longest_ = std::max(longest_, length);
    offsets_.data()[++sequences_] = static_cast<std::int32_t>(tokens_);
  }

  /// What kernels see; valid until the batch changes.
  [[nodiscard]] PackedView view() const noexcept {
    return {.tokens = tokens_,
            .sequences = sequences_,
            .longest = longest_,
            .ids = ids_.data(),
            .targets = targets_.data(),
            .offsets = offsets_.data(),
            .positions = positions_.data(),
            .sequence = sequence_.data(),
            .ordinals = ordinals_.data()};
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

 private:
  Capacity capacity_;
  Tensor<token_t, D> ids_;             // (tokens)
  Tensor<token_t, D> targets_;         // (tokens)
  Tensor<std::int32_t, D> offsets_;    // (sequences + 1)
  Tensor<std::int32_t, D> positions_;  // (tokens)
  Tensor<std::int32_t, D> sequence_;   // (tokens)
  Tensor<std::uint32_t, D> ordinals_;  // (sequences)
  index_t tokens_ = 0;
  index_t sequences_ = 0;
  index_t longest_ = 0;
  index_t target_count_ = 0;
};

}  // namespace storylm
