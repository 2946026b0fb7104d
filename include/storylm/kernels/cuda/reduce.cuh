// SPDX-License-Identifier: MIT
/// @file
/// @brief Sums and maxima over a warp or a block, always in the same order.
#pragma once

#include <storylm/kernels/cuda/primitives.cuh>

namespace storylm::cuda {

/// The sum over the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += shuffle_xor(x, distance);
  return x;
}
/// The maximum over the warp, in every lane.
template <class T>
__device__ __forceinline__ T warp_max(T x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = shuffle_xor(x, distance);
    x = other > x ? other : x;
  }
  return x;
}

namespace detail {
/// Every warp's value, combined in the order of warps, in every thread. Threads: a multiple of 32, all of the block's.
template <class Tag, class T, class Combine>
__device__ __forceinline__ T across_warps(T value, Combine combine) {
  T* const partial = shared_array<T, 32, Tag>();
  sync_block();  // the threads may still read what an earlier call left there
  if (lane_index() == 0) partial[warp_index()] = value;
  sync_block();
  T total = partial[0];
  for (int w = 1; w < block_threads() / 32; ++w) total = combine(total, partial[w]);
  return total;
}
struct BlockSum;
struct BlockMax;
}  // namespace detail

/// The sum over the block, in every thread; all threads take part, a multiple of 32 of them.
template <class T>
__device__ __forceinline__ T block_sum(T x) {
  return detail::across_warps<detail::BlockSum>(warp_sum(x), [](T a, T b) { return a + b; });
}
/// The maximum over the block, in every thread.
template <class T>
__device__ __forceinline__ T block_max(T x) {
  return detail::across_warps<detail::BlockMax>(warp_max(x), [](T a, T b) { return b > a ? b : a; });
}

}  // namespace storylm::cuda
