// SPDX-License-Identifier: MIT
/// @file
/// @brief op::attention_cached on CUDA: the kernels.
///
/// A block attends from one row with the query heads that share one key-value head. Its four warps take tiles of
/// positions in turn, and in a warp a few lanes hold a key each, eight columns a lane, so that keys and values are read
/// once, 16 bytes at a time. Every group of lanes keeps a softmax of its own over what it has seen; they are brought
/// together in a fixed order at the end. So the bits of a row depend on its position, its window and what is cached
/// there alone. Where every sequence brings one row the same kernel also stores that row's key and value.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include <storylm/core/error.hpp>
#include <storylm/kernels/cuda/attention_cached.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

inline constexpr int cached_warps = 4;
inline constexpr int cached_threads = 32 * cached_warps;
inline constexpr int cached_loads = 4;  ///< of keys, and as many of values, that a lane has under way

/// Blocks at a time on a multiprocessor, as many as have registers enough.
template <Element TKV, int Heads>
inline constexpr int cached_blocks = (sizeof(TKV) == 4 ? 4 : 5) - Heads / 2;

/// A call of op::attention_cached.
template <Element T, Element TKV>
struct CachedCall {
  MatrixView<T> y;          ///< (tokens, q_width)
  MatrixView<const T> qkv;  ///< (tokens, qkv_width)
  KvView<TKV> kv;
  PackedView batch;
  int kv_heads = 0;
  int group = 0;  ///< query heads of a key-value head
  int head_dim = 0;
  int window = 0;
  float scale = 0.0F;    ///< of scores, which are exponents of 2
  bool aligned = false;  ///< groups of eight columns begin on 16-byte boundaries everywhere
  bool store = false;    ///< the row's own key and value are not cached yet
};

/// Eight elements as they lie in memory: half as many registers as floats where T has 16 bits.
template <Element T>
struct Raw8 {
  std::uint32_t words[2 * sizeof(T)];
};
/// The first `count` of them, zeros behind; nothing else is read. With `aligned`, count is 0 or 8.
template <Element T>
__device__ __forceinline__ Raw8<T> load_raw8(const T* from, int count, bool aligned) {
  Raw8<T> raw = {};
  if (aligned) {
    if (count == 0) return raw;
#pragma unroll
    for (int part = 0; part < static_cast<int>(sizeof(T)) / 2; ++part) {
      const Bytes16 bytes = reinterpret_cast<const Bytes16*>(from)[part];
#pragma unroll
      for (int i = 0; i < 4; ++i) raw.words[4 * part + i] = bytes.words[i];
    }
  } else if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) raw.words[i / 2] |= static_cast<std::uint32_t>(from[i].bits) << (16 * (i % 2));
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) raw.words[i] = std::bit_cast<std::uint32_t>(from[i]);
    }
  }
  return raw;
}
template <Element T>
__device__ __forceinline__ float element(const Raw8<T>& raw, int i) {
  if constexpr (sizeof(T) == 2) {
    T x;
    x.bits = static_cast<std::uint16_t>(raw.words[i / 2] >> (16 * (i % 2)));
    return to_float(x);
  } else {
    return std::bit_cast<float>(raw.words[i]);
  }
}

/// A softmax under way, of one query over some positions: 8 columns of the sum of weighted values.
struct CachedSoftmax {
  float out[8] = {};
  float sum = 0.0F;
  float largest = std::numeric_limits<float>::lowest();  // finite, so that no difference of two is a NaN

  /// The same over the positions of both.
  __device__ __forceinline__ void merge_lanes(int distance) {
    const float other_largest = shuffle_xor(largest, distance);
    const float both = other_largest > largest ? other_largest : largest;
    const float mine = fast_exp2(largest - both);
    const float theirs = fast_exp2(other_largest - both);
    sum = sum * mine + shuffle_xor(sum, distance) * theirs;
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = out[i] * mine + shuffle_xor(out[i], distance) * theirs;
    largest = both;
  }
};

/// What warps leave for each other, `Columns` columns of each of `Heads` queries.
template <int Columns, int Heads>
struct CachedPartials {
  float out[cached_warps][Heads][Columns];
  float sum[cached_warps][Heads];
  float largest[cached_warps][Heads];
};

/// Keys and values of all rows, eight columns of both a thread.
template <Element T, Element TKV>
__global__ void __launch_bounds__(elementwise_threads) store_cached_kernel(const CachedCall<T, TKV> call) {
  const int width = call.kv_heads * call.head_dim;
  const int groups = (width + group_columns - 1) / group_columns;
  const index_t i = index_t{block_x()} * elementwise_threads + thread_index();
  const index_t row = i / groups;
  if (row >= call.batch.tokens || row >= call.batch.offsets[call.batch.sequences]) return;
  const auto column = static_cast<int>(i % groups) * group_columns;
  const int count = width - column < group_columns ? width - column : group_columns;
  const T* const from = call.qkv.data + row * call.qkv.stride + index_t{width} * call.group + column;
  const index_t to =
      (index_t{call.kv.slots[call.batch.sequence[row]]} * call.kv.capacity + call.batch.positions[row]) * width +
      column;
  float x[8];
  load8(from, count, call.aligned, x);
  store8(call.kv.keys + to, count, call.aligned, x);
  load8(from + width, count, call.aligned, x);
  store8(call.kv.values + to, count, call.aligned, x);
}

