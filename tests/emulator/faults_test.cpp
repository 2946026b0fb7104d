// SPDX-License-Identifier: MIT
// Faults in kernels that the emulator must find: by a wrong result on some schedule, or by a report.
#include <algorithm>
#include <cstdint>
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
constexpr int tiles = 6;

enum class Fault {
  none,
  no_barrier_after_write,   // others read before it is there
  no_barrier_before_write,  // the next value comes while others read
  no_warp_barrier,
  wait_too_weak,
  no_wait,
  no_barrier_after_wait,  // one's own copies are there, those of others are not
  copy_into_use           // the tile is still read when the next lands
};

struct Tag;

// Each thread adds what its neighbour in the next warp left in shared memory, again and again.
template <Fault F>
__global__ void exchange_by_block(int* out) {
  int* const values = cuda::shared_array<int, threads, Tag>();
  const int i = cuda::thread_index();
  int sum = 0;
  for (int step = 0; step < 4; ++step) {
    values[i] = i + step * 1000;
    if constexpr (F != Fault::no_barrier_after_write) cuda::sync_block();
    sum += values[(i + 32) % threads];
    if constexpr (F != Fault::no_barrier_before_write) cuda::sync_block();
  }
  out[i] = sum;
}

template <Fault F>
__global__ void exchange_by_warp(int* out) {
  int* const values = cuda::shared_array<int, threads, Tag>();
  const int i = cuda::thread_index();
  int sum = 0;
  for (int step = 0; step < 4; ++step) {
    values[i] = i + step * 1000;
    if constexpr (F != Fault::no_warp_barrier) cuda::sync_warp();
    sum += values[i ^ 5];
    cuda::sync_warp();
  }
  out[i] = sum;
}

// Sums tiles (tiles, threads, 4) by a pipeline of two stages; each thread uses what another has copied.
template <Fault F>
__global__ void pipeline(std::uint32_t* out, const std::uint32_t* in) {
  auto* const shared = reinterpret_cast<std::uint32_t*>(cuda::dynamic_shared());  // (2, threads, 4)
  const int i = cuda::thread_index();
  const auto copy = [&](int tile) {
    if (tile < tiles)
      cuda::copy_async16(cuda::shared_address(shared + (tile % 2 * threads + i) * 4), in + (tile * threads + i) * 4,
                         true);
    cuda::commit_copies();
  };
  std::uint32_t sum = 0;
  copy(0);
  for (int tile = 0; tile < tiles; ++tile) {
    if constexpr (F == Fault::copy_into_use) copy(tile + 1);
    if constexpr (F == Fault::wait_too_weak) {
      cuda::wait_copies<1>();
    } else if constexpr (F == Fault::copy_into_use) {
      cuda::wait_copies<1>();
    } else if constexpr (F != Fault::no_wait) {
      cuda::wait_copies<0>();
    }
    if constexpr (F != Fault::no_barrier_after_wait) cuda::sync_block();
    if constexpr (F != Fault::copy_into_use) copy(tile + 1);
    for (int e = 0; e < 4; ++e) sum += shared[(tile % 2 * threads + (i + 40) % threads) * 4 + e];
  }
  out[i] = sum;
}

// On how many of `seeds` schedules the result is wrong.
int wrong_exchanges(void (*kernel)(int*), int distance_or_mask, bool warp) {
  int wrong = 0;
  for (unsigned seed = 0; seed < 16; ++seed) {
    emulator::set_seed(seed);
    const Cuda device;
    Buffer<int> out(device, threads);
    cuda::launch(device, kernel, dim3(1), threads, 0, out.data());
    const auto r = out.host();
    bool good = true;
    for (int i = 0; i < threads; ++i) {
      const int other = warp ? i ^ distance_or_mask : (i + distance_or_mask) % threads;
      good = good && r[static_cast<std::size_t>(i)] == 4 * other + 6000;
    }
    wrong += good ? 0 : 1;
  }
  return wrong;
}

