// SPDX-License-Identifier: MIT
// Compiled with -fsanitize=thread, without its runtime: races and reads of what nobody wrote are reported on every
// schedule, also where the result comes out right; kernels without a fault are left in peace.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/kernels/cuda/primitives.cuh>

#include "emulator_support.hpp"

using namespace storylm;
using storylm::test::Buffer;
using storylm::test::error_of;

namespace {

constexpr int threads = 96;
struct Tag;

enum class Fault { none, barrier_after_write, barrier_before_write, warp_barrier, wait, barrier_after_wait };

constexpr int base_line = __LINE__;
template <Fault F>
__global__ void by_block(int* out) {
  int* const values = cuda::shared_array<int, threads, Tag>();
  const int i = cuda::thread_index();
  int sum = 0;
  values[i] = 0;
  cuda::sync_block();
  for (int step = 0; step < 3; ++step) {
    values[i] = i + step;
    if constexpr (F != Fault::barrier_after_write) cuda::sync_block();
    sum += values[(i + 32) % threads];
    if constexpr (F != Fault::barrier_before_write) cuda::sync_block();
  }
  out[cuda::block_x() * threads + i] = sum;
}
template <Fault F>
__global__ void by_warp(int* out) {
  int* const values = cuda::shared_array<int, threads, Tag>();
  const int i = cuda::thread_index();
  values[i] = 0;
  cuda::sync_warp();
  values[i] = i;
  if constexpr (F != Fault::warp_barrier) cuda::sync_warp();
  const int other = values[i ^ 1];
  out[cuda::block_x() * threads + i] = cuda::shuffle_xor(other, 1);  // a shuffle is no barrier
}
template <Fault F>
__global__ void by_copies(std::uint32_t* out, const std::uint32_t* in) {
  auto* const shared = reinterpret_cast<std::uint32_t*>(cuda::dynamic_shared());
  const int i = cuda::thread_index();
  for (int part = 0; part < 2; ++part) {
    cuda::copy_async16(cuda::shared_address(shared + (part * threads + i) * 4), in + (part * threads + i) * 4, true);
    cuda::commit_copies();
  }
  cuda::wait_copies<F == Fault::wait ? 2 : 1>();
  if constexpr (F != Fault::barrier_after_wait) cuda::sync_block();
  std::uint32_t sum = shared[(i + 40) % threads * 4];
  cuda::wait_copies<0>();
  cuda::sync_block();
  sum += shared[(threads + (i + 40) % threads) * 4];
  out[cuda::block_x() * threads + i] = sum;
}
/// Rows written by other lanes; without a barrier they might not be there yet.
template <bool Barrier>
__global__ void by_matrix(std::uint32_t* out) {
  const int i = cuda::thread_index();
  auto* const rows = reinterpret_cast<uint4*>(cuda::dynamic_shared());
  rows[i] = make_uint4(1, 2, 3, 4);
  if constexpr (Barrier) cuda::sync_warp();
  std::uint32_t r[4];
  cuda::load_matrix_x4(r, cuda::shared_address(rows + (i ^ 8)));
  out[cuda::block_x() * threads + i] = r[0] + r[1] + r[2] + r[3];
}

template <bool Written>
__global__ void half_written(float* out) {
  auto* const values = reinterpret_cast<std::uint16_t*>(cuda::dynamic_shared());
  const int i = cuda::thread_index();
  values[2 * i] = 1;
  if constexpr (Written) values[2 * i + 1] = 0;
  out[cuda::block_x()] = static_cast<float>(reinterpret_cast<uint2*>(values)[i / 2].x);  // may alias
}

__global__ void blocks_add(int* sum, int* slots, bool atomic) {
  if (cuda::thread_index() != 0) return;
  slots[cuda::block_x()] = 1;
  if (atomic)
    cuda::atomic_add(sum, 1);
  else
    *sum += 1;
}
__global__ void threads_add(int* sum) {
  sum[cuda::thread_index() % 32] += 1;  // three threads each
}
__global__ void through_memory(int* values) {  // device memory is ordered by the block's barrier, too
  const int i = cuda::thread_index();
  values[i] = i;
  cuda::sync_block();
  const int other = values[(i + 40) % threads];
  cuda::sync_block();
  values[i] = other;
}
template <class T>
__global__ void neighbours(T* values) {
  values[cuda::thread_index()] = 1;
}
__global__ void bytes_of_words(std::uint16_t* values) {  // each thread a word, then a byte of another's
  const int i = cuda::thread_index();
  values[i] = 1;
  cuda::sync_block();
  auto* const bytes = reinterpret_cast<unsigned char*>(values);
  bytes[(2 * i + 3) % (2 * threads)] = 2;
  bytes[(2 * i + 6) % (2 * threads)] = 3;
}

__global__ void to_host(int* value) { *value = 1; }

// The report on each of some schedules; all of them alike in kind.
template <class F>
std::vector<std::string> reports(F&& f) {
  std::vector<std::string> found;
  for (unsigned seed = 0; seed < 8; ++seed) {
    emulator::set_seed(seed);
    found.push_back(error_of(f));
  }
  return found;
}
void check_silent(const std::vector<std::string>& found) {
  for (const std::string& text : found) CHECK(text == "");
}
void check_all(const std::vector<std::string>& found, const std::vector<std::string>& parts) {
  for (const std::string& text : found) {
    CAPTURE(text);
    for (const std::string& part : parts) {
      CAPTURE(part);
      CHECK(text.find(part) != std::string::npos);
    }
  }
}
std::string line(int distance) { return "races_test.cpp:" + std::to_string(base_line + distance); }

const Cuda& device() {
  static const Cuda made;
  REQUIRE(emulator::watch_races(true));
  return made;
}
template <class T, class... Arguments>
std::vector<std::string> run(void (*kernel)(T*, Arguments...), std::size_t shared, int count, Arguments... arguments) {
  return reports([&] {
    Buffer<T> out(device(), 4 * threads);
    cuda::launch(device(), kernel, dim3(3), count, shared, out.data(), arguments...);
    device().synchronize();
  });
}

}  // namespace