/// Lanes: those that hold one key, 8 columns each. Heads: queries at a time.
template <Element T, Element TKV, int Lanes, int Heads>
__global__ void __launch_bounds__(cached_threads, cached_blocks<TKV, Heads>)
    attention_cached_kernel(const CachedCall<T, TKV> call) {
  constexpr int keys_at_once = 32 / Lanes;
  constexpr int tile = keys_at_once * cached_loads;
  const index_t row = block_x() / call.kv_heads;
  const int kv_head = block_x() % call.kv_heads;
  const int d = call.head_dim;
  const index_t width = index_t{call.kv_heads} * d;
  T* const y = call.y.data + row * call.y.stride + index_t{kv_head} * call.group * d;
  if (row >= call.batch.offsets[call.batch.sequences]) {  // belongs to no sequence
    for (int i = thread_index(); i < call.group * d; i += cached_threads) y[i] = from_float<T>(0.0F);
    return;
  }
  const T* const queries = call.qkv.data + row * call.qkv.stride + index_t{kv_head} * call.group * d;
  const int position = call.batch.positions[row];
  const index_t first =
      index_t{call.kv.slots[call.batch.sequence[row]]} * call.kv.capacity * width + index_t{kv_head} * d;
  TKV* const keys = call.kv.keys + first;      // (positions, width)
  TKV* const values = call.kv.values + first;  // (positions, width)
  if (call.store) {
    const T* const from = call.qkv.data + row * call.qkv.stride + width * call.group + index_t{kv_head} * d;
    for (int c = thread_index(); c < d; c += cached_threads) {
      keys[position * width + c] = from_float<TKV>(to_float(from[c]));
      values[position * width + c] = from_float<TKV>(to_float(from[width + c]));
    }
    sync_block();  // they are read as all others are
  }
  const int oldest = call.window > 0 && position + 1 > call.window ? position + 1 - call.window : 0;
  const int key_of_lane = lane_index() / Lanes;
  const int column = lane_index() % Lanes * 8;
  const int columns = d - column < 0 ? 0 : d - column < 8 ? d - column : 8;  // of this lane

  using Partials = CachedPartials<8 * Lanes, Heads>;
  auto& partials = *shared_array<Partials, 1, Partials>();
  for (int head = 0; head < call.group; head += Heads) {
    float q[Heads][8];
    CachedSoftmax softmax[Heads];
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      const int count = head + h < call.group ? columns : 0;
      load8(queries + index_t{head + h} * d + column, count, call.aligned && count == 8, q[h]);
#pragma unroll
      for (int i = 0; i < 8; ++i) q[h][i] *= call.scale;
    }
    for (int begin = (oldest / tile + warp_index()) * tile; begin <= position; begin += tile * cached_warps) {
      Raw8<TKV> k[cached_loads];
      Raw8<TKV> v[cached_loads];
      bool visible[cached_loads];
#pragma unroll
      for (int n = 0; n < cached_loads; ++n) {
        const int j = begin + n * keys_at_once + key_of_lane;
        visible[n] = j >= oldest && j <= position;
        const int count = visible[n] ? columns : 0;
        k[n] = load_raw8(keys + j * width + column, count, call.aligned);
        v[n] = load_raw8(values + j * width + column, count, call.aligned);
      }
      float weight[Heads][cached_loads];
#pragma unroll
      for (int n = 0; n < cached_loads; ++n) {
        float x[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = element(k[n], i);
#pragma unroll
        for (int h = 0; h < Heads; ++h) {
          float dot = 0.0F;
#pragma unroll
          for (int i = 0; i < 8; ++i) dot += q[h][i] * x[i];
#pragma unroll
          for (int distance = Lanes / 2; distance > 0; distance /= 2) dot += shuffle_xor(dot, distance);
          weight[h][n] = visible[n] ? dot : -std::numeric_limits<float>::infinity();
        }
      }
#pragma unroll
      for (int h = 0; h < Heads; ++h) {
        CachedSoftmax& s = softmax[h];
        float largest = s.largest;
#pragma unroll
        for (int n = 0; n < cached_loads; ++n) largest = weight[h][n] > largest ? weight[h][n] : largest;
        const float correction = fast_exp2(s.largest - largest);
        s.largest = largest;
        s.sum *= correction;
#pragma unroll
        for (int i = 0; i < 8; ++i) s.out[i] *= correction;
#pragma unroll
        for (int n = 0; n < cached_loads; ++n) {
          weight[h][n] = fast_exp2(weight[h][n] - largest);
          s.sum += weight[h][n];
        }
      }
#pragma unroll
      for (int n = 0; n < cached_loads; ++n) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float x = element(v[n], i);
#pragma unroll
          for (int h = 0; h < Heads; ++h) softmax[h].out[i] += weight[h][n] * x;
        }
      }
    }
    if (head > 0) sync_block();  // the heads before have been read
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
#pragma unroll
      for (int distance = Lanes; distance < 32; distance *= 2) softmax[h].merge_lanes(distance);
      if (lane_index() >= Lanes) continue;
