// SPDX-License-Identifier: MIT
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

#if defined(_OPENMP) && defined(__linux__) && !defined(__clang__)  // clang's runtime keeps its threads anyhow
TEST_CASE("parallel_for keeps its threads when large and small work take turns") {
  const Cpu device({.threads = 4});
  std::mutex mutex;
  std::set<long> threads;  // ever seen
  for (int turn = 0; turn < 20; ++turn) {
    for (const index_t count : {index_t{2}, index_t{16}, index_t{1}}) {
      cpu::parallel_for(device, count, [&](index_t) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));  // so that others come to work
        const std::scoped_lock lock(mutex);
        threads.insert(::syscall(SYS_gettid));
      });
    }
  }
  CHECK(threads.size() > 1);
  CHECK(threads.size() <= 4);
}
#endif

TEST_CASE("parallel_for: no piece is no call, one piece stays on the calling thread") {
  const Cpu device({.threads = 4});
  int calls = 0;
  cpu::parallel_for(device, 0, [&](index_t) { ++calls; });
  CHECK(calls == 0);
  std::thread::id where;
  cpu::parallel_for(device, 1, [&](index_t) { where = std::this_thread::get_id(); });
  CHECK(where == std::this_thread::get_id());
}

}  // namespace
