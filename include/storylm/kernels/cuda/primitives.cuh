// SPDX-License-Identifier: MIT
/// @file
/// @brief Everything kernels use of the hardware, and the only file with PTX and intrinsics.
///
/// nvcc compiles the functions below; without it they come from the emulator in tests/, under the same names and with
/// the meaning that the PTX ISA documents. Kernels are written over these alone, so that the very same kernels run on
/// the CPU in tests. Instructions newer than sm_75 trap where the code is compiled for older devices.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include <storylm/core/cuda_device.hpp>
#include <storylm/core/dtype.hpp>

#if !defined(__CUDACC__)
#include <emulator/primitives.hpp>
#else

namespace storylm::cuda {

// Where a thread is. All indices fit an int: grids are made so.
__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }  ///< in the block
__device__ __forceinline__ int block_threads() { return static_cast<int>(blockDim.x); }  ///< threads of a block
__device__ __forceinline__ int block_x() { return static_cast<int>(blockIdx.x); }        ///< of the block
__device__ __forceinline__ int block_y() { return static_cast<int>(blockIdx.y); }        ///< of the block
__device__ __forceinline__ int block_z() { return static_cast<int>(blockIdx.z); }        ///< of the block
__device__ __forceinline__ int grid_x() { return static_cast<int>(gridDim.x); }          ///< blocks along x
__device__ __forceinline__ int grid_y() { return static_cast<int>(gridDim.y); }          ///< blocks along y
__device__ __forceinline__ int grid_z() { return static_cast<int>(gridDim.z); }          ///< blocks along z
__device__ __forceinline__ int lane_index() { return thread_index() % 32; }              ///< in the warp
__device__ __forceinline__ int warp_index() { return thread_index() / 32; }              ///< in the block

// Barriers. All threads of the block, or all 32 lanes of the warp, must come.
__device__ __forceinline__ void sync_block() { __syncthreads(); }  ///< orders all memory accesses of the block
__device__ __forceinline__ void sync_warp() { __syncwarp(); }      ///< orders all memory accesses of the warp

// Exchange between the 32 lanes of a warp, all of which must take part. T is 4 or 8 bytes.
template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(~0U, value, mask);
}
/// The value of lane `from`, taken modulo 32.
template <class T>
__device__ __forceinline__ T shuffle(T value, int from) {
  return __shfl_sync(~0U, value, from);
}
/// The value of the lane `distance` below; lanes without one keep their own.
template <class T>
__device__ __forceinline__ T shuffle_up(T value, int distance) {
  return __shfl_up_sync(~0U, value, static_cast<unsigned>(distance));
}
__device__ __forceinline__ std::uint32_t ballot(bool predicate) { return __ballot_sync(~0U, predicate); }
__device__ __forceinline__ bool any(bool predicate) { return __any_sync(~0U, predicate) != 0; }
__device__ __forceinline__ bool all(bool predicate) { return __all_sync(~0U, predicate) != 0; }

// Memory that the threads of a block share. It holds nothing to begin with.
/// N values; the same T, N and Tag are the same memory. At most 48 KiB in all.
template <class T, int N, class Tag>
__device__ __forceinline__ T* shared_array() {
  __shared__ alignas(16) T values[N];
  return values;
}
/// What the launch asked for, on a 128-byte boundary.
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char storylm_dynamic_shared[];
  return storylm_dynamic_shared;
}
/// Its address as load_matrix and copy_async take it.
__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Asynchronous copies from global to shared memory (sm_80), in groups: a thread's copies since its last
// commit_copies() are one. wait_copies<N>() waits until at most N of this thread's groups are under way; other threads'
// copies are seen after a sync_block() that follows their wait.
/// 16 bytes; zeros, and no access to `from`, unless `valid`. Both addresses are multiples of 16.
__device__ __forceinline__ void copy_async16(std::uint32_t to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(bytes)
               : "memory");
#else
  __trap();
#endif
}
__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  __trap();
#endif
}
template <int N>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
  __trap();
#endif
}

