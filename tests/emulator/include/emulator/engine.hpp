// SPDX-License-Identifier: MIT
/// @file
/// @brief The emulator that runs kernels on the CPU: what primitives.hpp, the stand-in libraries and tests use of it.
///
/// One fiber is one CUDA thread; one block runs after another, in random order. Warps run ahead of each other at
/// random, the lanes of a warp in random order, asynchronous copies land early or late: all from a seed, so that every
/// schedule can be had again. docs/design/emulator.md says what this shows and what it cannot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <cuda_runtime.h>

namespace emulator {

// For tests.

/// Another schedule of all that is given to any device from now on; at first STORYLM_EMULATOR_SEED of the environment.
void set_seed(unsigned seed);
/// What programs are told of the device; may be changed (capability, shared memory, number of multiprocessors, memory).
cudaDeviceProp& properties();
/// Bytes of device memory that are handed out.
[[nodiscard]] std::size_t allocated_bytes();
/// Launches run so far, replayed ones too.
[[nodiscard]] std::uint64_t launches();
/// Reports races, reads of shared memory that nobody wrote and writes to the host's memory, from the next launch on;
/// at first off, unless STORYLM_EMULATOR_RACES=1 is in the environment. False, and nothing will be reported, when no
/// source of the program was compiled with -fsanitize=thread.
bool watch_races(bool on);

// For the stand-in libraries.

/// Gives `work` to a stream: it runs in its order, or is recorded while the stream captures. What it throws becomes
/// cudaErrorLaunchFailure of a later call, with its text.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
/// True when [p, p + bytes) lies in one allocation of device memory.
[[nodiscard]] bool is_device_memory(const void* p, std::size_t bytes);

// For primitives.hpp.

/// Runs `thread` once for each thread of the grid; `kernel` is what to call it in reports.
cudaError_t launch(const void* kernel, dim3 grid, int threads, std::size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> thread);

/// Where the thread that runs now is.
struct Position {
  int thread, threads;
  int block_x, block_y, block_z;
  int grid_x, grid_y, grid_z;
};
extern Position position;

/// Place of a shared array; one for each type, size and tag.
struct SharedArray {
  std::uint64_t launch = 0;
  unsigned char* memory = nullptr;
};
extern std::uint64_t current_launch;
unsigned char* place_shared_array(SharedArray& array, std::size_t bytes);

void sync_block();
void sync_warp();
std::uint64_t exchange(std::uint64_t value, int from, const char* name);  ///< the value of lane `from` of the warp
std::uint32_t vote(bool predicate, const char* name);                     ///< who says yes, a bit each
unsigned char* dynamic_shared();
std::uint32_t shared_address(const void* p);
void copy_async16(std::uint32_t to, const void* from, bool valid);
void commit_copies();
void wait_copies(int groups);
void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t address, bool transposed);
enum class Sixteen { bf16, half };
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, Sixteen type);
void before_atomic(void* p, std::size_t bytes);  ///< lets others come first, now and then

}  // namespace emulator