#pragma unroll
      for (int i = 0; i < 8; ++i) partials.out[warp_index()][h][column + i] = softmax[h].out[i];
      if (lane_index() != 0) continue;
      partials.sum[warp_index()][h] = softmax[h].sum;
      partials.largest[warp_index()][h] = softmax[h].largest;
    }
    sync_block();
#pragma unroll
    for (int h = 0; h < Heads; ++h) {
      if (head + h >= call.group) break;
      float largest = partials.largest[0][h];
#pragma unroll
      for (int w = 1; w < cached_warps; ++w)
        largest = partials.largest[w][h] > largest ? partials.largest[w][h] : largest;
      float share[cached_warps];
      float sum = 0.0F;
#pragma unroll
      for (int w = 0; w < cached_warps; ++w) {
        share[w] = fast_exp2(partials.largest[w][h] - largest);
        sum += share[w] * partials.sum[w][h];
      }
      const float inverse = 1.0F / sum;
      for (int c = thread_index(); c < d; c += cached_threads) {
        float total = 0.0F;
#pragma unroll
        for (int w = 0; w < cached_warps; ++w) total += share[w] * partials.out[w][h][c];
        y[index_t{head + h} * d + c] = from_float<T>(total * inverse);
      }
    }
  }
}

/// By the width of a head and the queries that share a key.
template <Element T, Element TKV, int Lanes>
void launch_attention_cached(const Cuda& device, const CachedCall<T, TKV>& call, dim3 grid) {
  const auto launch_heads = [&](auto kernel) { launch(device, kernel, grid, cached_threads, 0, call); };
  if (call.group == 1) return launch_heads(attention_cached_kernel<T, TKV, Lanes, 1>);
  if (call.group == 2) return launch_heads(attention_cached_kernel<T, TKV, Lanes, 2>);
  launch_heads(attention_cached_kernel<T, TKV, Lanes, 4>);
}

}  // namespace cuda

template <cuda::Element T, cuda::Element TKV>
requires(std::same_as<T, TKV> || std::same_as<T, float>) void kernel<op::attention_cached, Cuda, T, TKV>::run(
    const Cuda& device, MatrixView<T> y, MatrixView<const T> qkv, const KvView<TKV>& kv, const AttentionSpec& spec,
    const PackedView& batch) {
  expects<ShapeError>(spec.head_dim <= 256, "attention_cached", "head_dim is ", spec.head_dim,
                      ", on CUDA it may be up to 256");
  const index_t width = spec.kv_width();
  const cuda::CachedCall<T, TKV> call{
      .y = y,
      .qkv = qkv,
      .kv = kv,
      .batch = batch,
      .kv_heads = static_cast<int>(spec.kv_heads),
      .group = static_cast<int>(spec.heads / spec.kv_heads),
      .head_dim = static_cast<int>(spec.head_dim),
      .window = static_cast<int>(std::min<index_t>(spec.window, std::numeric_limits<int>::max())),
      .scale = static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(spec.head_dim))),
      .aligned = spec.head_dim % cuda::group_columns == 0 && cuda::groups_aligned(qkv.data, qkv.stride) &&
                 cuda::groups_aligned(kv.keys, width) && cuda::groups_aligned(kv.values, width),
      .store = batch.longest == 1};
  const index_t groups = cuda::ceil_divide(width, cuda::group_columns);
  if (!call.store)  // a row attends to others of this call: all of them are stored first
    cuda::launch(device, cuda::store_cached_kernel<T, TKV>,
                 dim3(cuda::blocks_for(batch.tokens * groups, cuda::elementwise_threads)), cuda::elementwise_threads, 0,
                 call);
  const dim3 grid(cuda::blocks_for(batch.tokens * spec.kv_heads, 1));
  if (spec.head_dim <= 32) return cuda::launch_attention_cached<T, TKV, 4>(device, call, grid);
  if (spec.head_dim <= 64) return cuda::launch_attention_cached<T, TKV, 8>(device, call, grid);
  if (spec.head_dim <= 128) return cuda::launch_attention_cached<T, TKV, 16>(device, call, grid);
  cuda::launch_attention_cached<T, TKV, 32>(device, call, grid);
}

}  // namespace storylm
