// SPDX-License-Identifier: MIT
/// @file
/// @brief How optimizers walk an arena: a warp for a slot, a thread for eight of its elements.
#pragma once

#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>
#include <storylm/kernels/kernel.hpp>
#include <storylm/tensor/arena.hpp>

namespace storylm::cuda {

static_assert(arena_slot_elements == 32 * group_columns, "a warp is as wide as a slot");
inline constexpr int slots_per_warp = 4;  ///< one after another
inline constexpr int slot_threads = 256;  ///< of a block

/// An arena as its kernels see it: masters are values where there are no others.
template <Element T>
struct ArenaArguments {
  T* copies = nullptr;                         ///< (size)  rounded; none where values are masters
  float* values = nullptr;                     ///< (size)  masters
  const float* gradients = nullptr;            ///< (size)
  const ParameterSegment* segments = nullptr;  ///< (segment_count)
  int segment_count = 0;
  int slots = 0;         ///< of the arena
  bool aligned = false;  ///< every slot begins on a 16-byte boundary, of every array

  /// On the host. `moments`: further arrays of the same size, which may be null.
  template <class... Moments>
  explicit ArenaArguments(const ArenaView<T>& arena, const Moments*... moments)
      : gradients(arena.gradients),
        segments(arena.segments),
        segment_count(static_cast<int>(arena.segment_count)),
        slots(static_cast<int>(ceil_divide(arena.size, arena_slot_elements))) {
    if constexpr (std::is_same_v<T, float>) {
      values = arena.values;
    } else {
      copies = arena.values;
      values = arena.masters;
    }
    aligned = groups_aligned(copies, 0) && groups_aligned(values, 0) && groups_aligned(gradients, 0) &&
              (groups_aligned(moments, 0) && ...);
  }
  /// Blocks that walk it.
  [[nodiscard]] dim3 grid() const { return dim3(blocks_for(slots, slots_per_warp * (slot_threads / 32))); }
};

/// Calls f(first element, count <= 8, aligned, decay) for the elements of this thread that belong to a parameter.
template <Element T, class F>
__device__ __forceinline__ void for_each_group(const ArenaArguments<T>& arena, const F& f) {
  const int first_slot = (block_x() * (slot_threads / 32) + warp_index()) * slots_per_warp;
  index_t begin = 0;  // of the segment that the last slot belonged to: often this one's, too
  index_t end = 0;
  bool decay = false;
  for (int slot = first_slot; slot < first_slot + slots_per_warp && slot < arena.slots; ++slot) {
    const index_t slot_begin = index_t{slot} * arena_slot_elements;
    bool found = slot_begin >= begin && slot_begin < end;
    for (int base = 0; !found && base < arena.segment_count; base += 32) {  // a lane looks at one segment at a time
      ParameterSegment segment;
      if (base + lane_index() < arena.segment_count) {
        const ParameterSegment& there = arena.segments[base + lane_index()];
        segment.offset = there.offset;  // one by one: nvcc copies the whole byte by byte
        segment.size = there.size;
        segment.decay = there.decay;
      }
      const bool hit = slot_begin >= segment.offset && slot_begin < segment.offset + segment.size;
      const std::uint32_t lanes = ballot(hit);
      if (lanes == 0) continue;
      const int lane = lowest_bit(lanes);
      begin = shuffle(segment.offset, lane);
      end = begin + shuffle(segment.size, lane);
      decay = shuffle(static_cast<int>(segment.decay), lane) != 0;
      found = true;
    }
    if (!found) continue;  // a gap
    const index_t at = slot_begin + lane_index() * group_columns;
    if (at >= end) continue;
    const auto count = static_cast<int>(end - at < group_columns ? end - at : group_columns);
    f(at, count, arena.aligned && count == group_columns, decay);
  }
}

}  // namespace storylm::cuda
