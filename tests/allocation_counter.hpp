// SPDX-License-Identifier: MIT
/// @file
/// @brief Counts allocations: replaces operator new and delete of the whole program. Include it in one source of a
/// test.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

/// Calls of operator new so far, on all threads.
inline std::atomic<long> allocations{0};
/// While it is set, operator new throws std::bad_alloc.
inline std::atomic<bool> out_of_memory{false};

namespace {
void* counted(void* p) {
  ++allocations;
  if (p != nullptr && !out_of_memory) return p;
  std::free(p);
  throw std::bad_alloc();
}
}  // namespace

// Not inlined: g++ would see malloc() and free() behind them, and warn of a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted(std::malloc(bytes != 0 ? bytes : 1)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(unit, (bytes + unit) / unit * unit));  // a multiple of the alignment, and not zero
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
