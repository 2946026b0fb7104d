// SPDX-License-Identifier: MIT
/// @file
/// @brief The CPU device: memory, copies, one context shared by all copies of a handle.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <new>
#include <numeric>
#include <type_traits>

#if defined(__linux__)
#include <unistd.h>
#endif

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/kernels/cpu/parallel.hpp>

#include "allocation_counter.hpp"

using namespace storylm;

static_assert(Device<Cpu> && !Device<int> && !std::is_convertible_v<CpuOptions, Cpu>);

TEST_CASE("Cpu: memory on 64-byte boundaries, zeroes and copies bytes") {
  const Cpu device;
  CHECK(Cpu::name == "cpu");
  for (const std::size_t bytes : {0U, 1U, 63U, 64U, 1000U}) {
    void* p = device.allocate(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
    device.deallocate(p);
  }
  std::array<int, 5> numbers{};
  std::iota(numbers.begin(), numbers.end(), 1);
  auto* p = static_cast<int*>(device.allocate(sizeof numbers));
  auto* q = static_cast<int*>(device.allocate(sizeof numbers));
  std::array<int, 5> back{};
  device.copy_from_host(p, numbers.data(), sizeof numbers);
  device.fill_zero(q, sizeof numbers);
  device.copy(q, p, 2 * sizeof(int));
  device.synchronize();
  device.copy_to_host(back.data(), q, sizeof back);
  CHECK(back == std::array<int, 5>{1, 2, 0, 0, 0});
  device.copy(nullptr, nullptr, 0);  // nothing to copy needs no memory
  device.fill_zero(nullptr, 0);
  device.deallocate(p);
  device.deallocate(q);
  device.deallocate(nullptr);
}

TEST_CASE("Cpu: large blocks are whole, zero when asked for, on huge pages' boundaries, and go back to the system") {
  constexpr std::size_t huge = std::size_t{1} << 21U;
  const Cpu device;
  for (const std::size_t bytes : {huge - 1, huge, huge + 1, 3 * huge + 12345}) {
    auto* const p = static_cast<unsigned char*>(device.allocate_zero(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
    CHECK(std::all_of(p, p + bytes, [](unsigned char byte) { return byte == 0; }));
    std::memset(p, 0xFF, bytes);
    device.deallocate(p);
    auto* const again = static_cast<unsigned char*>(device.allocate_zero(bytes));  // perhaps the same memory
    CHECK(std::all_of(again, again + bytes, [](unsigned char byte) { return byte == 0; }));
    device.deallocate(again);
  }
  CHECK_THROWS_AS(static_cast<void>(device.allocate(static_cast<std::size_t>(-1))), std::bad_alloc);
  CHECK_THROWS_AS(static_cast<void>(device.allocate(std::size_t{1} << 60U)), std::bad_alloc);
#if defined(__linux__)
  const auto pages = [] {  // resident ones
    std::ifstream statm("/proc/self/statm");
    long total = 0, resident = 0;
    statm >> total >> resident;
    return resident;
  };
  const long page = ::sysconf(_SC_PAGESIZE);
  const long before = pages();
  auto* const p = static_cast<unsigned char*>(device.allocate_zero(64 * huge));
  CHECK((reinterpret_cast<std::uintptr_t>(p) - 64) % huge == 0);
  CHECK((pages() - before) * page < static_cast<long>(8 * huge));  // nobody has touched it
  std::memset(p, 1, 64 * huge);
  CHECK((pages() - before) * page > static_cast<long>(60 * huge));
  device.deallocate(p);
  CHECK((pages() - before) * page < static_cast<long>(8 * huge));
#endif
}

TEST_CASE("Cpu: copies are the same context, another Cpu is not") {
  const Cpu device({.threads = 3});
  const Cpu same = device;  // NOLINT(performance-unnecessary-copy-initialization): that is the point
  const Cpu other({.threads = 1});
  CHECK(same.threads() == 3);
  CHECK(other.threads() == 1);
  CHECK(Cpu().threads() == 0);
  auto outer = device.scratch();
  auto* first = outer.take<std::byte>(64);
  auto inner = same.scratch();
  CHECK(inner.take<std::byte>(64) - first == 64);
}

TEST_CASE("Cpu: the number of threads may not be negative") {
  CHECK_THROWS_WITH_AS(Cpu({.threads = -1}), "[Cpu] threads must not be negative: -1", ArgumentError);
}

TEST_CASE("Cpu: scratch of a known size costs no allocation the second time") {
  const Cpu device;
  const auto use = [&] {
    auto frame = device.scratch();
    frame.take<float>(100000)[0] = 1.0F;
    frame.take<float>(200000)[0] = 1.0F;
  };
  const long before = allocations;
  use();
  const long after = allocations;
  CHECK(after > before);
  use();
  CHECK(allocations == after);
}

TEST_CASE("parallel_for: every index once, thread numbers below thread_count; ordered_sum does not see threads") {
  for (const int threads : {1, 2, 3}) {
    const Cpu device({.threads = threads});
    std::array<int, 1000> hits{};
    std::array<int, 1000> who{};
    cpu::parallel_for(device, 1000, [&](index_t i) {
      ++hits[static_cast<std::size_t>(i)];
      who[static_cast<std::size_t>(i)] = cpu::thread_index();
    });
    for (std::size_t i = 0; i < hits.size(); ++i) {
      CHECK(hits[i] == 1);
      CHECK(who[i] < cpu::thread_count(device));
    }
    const auto tenth = [](index_t begin, index_t end) {
      float sum = 0.0F;
      for (index_t i = begin; i < end; ++i) sum += 0.1F;
      return sum;
    };
    float expected = 0.0F;
    for (index_t begin = 0; begin < 1003; begin += 10) expected += tenth(begin, begin + 10 < 1003 ? begin + 10 : 1003);
    CHECK(cpu::ordered_sum<float>(device, 1003, 10, tenth) == expected);
  }
}
