// SPDX-License-Identifier: MIT
/// @file
/// @brief Eight neighbouring elements at a time: 16-byte accesses where rows allow it, element by element elsewhere.
#pragma once

#include <cstdint>

#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/cuda/primitives.cuh>
#include <storylm/tensor/view.hpp>

namespace storylm::cuda {

/// Columns a thread holds at a time: also the columns of one block of random bits.
inline constexpr int group_columns = 8;

/// What one access moves.
struct alignas(16) Bytes16 {
  std::uint32_t words[4];  ///< in memory order
};

/// True where every group of eight columns of every row begins on a 16-byte boundary.
template <class T>
[[nodiscard]] STORYLM_HOST_DEVICE inline bool groups_aligned(const T* data, index_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride * static_cast<index_t>(sizeof(T)) % 16 == 0;
}
/// The same of a matrix whose rows hold whole groups; true of none.
template <class T>
[[nodiscard]] inline bool groups_aligned(MatrixView<T> m) {
  return m.data == nullptr || (m.cols % group_columns == 0 && groups_aligned(m.data, m.stride));
}

/// Eight elements from a 16-byte boundary on.
template <Element T>
__device__ __forceinline__ void load8(const T* from, float (&x)[8]) {
  if constexpr (sizeof(T) == 2) {
    const Bytes16 raw = *reinterpret_cast<const Bytes16*>(from);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      T lo;
      T hi;
      lo.bits = static_cast<std::uint16_t>(raw.words[i] & 0xFFFFU);
      hi.bits = static_cast<std::uint16_t>(raw.words[i] >> 16U);
      x[2 * i] = to_float(lo);
      x[2 * i + 1] = to_float(hi);
    }
  } else {
    struct alignas(16) Floats4 {
      float v[4];
    };
    const auto* const raw = reinterpret_cast<const Floats4*>(from);
    const Floats4 a = raw[0];
    const Floats4 b = raw[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = a.v[i];
      x[4 + i] = b.v[i];
    }
  }
}
/// The first `count` of eight elements, from anywhere; the others are `rest`.
template <Element T>
__device__ __forceinline__ void load8(const T* from, int count, float (&x)[8], float rest = 0.0F) {
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = i < count ? to_float(from[i]) : rest;
}
/// Either, as a uniform `aligned` says.
template <Element T>
__device__ __forceinline__ void load8(const T* from, int count, bool aligned, float (&x)[8], float rest = 0.0F) {
  aligned ? load8(from, x) : load8(from, count, x, rest);
}

/// Eight elements as they lie in memory: to load more before what came first is made use of. A compiler cannot move a
/// load before a store that might be to the same place.
template <Element T>
struct RawGroup {
  Bytes16 parts[sizeof(T) * group_columns / sizeof(Bytes16)];
};
/// Eight elements from a 16-byte boundary on.
template <Element T>
__device__ __forceinline__ RawGroup<T> load_raw8(const T* from) {
  return *reinterpret_cast<const RawGroup<T>*>(from);
}
template <Element T>
__device__ __forceinline__ void load8(const RawGroup<T>& raw, float (&x)[8]) {
  load8(reinterpret_cast<const T*>(raw.parts), x);
}

/// Eight elements to a 16-byte boundary.
template <Element T>
__device__ __forceinline__ void store8(T* to, const float (&x)[8]) {
  if constexpr (sizeof(T) == 2) {
    Bytes16 raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) raw.words[i] = pack<T>(x[2 * i], x[2 * i + 1]);
    *reinterpret_cast<Bytes16*>(to) = raw;
  } else {
    struct alignas(16) Floats4 {
      float v[4];
    };
    auto* const raw = reinterpret_cast<Floats4*>(to);
    raw[0] = {{x[0], x[1], x[2], x[3]}};
    raw[1] = {{x[4], x[5], x[6], x[7]}};
  }
}
/// The first `count` of eight elements, to anywhere.
template <Element T>
__device__ __forceinline__ void store8(T* to, int count, const float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < count) to[i] = from_float<T>(x[i]);
  }
}
/// Either, as a uniform `aligned` says.
template <Element T>
__device__ __forceinline__ void store8(T* to, int count, bool aligned, const float (&x)[8]) {
  aligned ? store8(to, x) : store8(to, count, x);
}

}  // namespace storylm::cuda