// Tensor cores. Fragments as the PTX ISA lays them out, with group g = lane / 4 and t = lane % 4.
/// Four 8 x 8 matrices of 16-bit elements; lanes 8m to 8m + 7 bring the addresses of the rows of matrix m. r[m] of a
/// lane: elements 2t and 2t + 1 of row g.
__device__ __forceinline__ void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
/// The same, each matrix transposed: elements (2t, g) and (2t + 1, g).
__device__ __forceinline__ void load_matrix_x4_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
/// d (16 x 8, float) += a (16 x 16) b (16 x 8), T = bf16 or half (sm_80).
/// a[0], a[1], a[2], a[3]: rows g, g + 8, g, g + 8; columns 2t, 2t, 2t + 8, 2t + 8 and the next. b0, b1: column g, rows
/// 2t and 2t + 8 and the next. d[0], d[1]: row g, columns 2t and 2t + 1; d[2], d[3]: row g + 8.
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  static_assert(sizeof(T) == 2);
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#else
  __trap();
#endif
}

// Conversion. Rounding to nearest, ties to even, as core/dtype.hpp rounds.
__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16U); }
__device__ __forceinline__ float to_float(half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
/// lo in the lower half, hi in the upper half.
template <class T>
__device__ __forceinline__ std::uint32_t pack(float lo, float hi) {
  static_assert(sizeof(T) == 2);
  std::uint32_t r = 0;
  if constexpr (std::is_same_v<T, bf16>) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
#else
    r = bf16(lo).bits | static_cast<std::uint32_t>(bf16(hi).bits) << 16U;
#endif
  } else {
    std::uint16_t l;
    std::uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(l) : "f"(lo));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(hi));
    r = l | static_cast<std::uint32_t>(h) << 16U;
  }
  return r;
}
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    T y;
    y.bits = static_cast<std::uint16_t>(pack<T>(x, 0.0F));
    return y;
  }
}

// Arithmetic. The fast ones are off by a few units in the last place.
__device__ __forceinline__ float fast_exp2(float x) {  ///< 2^x; denormal results are zero
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_exp(float x) { return fast_exp2(x * 1.4426950408889634F); }
__device__ __forceinline__ float fast_log2(float x) { return __log2f(x); }
__device__ __forceinline__ float fast_divide(float x, float y) { return __fdividef(x, y); }
__device__ __forceinline__ std::uint32_t multiply_high(std::uint32_t x, std::uint32_t y) { return __umulhi(x, y); }
__device__ __forceinline__ int count_bits(std::uint32_t x) { return __popc(x); }
/// Index of the lowest bit that is set, -1 when none is.
__device__ __forceinline__ int lowest_bit(std::uint32_t x) { return __ffs(static_cast<int>(x)) - 1; }

// Atomics on integers only: sums of floats would depend on the order of the threads.
__device__ __forceinline__ int atomic_add(int* p, int value) { return atomicAdd(p, value); }
__device__ __forceinline__ int atomic_min(int* p, int value) { return atomicMin(p, value); }
__device__ __forceinline__ int atomic_max(int* p, int value) { return atomicMax(p, value); }
__device__ __forceinline__ std::uint32_t atomic_or(std::uint32_t* p, std::uint32_t value) { return atomicOr(p, value); }
/// Orders this thread's writes before what it writes next, for all blocks.
__device__ __forceinline__ void fence_device() { __threadfence(); }

/// Runs kernel(arguments...) on `grid` blocks of `threads` threads with `shared_bytes` of dynamic shared memory, in the
/// order of the device's work. @throws CudaError
template <class... Parameters, class... Arguments>
void launch(const Cuda& device, void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared_bytes,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes != 0) {  // with the kernel's own arrays it may be more than the 48 KiB that need no permission
    STORYLM_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_bytes)));
  }
  // clang-format off
  kernel<<<grid, static_cast<unsigned>(threads), shared_bytes, device.stream()>>>(static_cast<Parameters>(arguments)...);
  // clang-format on
  STORYLM_CUDA_CHECK(cudaGetLastError());
}

}  // namespace storylm::cuda
#endif
