// SPDX-License-Identifier: MIT
/// @file
/// @brief op::rope on CUDA: the kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/rope.hpp>

namespace storylm {
namespace cuda {

inline constexpr int rope_pairs = 128;  ///< that one launch rotates of every head
inline constexpr int rope_heads = 4;    ///< that a thread rotates by the same angles

/// What a position adds to the angles of these pairs, in 2^-64 of a turn. Whole turns fall out of the product with a
/// position by themselves, so far positions are as exact as near ones.
struct RopeTurns {
  std::uint64_t per_position[rope_pairs];

  RopeTurns() = default;
  /// On the host: pairs `first` to first + count - 1.
  RopeTurns(double theta, index_t head_dim, index_t first, index_t count) : per_position{} {
    for (index_t i = 0; i < count; ++i) {
      const double exponent = static_cast<double>(2 * (first + i)) / static_cast<double>(head_dim);
      const double turns = std::pow(theta, -exponent) / (2.0 * std::numbers::pi);
      per_position[i] = static_cast<std::uint64_t>(std::ldexp(turns - std::floor(turns), 64));
    }
  }
};

/// Cosine and sine of `turns` * 2^-64 turns.
__device__ __forceinline__ void cosine_sine(std::uint64_t turns, float& cosine, float& sine) {
  const auto quarter = static_cast<std::uint32_t>((turns + (std::uint64_t{1} << 61U)) >> 62U);  // the nearest
  const auto rest = static_cast<std::int32_t>((turns - (std::uint64_t{quarter} << 62U)) >> 32U);
  const float x = static_cast<float>(rest) * 1.4629180792671596e-9F;  // 2 pi / 2^32: at most pi / 4
  const float x2 = x * x;
  // Cephes' sinf and cosf (Moshier), within 1.2e-7 on this interval.
  const float s = ((-1.9515295891e-4F * x2 + 8.3321608736e-3F) * x2 - 1.6666654611e-1F) * x2 * x + x;
  const float c =
      ((2.443315711809948e-5F * x2 - 1.388731625493765e-3F) * x2 + 4.166664568298827e-2F) * x2 * x2 - 0.5F * x2 + 1.0F;
  const float other = (quarter & 1U) != 0U ? s : c;
  const float same = (quarter & 1U) != 0U ? c : s;
  cosine = quarter == 1U || quarter == 2U ? -other : other;
  sine = (quarter & 2U) != 0U ? -same : same;
}

/// Eight pairs of a head, and back. `at` is the head's first element, `pair` the first pair, `count` how many there
/// are.
template <Element T, RopeLayout layout, class F>
__device__ __forceinline__ void rope_halves(T* at, int half, int pair, int count, const F& f) {
  if constexpr (layout == RopeLayout::half_split) {
    f(at + pair, count, at + half + pair, count);
  } else {
    f(at + 2 * pair, 2 * count < 8 ? 2 * count : 8, at + 2 * pair + 8, 2 * count - 8);
  }
}

/// A thread rotates eight pairs of up to four heads; queries and keys are heads alike.
template <Element T, RopeLayout layout>
__global__ void __launch_bounds__(elementwise_threads)
    rope_kernel(MatrixView<T> qkv, int heads, int half, int first_pair, RopeTurns turns, bool inverse, PackedView batch,
                int shift, bool aligned) {
  const int chunk = thread_index() & ((1 << shift) - 1);
  const int pair = first_pair + chunk * 8;
  const int end = half < first_pair + rope_pairs ? half : first_pair + rope_pairs;
  if (pair >= end) return;
  const int count = end - pair < 8 ? end - pair : 8;
  std::uint64_t per_position[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) per_position[i] = turns.per_position[chunk * 8 + i];

  for_each_row(batch.offsets[batch.sequences], shift, [&](index_t row) {
    const auto position = static_cast<std::uint64_t>(batch.positions[row]);
    float cosine[8];
    float sine[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      cosine_sine(per_position[i] * position, cosine[i], sine[i]);
      sine[i] = inverse ? -sine[i] : sine[i];
    }
#pragma unroll
    for (int h = 0; h < rope_heads; ++h) {
      const int head = block_y() * rope_heads + h;
      if (head >= heads) break;
      T* const at = qkv.data + row * qkv.stride + head * (2 * half);
      float a[8];
      float b[8];
      rope_halves<T, layout>(at, half, pair, count, [&](const T* low, int low_count, const T* high, int high_count) {
        load8(low, low_count, aligned, a);
        load8(high, high_count, aligned, b);
      });
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& first = layout == RopeLayout::half_split ? a[i] : i < 4 ? a[2 * i % 8] : b[2 * i % 8];
        float& second = layout == RopeLayout::half_split ? b[i] : i < 4 ? a[2 * i % 8 + 1] : b[2 * i % 8 + 1];
        const float x = first;
        first = x * cosine[i] - second * sine[i];
        second = second * cosine[i] + x * sine[i];
      }
      rope_halves<T, layout>(at, half, pair, count, [&](T* low, int low_count, T* high, int high_count) {
        store8(low, low_count, aligned, a);
        store8(high, high_count, aligned, b);
      });
    }
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::rope, Cuda, T>::run(const Cuda& device, MatrixView<T> qkv, const AttentionSpec& spec, double theta,
                                    RopeLayout layout, bool inverse, const PackedView& batch) {
  const index_t half = spec.head_dim / 2;
  const index_t heads = spec.heads + spec.kv_heads;
  const bool aligned = half % 8 == 0 && cuda::groups_aligned(static_cast<const T*>(qkv.data), qkv.stride);
  for (index_t first = 0; first < half; first += cuda::rope_pairs) {
    const index_t pairs = std::min<index_t>(half - first, cuda::rope_pairs);
    const cuda::GroupTiles tiles(batch.tokens, pairs, cuda::ceil_divide(heads, cuda::rope_heads));
    const auto launch = [&](auto* kernel) {
      cuda::launch(device, kernel, tiles.grid, cuda::elementwise_threads, 0, qkv, static_cast<int>(heads),
                   static_cast<int>(half), static_cast<int>(first), cuda::RopeTurns(theta, spec.head_dim, first, pairs),
                   inverse, batch, tiles.shift, aligned);
    };
    layout == RopeLayout::half_split ? launch(cuda::rope_kernel<T, RopeLayout::half_split>)
                                     : launch(cuda::rope_kernel<T, RopeLayout::interleaved>);
  }
}

}  // namespace storylm
