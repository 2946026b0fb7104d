// SPDX-License-Identifier: MIT
/// @file
/// @brief Host versions of kernels/cuda/primitives.cuh: the same names with the same meaning, on the emulator.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

#include <cuda_runtime.h>
#include <emulator/engine.hpp>

#include <storylm/core/cuda_device.hpp>
#include <storylm/core/dtype.hpp>

/// Inlined without optimisation too, so that reports name the kernel's line.
#define STORYLM_EMULATED inline __attribute__((always_inline))

namespace storylm::cuda {

STORYLM_EMULATED int thread_index() { return emulator::position.thread; }
STORYLM_EMULATED int block_threads() { return emulator::position.threads; }
STORYLM_EMULATED int block_x() { return emulator::position.block_x; }
STORYLM_EMULATED int block_y() { return emulator::position.block_y; }
STORYLM_EMULATED int block_z() { return emulator::position.block_z; }
STORYLM_EMULATED int grid_x() { return emulator::position.grid_x; }
STORYLM_EMULATED int grid_y() { return emulator::position.grid_y; }
STORYLM_EMULATED int grid_z() { return emulator::position.grid_z; }
STORYLM_EMULATED int lane_index() { return thread_index() % 32; }
STORYLM_EMULATED int warp_index() { return thread_index() / 32; }

STORYLM_EMULATED void sync_block() { emulator::sync_block(); }
STORYLM_EMULATED void sync_warp() { emulator::sync_warp(); }

namespace detail {
template <class T>
STORYLM_EMULATED T exchange(T value, int from, const char* name) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(emulator::exchange(std::bit_cast<Bits>(value), from, name)));
}
}  // namespace detail

template <class T>
STORYLM_EMULATED T shuffle_xor(T value, int mask) {
  return detail::exchange(value, (lane_index() ^ mask) & 31, "shuffle_xor");
}
template <class T>
STORYLM_EMULATED T shuffle(T value, int from) {
  return detail::exchange(value, from & 31, "shuffle");
}
template <class T>
STORYLM_EMULATED T shuffle_up(T value, int distance) {
  const int lane = lane_index();
  return detail::exchange(value, lane < distance ? lane : lane - distance, "shuffle_up");
}
STORYLM_EMULATED std::uint32_t ballot(bool predicate) { return emulator::vote(predicate, "ballot"); }
STORYLM_EMULATED bool any(bool predicate) { return emulator::vote(predicate, "any") != 0; }
STORYLM_EMULATED bool all(bool predicate) { return emulator::vote(predicate, "all") == ~0U; }

namespace detail {
template <class T, int N, class Tag>
inline emulator::SharedArray shared_array_place;
}  // namespace detail

template <class T, int N, class Tag>
STORYLM_EMULATED T* shared_array() {
  static_assert(alignof(T) <= 16);
  emulator::SharedArray& place = detail::shared_array_place<T, N, Tag>;
  return reinterpret_cast<T*>(
      place.launch == emulator::current_launch ? place.memory : emulator::place_shared_array(place, N * sizeof(T)));
}
STORYLM_EMULATED unsigned char* dynamic_shared() { return emulator::dynamic_shared(); }
STORYLM_EMULATED std::uint32_t shared_address(const void* p) { return emulator::shared_address(p); }

STORYLM_EMULATED void copy_async16(std::uint32_t to, const void* from, bool valid) {
  emulator::copy_async16(to, from, valid);
}
STORYLM_EMULATED void commit_copies() { emulator::commit_copies(); }
template <int N>
STORYLM_EMULATED void wait_copies() {
  emulator::wait_copies(N);
}

STORYLM_EMULATED void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t address) {
  emulator::load_matrix_x4(r, address, false);
}
STORYLM_EMULATED void load_matrix_x4_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  emulator::load_matrix_x4(r, address, true);
}
template <class T>
STORYLM_EMULATED void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, half>);
  emulator::mma_m16n8k16(d, a, b0, b1, std::is_same_v<T, bf16> ? emulator::Sixteen::bf16 : emulator::Sixteen::half);
}

STORYLM_EMULATED float to_float(float x) { return x; }
STORYLM_EMULATED float to_float(bf16 x) { return static_cast<float>(x); }
STORYLM_EMULATED float to_float(half x) { return static_cast<float>(x); }
template <class T>
STORYLM_EMULATED std::uint32_t pack(float lo, float hi) {
  static_assert(sizeof(T) == 2);
  return static_cast<std::uint32_t>(T(lo).bits) | static_cast<std::uint32_t>(T(hi).bits) << 16U;
}
template <class T>
STORYLM_EMULATED T from_float(float x) {
  return T(x);
}

STORYLM_EMULATED float fast_exp2(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0.0F : y;  // NaN stays
}
STORYLM_EMULATED float fast_exp(float x) { return fast_exp2(x * 1.4426950408889634F); }
STORYLM_EMULATED float fast_log2(float x) { return std::log2(x); }
STORYLM_EMULATED float fast_divide(float x, float y) { return x / y; }
STORYLM_EMULATED std::uint32_t multiply_high(std::uint32_t x, std::uint32_t y) {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(x) * y) >> 32U);
}
STORYLM_EMULATED int count_bits(std::uint32_t x) { return std::popcount(x); }
STORYLM_EMULATED int lowest_bit(std::uint32_t x) { return x == 0 ? -1 : std::countr_zero(x); }

STORYLM_EMULATED int atomic_add(int* p, int value) {
  emulator::before_atomic(p, sizeof(*p));
  return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
STORYLM_EMULATED int atomic_min(int* p, int value) {
  emulator::before_atomic(p, sizeof(*p));
  const int old = __atomic_load_n(p, __ATOMIC_RELAXED);
  if (value < old) __atomic_store_n(p, value, __ATOMIC_RELAXED);
  return old;
}
STORYLM_EMULATED int atomic_max(int* p, int value) {
  emulator::before_atomic(p, sizeof(*p));
  const int old = __atomic_load_n(p, __ATOMIC_RELAXED);
  if (value > old) __atomic_store_n(p, value, __ATOMIC_RELAXED);
  return old;
}
STORYLM_EMULATED std::uint32_t atomic_or(std::uint32_t* p, std::uint32_t value) {
  emulator::before_atomic(p, sizeof(*p));
  return __atomic_fetch_or(p, value, __ATOMIC_RELAXED);
}
STORYLM_EMULATED void fence_device() {}

template <class... Parameters, class... Arguments>
void launch(const Cuda& device, void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared_bytes,
            const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel arguments are copied byte by byte");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const auto* const name = reinterpret_cast<const void*>(kernel);
  if (shared_bytes != 0) {  // with the kernel's own arrays it may be more than the 48 KiB that need no leave
    STORYLM_CUDA_CHECK(
        cudaFuncSetAttribute(name, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  const cudaError_t code = emulator::launch(name, grid, threads, shared_bytes, device.stream(),
                                            [kernel, values] { std::apply(kernel, values); });
  STORYLM_CUDA_CHECK(code);
}

}  // namespace storylm::cuda

#undef STORYLM_EMULATED
