// SPDX-License-Identifier: MIT
/// @file
/// @brief Threads for CPU kernels: the only file that knows OpenMP.
///
/// Work is cut into pieces by shape alone, and a piece never depends on which thread runs it or on how many there are.
/// So results are the same bits with 1, 2 or 64 threads, and without OpenMP.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <algorithm>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>

namespace storylm::cpu {

/// Threads that kernels given this device may use.
[[nodiscard]] inline int thread_count(const Cpu& device) {
#if defined(_OPENMP)
  return device.threads() > 0 ? device.threads() : omp_get_max_threads();
#else
  static_cast<void>(device);
  return 1;
#endif
}

/// Number of the calling thread inside parallel_for, below thread_count(): for buffers, never for results.
[[nodiscard]] inline int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

/// Runs f(i) for every i in [0, count), in any order and on any thread. f must not throw, and calls must not write to
/// the same place.
template <class F>
void parallel_for(const Cpu& device, index_t count, const F& f) {
#if defined(_OPENMP)
  // The whole team for two pieces too: libgomp ends the threads that a smaller team can do without, and starting them
  // again for the next costs more than waking them.
  const int threads = count > 1 ? thread_count(device) : 1;
  // Inside a caller's own parallel region always, so that thread_index() counts this team's threads, not the caller's.
  if (threads > 1 || (count > 0 && omp_in_parallel() != 0)) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (index_t i = 0; i < count; ++i) f(i);
    return;
  }
#else
  static_cast<void>(device);
#endif
  for (index_t i = 0; i < count; ++i) f(i);
}

/// Runs f(begin, end) over [0, count) in pieces of `grain`; the pieces depend on count and grain only.
template <class F>
void parallel_blocks(const Cpu& device, index_t count, index_t grain, const F& f) {
  parallel_for(device, (count + grain - 1) / grain,
               [&](index_t block) { f(block * grain, std::min(count, (block + 1) * grain)); });
}

/// Sums f(begin, end) over pieces of `grain`: each piece on some thread, the pieces in order.
template <class T, class F>
[[nodiscard]] T ordered_sum(const Cpu& device, index_t count, index_t grain, const F& f) {
  auto scratch = device.scratch();
  const index_t blocks = (count + grain - 1) / grain;
  T* partial = scratch.take<T>(blocks);  // (blocks)
  parallel_for(device, blocks,
               [&](index_t block) { partial[block] = f(block * grain, std::min(count, (block + 1) * grain)); });
  T total{};
  for (index_t block = 0; block < blocks; ++block) total += partial[block];
  return total;
}

}  // namespace storylm::cpu