TEST_CASE("a barrier too few is a race") {
  check_silent(run(by_block<Fault::none>, 0, threads));
  check_all(run(by_block<Fault::barrier_after_write>, 0, threads),
            {"race: ", "shared memory without a barrier", "by_block", "block (", ", thread ", "by thread ", line(9),
             line(11)});
  check_all(run(by_block<Fault::barrier_before_write>, 0, threads), {"race: ", "by_block", line(9), line(11)});
  check_silent(run(by_warp<Fault::none>, 0, threads));
  check_all(run(by_warp<Fault::warp_barrier>, 0, threads), {"race: ", "by_warp", line(22), line(24)});
  check_silent(run(by_matrix<true>, 512, 32));
  check_all(run(by_matrix<false>, 512, 32), {"by_matrix", "shared memory", line(51)});
}

TEST_CASE("asynchronous copies are writes, done when they are waited for") {
  Buffer<std::uint32_t> in(device(), std::vector<std::uint32_t>(2 * threads * 4, 5));
  const auto* const from = static_cast<const std::uint32_t*>(in.data());
  const std::size_t shared = 2 * threads * 16;
  check_silent(run(by_copies<Fault::none>, shared, threads, from));
  check_all(run(by_copies<Fault::wait>, shared, threads, from),
            {"read of shared memory that an asynchronous copy is filling", "by_copies", line(32), line(37)});
  for (const std::string& text : run(by_copies<Fault::barrier_after_wait>, shared, threads, from)) {
    CAPTURE(text);  // which of the two, or that there is nothing yet, is the schedule's
    CHECK((text.find("race: read of shared memory") != std::string::npos ||
           text.find("is filling") != std::string::npos || text.find("has written") != std::string::npos));
    CHECK(text.find(line(37)) != std::string::npos);
  }
}

TEST_CASE("reads of shared memory that nobody wrote") {
  check_silent(run(half_written<true>, 4 * 32, 1));
  check_all(run(half_written<false>, 4 * 32, 1),
            {"read of shared memory that no thread of this block has written", "half_written<false>", line(61)});
}

TEST_CASE("device memory: blocks are not ordered, threads of a block by their barriers") {
  check_all(run(blocks_add, 0, 32, static_cast<int*>(nullptr), false), {"write to memory that is neither"});
  const auto add = [](bool atomic) {
    return reports([&] {
      Buffer<int> sum(device(), std::vector<int>{0});
      Buffer<int> slots(device(), 3);
      cuda::launch(device(), blocks_add, dim3(3), 32, 0, sum.data(), slots.data(), atomic);
      cuda::launch(device(), blocks_add, dim3(3), 32, 0, sum.data(), slots.data(), true);  // launches are
      CHECK((!atomic || sum.host() == std::vector<int>{6}));
      device().synchronize();
    });
  };
  check_silent(add(true));
  check_all(add(false), {"race: ", "device memory without a barrier", "of another block", line(70)});
  const auto one_block = [](auto kernel, auto value) {
    return reports([&] {
      Buffer<decltype(value)> values(device(), std::vector<decltype(value)>(threads));
      cuda::launch(device(), kernel, dim3(1), threads, 0, values.data());
      device().synchronize();
    });
  };
  check_all(one_block(threads_add, 0), {"race: ", line(73)});
  check_silent(one_block(through_memory, 0));
  check_silent(one_block(neighbours<std::uint16_t>, std::uint16_t{0}));
  check_silent(one_block(neighbours<unsigned char>, static_cast<unsigned char>(0)));
  check_silent(one_block(bytes_of_words, std::uint16_t{0}));
}

TEST_CASE("kernels write to no memory of the host") {
  check_all(reports([&] {
              int value = 0;
              cuda::launch(device(), to_host, dim3(1), 32, 0, &value);
              device().synchronize();
            }),
            {"write to memory that is neither the device's nor shared", "to_host", line(96)});
}
