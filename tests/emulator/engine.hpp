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

/// Runs all blocks of a launch now. @throws KernelError
void run_grid(const void* kernel, dim3 grid, int threads, std::size_t shared_bytes,
              const std::function<void()>& thread);

/// "name (file:line)" of a place in the program, as far as symbols tell.
std::string describe_function(const void* address);
std::string describe_return_address(const void* address);

}  // namespace emulator