int wrong_pipelines(void (*kernel)(std::uint32_t*, const std::uint32_t*)) {
  std::vector<std::uint32_t> in(tiles * threads * 4);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint32_t>(i * i);
  int wrong = 0;
  for (unsigned seed = 0; seed < 16; ++seed) {
    emulator::set_seed(seed);
    const Cuda device;
    Buffer<std::uint32_t> from(device, in);
    Buffer<std::uint32_t> out(device, threads);
    cuda::launch(device, kernel, dim3(1), threads, 2 * threads * 16, out.data(), from.data());
    const auto r = out.host();
    bool good = true;
    for (std::size_t i = 0; i < threads; ++i) {
      std::uint32_t sum = 0;
      for (std::size_t tile = 0; tile < tiles; ++tile)
        for (std::size_t e = 0; e < 4; ++e) sum += in[(tile * threads + (i + 40) % threads) * 4 + e];
      good = good && r[i] == sum;
    }
    wrong += good ? 0 : 1;
  }
  return wrong;
}

// What follows stands at known distances from this line, so that reports can be compared.
constexpr int base_line = __LINE__;
template <int N>
__global__ void some_leave(int* out) {
  if (cuda::thread_index() == N) return;
  cuda::sync_block();
  *out = 1;
}
__global__ void lanes_part(int* out) {
  if (cuda::thread_index() < 8)
    *out = cuda::shuffle_xor(1, 4);
  else
    cuda::sync_warp();
}
__global__ void half_a_warp(int* out) { *out = cuda::shuffle(1, 4); }
__global__ void block_in_branch(int* out) {
  if (cuda::thread_index() < 32) cuda::sync_block();
  *out = static_cast<int>(cuda::ballot(true));
  if (cuda::thread_index() < 32) cuda::sync_block();
}

__global__ void odd_address(std::uint32_t* out) {
  std::uint32_t r[4];
  cuda::load_matrix_x4(r, cuda::shared_address(cuda::dynamic_shared() + 8 * cuda::lane_index()));
  *out = r[0];
}
__global__ void copy_beyond(const std::uint32_t* in) {
  cuda::copy_async16(cuda::shared_address(cuda::dynamic_shared()) + 16U * static_cast<unsigned>(cuda::thread_index()),
                     in, true);
}
__global__ void copy_unaligned(const std::uint32_t* in) {
  cuda::copy_async16(cuda::shared_address(cuda::dynamic_shared()), in + 1, true);
}
__global__ void not_shared(std::uint32_t* out) { *out = cuda::shared_address(out); }
__global__ void too_much_shared(float* out) { *out = cuda::shared_array<float, 12289, Tag>()[0]; }
template <int N>
__global__ void some_shared(float* out) {
  float* const values = cuda::shared_array<float, N, Tag>();
  values[0] = 5.0F;
  *out = values[0];
}

std::string line(int distance) { return "faults_test.cpp:" + std::to_string(base_line + distance); }

}  // namespace

TEST_CASE("a missing barrier is a wrong result on most schedules, none is without a fault") {
  CHECK(wrong_exchanges(exchange_by_block<Fault::none>, 32, false) == 0);
  CHECK(wrong_exchanges(exchange_by_block<Fault::no_barrier_after_write>, 32, false) >= 14);
  CHECK(wrong_exchanges(exchange_by_block<Fault::no_barrier_before_write>, 32, false) >= 10);
  CHECK(wrong_exchanges(exchange_by_warp<Fault::none>, 5, true) == 0);
  CHECK(wrong_exchanges(exchange_by_warp<Fault::no_warp_barrier>, 5, true) >= 14);
}

TEST_CASE("a wrong wait, or a barrier too few about asynchronous copies, is a wrong result on most schedules") {
  CHECK(wrong_pipelines(pipeline<Fault::none>) == 0);
  CHECK(wrong_pipelines(pipeline<Fault::wait_too_weak>) >= 14);
  CHECK(wrong_pipelines(pipeline<Fault::no_wait>) >= 14);
  CHECK(wrong_pipelines(pipeline<Fault::no_barrier_after_wait>) >= 10);
  CHECK(wrong_pipelines(pipeline<Fault::copy_into_use>) >= 10);
}

