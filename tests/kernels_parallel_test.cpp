// SPDX-License-Identifier: MIT
#include <atomic>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/kernels/cpu/parallel.hpp>

namespace {
using namespace storylm;

TEST_CASE("thread_index stays below thread_count inside a caller's own parallel region") {
  for (const int threads : {1, 2}) {
    std::atomic<int> too_large{0};
    std::atomic<int> calls{0};
#if defined(_OPENMP)
#pragma omp parallel num_threads(4)
#endif
    {
      const Cpu device({.threads = threads});
      for (const index_t count : {index_t{1}, index_t{7}}) {
        cpu::parallel_for(device, count, [&](index_t) {
          ++calls;
          if (cpu::thread_index() >= cpu::thread_count(device)) ++too_large;
        });
      }
    }
    CHECK(too_large == 0);
    CHECK(calls >= 8);
  }
}

}  // namespace
