// SPDX-License-Identifier: MIT
/// @file
/// @brief What the emulator's own sources share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include <emulator/engine.hpp>

namespace emulator {

/// A kernel went wrong; the text says which, where and how.
struct KernelError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Cheap random numbers (xorshift64*, Vigna 2016).
struct Random {
  std::uint64_t state = 1;
  void seed(std::uint64_t value) { state = value * 0x9E3779B97F4A7C15U + 0xD1B54A32D192ED03U; }
  std::uint32_t operator()() {
    state ^= state >> 12U;
    state ^= state << 25U;
    state ^= state >> 27U;
    return static_cast<std::uint32_t>((state * 0x2545F4914F6CDD1DU) >> 32U);
  }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((std::uint64_t{(*this)()} * n) >> 32U); }
};
Random& host_random();  ///< when streams run

/// True when cudaFuncSetAttribute has given the kernel a limit of dynamic shared memory.
bool has_shared_limit(const void* kernel);
/// Runs all blocks of a launch now. @throws KernelError
void run_grid(const void* kernel, dim3 grid, int threads, std::size_t shared_bytes,
              const std::function<void()>& thread);

/// Looks on at what threads do with memory. There is one when kernels are compiled with -fsanitize=thread (races.cpp).
struct Watcher {
  virtual void launch_begins() = 0;
  virtual void block_begins() = 0;
  virtual void block_synchronized() = 0;
  virtual void warp_synchronized(int warp) = 0;
  virtual void copy_begins(unsigned char* to, const unsigned char* from, int thread, const void* caller) = 0;
  virtual void copy_is_waited_for(unsigned char* to, int thread) = 0;
  virtual void matrix_row_is_loaded(const unsigned char* from, int thread, const void* caller) = 0;
  virtual void atomic(void* memory, std::size_t bytes, int thread, const void* caller) = 0;
  virtual void device_memory_changes(void* memory, std::size_t bytes) = 0;  ///< is handed out, or given back

 protected:
  ~Watcher() = default;
};
/// How much of a range of addresses is device memory.
enum class DeviceShare { none, some, all };
DeviceShare device_share(std::uintptr_t begin, std::size_t bytes);
extern Watcher* watcher;            ///< null when nobody looks on
extern Watcher* available_watcher;  ///< where kernels are compiled so that one can
extern bool in_watched_kernel;      ///< a kernel's code runs, not the emulator's, and somebody looks on
/// The emulator's code runs, called by a kernel's. It may share functions of the standard library with the kernel's, so
/// what those do to memory is nobody's business meanwhile.
struct Outside {
  Outside() { in_watched_kernel = false; }
  Outside(const Outside&) = delete;
  Outside& operator=(const Outside&) = delete;
  ~Outside() { in_watched_kernel = watcher != nullptr; }
};
constexpr std::size_t shared_capacity = std::size_t{512} << 10U;
/// Where addresses lie, for whoever looks on at every one of them.
struct Regions {
  unsigned char* shared;       ///< all shared memory of a block
  const unsigned char* stack;  ///< of the thread that runs
  std::size_t stack_bytes;
};
extern Regions regions;
/// Gives the kernel up: `what` happened in the current thread. Never returns.
[[noreturn]] void fail(const std::string& what, const void* caller);

/// "name (file:line)" of a place in the program, as far as symbols tell.
std::string describe_function(const void* address);
std::string describe_return_address(const void* address);

}  // namespace emulator