TEST_CASE("barriers that some threads do not reach are reported with kernel, block, threads and lines") {
  const Cuda device;
  Buffer<int> out(device, 1);
  const auto report = [&](void (*kernel)(int*), int count) {
    return error_of([&] {
      cuda::launch(device, kernel, dim3(1), count, 0, out.data());
      device.synchronize();
    });
  };
  const std::string left = report(some_leave<37>, 64);
  CAPTURE(left);
  CHECK(left.find("cudaErrorLaunchFailure") != std::string::npos);
  CHECK(left.find("some_leave<37>") != std::string::npos);
  CHECK(left.find("block (0, 0, 0): deadlock:") != std::string::npos);
  CHECK(left.find("63 threads (thread 0 and others) at sync_block, " + line(4)) != std::string::npos);
  CHECK(left.find("1 thread (thread 37) at its end") != std::string::npos);

  const std::string parted = report(lanes_part, 32);
  CAPTURE(parted);
  CHECK(parted.find("lanes_part") != std::string::npos);
  CHECK((parted.find(line(9)) != std::string::npos && parted.find(line(11)) != std::string::npos));

  const std::string half_warp = report(half_a_warp, 48);
  CAPTURE(half_warp);
  CHECK(half_warp.find("shuffle in a warp of fewer than 32 threads, at " + line(13)) != std::string::npos);

  const std::string branch = report(block_in_branch, 64);
  CAPTURE(branch);
  CHECK(branch.find("32 threads (thread 0 and others) at sync_block, " + line(15)) != std::string::npos);

  device.synchronize();  // said once
  CHECK(cudaGetLastError() == cudaSuccess);
  cuda::launch(device, some_leave<-1>, dim3(1), 64, 0, out.data());
  CHECK(out.host() == std::vector<int>{1});  // and work goes on
}

TEST_CASE("addresses that the hardware would not take are reported") {
  const Cuda device;
  Buffer<std::uint32_t> words(device, 64);
  const auto report = [&](auto kernel, std::size_t shared, int count = 32) {
    return error_of([&] {
      cuda::launch(device, kernel, dim3(1), count, shared, words.data());
      device.synchronize();
    });
  };
  const std::string odd = report(odd_address, 1024);
  CHECK(odd.find("load_matrix_x4: a shared address that is no multiple of 16") != std::string::npos);
  const std::string beyond = report(copy_beyond, 31 * 16);
  CAPTURE(beyond);
  CHECK(beyond.find("thread 31: copy_async16: an address outside the block's shared memory") != std::string::npos);
  CHECK(report(copy_beyond, 32 * 16).empty());
  CHECK(report(copy_unaligned, 1024).find("a global address that is no multiple of 16") != std::string::npos);
  CHECK(report(not_shared, 0).find("shared_address of something that is not shared") != std::string::npos);
}

TEST_CASE("launches beyond the device's limits are refused") {
  const Cuda device;
  Buffer<int> out(device, 1);
  const auto report = [&](dim3 grid, int count, std::size_t shared) {
    return error_of([&] { cuda::launch(device, some_leave<-1>, grid, count, shared, out.data()); });
  };
  CHECK(report(dim3(1), 1024, 227 << 10).empty());
  CHECK(report(dim3(1), 1025, 0).find("cudaErrorInvalidConfiguration") != std::string::npos);
  CHECK(report(dim3(1, 65536), 32, 0).find("cudaErrorInvalidConfiguration") != std::string::npos);
  CHECK(report(dim3(1), 32, (227 << 10) + 1).find("cudaErrorInvalidValue") != std::string::npos);

  Buffer<float> floats(device, 1);
  const std::string much = error_of([&] {
    cuda::launch(device, too_much_shared, dim3(1), 32, 0, floats.data());
    device.synchronize();
  });
  CHECK(much.find("shared arrays of 49156 bytes: at most 48 KiB") != std::string::npos);
  device.synchronize();

  // Dynamic shared memory is what the 48 KiB count together with the kernel's own: more needs leave, which launch()
  // asks for.
  const auto without_leave = [&](void (*kernel)(float*), std::size_t shared) {
    return error_of([&] {
      STORYLM_CUDA_CHECK(emulator::launch(reinterpret_cast<const void*>(kernel), dim3(1), 32, shared, device.stream(),
                                          [kernel, &floats] { kernel(floats.data()); }));
      device.synchronize();
    });
  };
  CHECK(without_leave(some_shared<256>, 47 << 10).empty());
  CHECK(without_leave(some_shared<256>, (47 << 10) + 1).find("48 KiB need cudaFuncSetAttribute") != std::string::npos);
  CHECK(without_leave(some_shared<256>, (48 << 10) + 1).find("cudaErrorInvalidValue") != std::string::npos);
  for (const int shared : {0, 47 << 10, 48 << 10, 100 << 10}) {
    CAPTURE(shared);
    cuda::launch(device, some_shared<512>, dim3(1), 32, static_cast<std::size_t>(shared), floats.data());
    CHECK(floats.host() == std::vector<float>{5.0F});
  }
}
