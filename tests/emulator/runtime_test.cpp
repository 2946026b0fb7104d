// SPDX-License-Identifier: MIT
// Cuda, as it is shipped, on the emulator's runtime: memory, order, recordings.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/kernels/cuda/primitives.cuh>

#include "emulator_support.hpp"

using namespace storylm;
using storylm::test::Buffer;
using storylm::test::error_of;
using storylm::test::for_seeds;

namespace {

__global__ void add(float* y, float a) { y[cuda::thread_index()] += a; }
__global__ void scale(float* y, const float* factor) { y[cuda::thread_index()] *= *factor; }
__global__ void copy_first(float* y, const float* x) { *y = *x; }

bool is(const std::vector<float>& values, float x) {
  return std::all_of(values.begin(), values.end(), [&](float v) { return v == x; });
}

}  // namespace

TEST_CASE("the device is what the emulator says it is") {
  const Cuda device;
  CHECK(device.properties().name == "CUDA emulator");
  CHECK(device.properties().capability == 90);
  CHECK(device.properties().multiprocessors == 4);
  CHECK(device.properties().shared_bytes == 227 << 10);
  CHECK(error_of([] { Cuda({.device = 2}); }).find("there is no GPU 2: there are 2") != std::string::npos);

  emulator::properties().major = 7;
  emulator::properties().minor = 5;
  const std::string old = error_of([] { Cuda(); });
  emulator::properties().major = 9;
  emulator::properties().minor = 0;
  CHECK(old.find("compute capability 7.5, needed is 8.0") != std::string::npos);
}

TEST_CASE("memory: aligned, full of NaN, counted, not more than there is") {
  const std::size_t before = emulator::allocated_bytes();
  {
    const Cuda device;
    CHECK(device.allocate(0) == nullptr);
    Buffer<float> some(device, 3);
    Buffer<float> more(device, 1000);
    CHECK(reinterpret_cast<std::uintptr_t>(some.data()) % 256 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(more.data()) % 256 == 0);
    CHECK(emulator::allocated_bytes() == before + 4012);
    for (const float v : more.host()) CHECK(std::isnan(v));
    CHECK(emulator::is_device_memory(some.data() + 1, 8));
    CHECK_FALSE(emulator::is_device_memory(some.data() + 1, 9));
    CHECK_FALSE(emulator::is_device_memory(&before, 1));

    const std::string full = error_of([&] { static_cast<void>(device.allocate(std::size_t{5} << 30U)); });
    CHECK(full.find("cudaErrorMemoryAllocation: out of memory") != std::string::npos);

    const std::vector<float> host(1000);
    CHECK(error_of([&] { device.copy(more.data(), host.data(), 4000); }).find("cudaErrorInvalidValue") !=
          std::string::npos);  // that is host memory
    CHECK(error_of([&] { device.copy_from_host(more.data() + 1, host.data(), 4000); }).find("cudaErrorInvalidValue") !=
          std::string::npos);  // one too many
    CHECK(error_of([&] { device.fill_zero(some.data(), 16); }).find("cudaErrorInvalidValue") != std::string::npos);
    CHECK(cudaFreeAsync(some.data() + 1, device.stream()) == cudaErrorInvalidValue);
    device.fill_zero(more.data(), 4000);
    CHECK(is(more.host(), 0.0F));
  }
  CHECK(emulator::allocated_bytes() == before);
}

TEST_CASE("what a stream is given runs in order, sooner or later, and before synchronize() returns") {
  int early = 0;
  int late = 0;
  for_seeds(16, [&] {
    const Cuda device;
    Buffer<float> y(device, std::vector<float>(32, 1.0F));
    Buffer<float> factor(device, std::vector<float>{3.0F});
    cuda::launch(device, add, dim3(1), 32, 0, y.data(), 1.0F);
    cuda::launch(device, scale, dim3(1), 32, 0, y.data(), factor.data());
    std::vector<float> host(32, -1.0F);
    device.copy_to_host(host.data(), y.data(), 128);
    (is(host, -1.0F) ? late : early) += 1;
    device.synchronize();
    CHECK(is(host, 6.0F));
  });
  CHECK(early > 0);
  CHECK(late > 0);
}

TEST_CASE("copy_from_host: larger than the staging memory, from memory that is reused at once") {
  for_seeds(4, [&] {
    const Cuda device;
    std::vector<std::uint32_t> values((std::size_t{5} << 20U) / 4 + 100);
    std::iota(values.begin(), values.end(), 0U);
    const auto wanted = values;
    Buffer<std::uint32_t> y(device, values.size());
    Buffer<std::uint32_t> small(device, 16);
    device.copy_from_host(small.data(), values.data() + 7, 64);
    device.copy_from_host(y.data(), values.data(), values.size() * 4);
    std::fill(values.begin(), values.end(), 0U);
    CHECK(y.host() == wanted);
    CHECK(small.host() == std::vector<std::uint32_t>(wanted.begin() + 7, wanted.begin() + 23));
  });
}

TEST_CASE("a sibling's work comes in any order unless one waits for the other") {
  int before = 0;
  int after = 0;
  for_seeds(32, [&] {
    const Cuda device;
    const Cuda other = device.sibling();
    CHECK(other.stream() != device.stream());
    Buffer<float> x(device, std::vector<float>{1.0F});
    Buffer<float> unordered(device, 1);
    Buffer<float> ordered(device, 1);
    device.synchronize();
    cuda::launch(device, add, dim3(1), 1, 0, x.data(), 1.0F);
    cuda::launch(other, copy_first, dim3(1), 1, 0, unordered.data(), x.data());
    other.wait_for(device);
    cuda::launch(other, copy_first, dim3(1), 1, 0, ordered.data(), x.data());
    other.synchronize();
    CHECK(is(ordered.host(), 2.0F));
    (is(unordered.host(), 1.0F) ? before : after) += 1;
  });
  CHECK(before > 0);
  CHECK(after > 0);
}

TEST_CASE("Readback waits for its copy alone") {
  for_seeds(8, [&] {
    const Cuda device;
    Buffer<float> x(device, std::vector<float>{1.0F});
    Cuda::Readback readback(device, 4);
    for (int i = 0; i < 3; ++i) {
      readback.post(x.data());
      cuda::launch(device, add, dim3(1), 1, 0, x.data(), 1.0F);
      CHECK(*static_cast<const float*>(readback.wait()) == static_cast<float>(i + 1));
    }
  });
}

TEST_CASE("a Recording does its work once, records it, then replays it on what memory holds by then") {
  for_seeds(8, [&] {
    const Cuda device;
    Buffer<float> y(device, std::vector<float>(32, 1.0F));
    Buffer<float> factor(device, std::vector<float>{2.0F});
    Cuda::Recording recording;
    int calls = 0;
    float wanted = 1.0F;
    for (int step = 0; step < 5; ++step) {
      float amount = 1.0F;  // gone when the graph runs: its value is part of the graph
      const std::vector<float> f{static_cast<float>(step)};
      device.copy_from_host(factor.data(), f.data(), 4);
      recording.run(device, [&] {
        ++calls;
        cuda::launch(device, scale, dim3(1), 32, 0, y.data(), factor.data());
        cuda::launch(device, add, dim3(1), 32, 0, y.data(), amount);
      });
      amount = 100.0F;
      wanted = wanted * static_cast<float>(step) + 1.0F;
      CHECK(recording.recorded() == (step > 0));
    }
    CHECK(calls == 2);
    CHECK(is(y.host(), wanted));
  });
}

TEST_CASE("what cannot be recorded is refused, and recording ends") {
  const Cuda device;
  Buffer<float> y(device, std::vector<float>(32, 1.0F));
  const float one = 1.0F;
  const auto second_run = [&](auto work) {
    Cuda::Recording recording;
    recording.run(device, [] {});
    const std::string error = error_of([&] { recording.run(device, work); });
    CHECK_FALSE(recording.recorded());
    device.synchronize();  // it captures no more
    return error;
  };
  CHECK(second_run([&] { device.copy_from_host(y.data(), &one, 4); }).find("cannot be recorded") != std::string::npos);
  CHECK(second_run([&] { device.synchronize(); }).find("cudaErrorStreamCaptureUnsupported") != std::string::npos);
  CHECK(second_run([&] {
          static_cast<void>(cudaStreamSynchronize(device.stream()));
        }).find("cudaErrorStreamCaptureInvalidated") != std::string::npos);
  CHECK(second_run([&] { static_cast<void>(device.allocate(4)); }).find("an allocation cannot be recorded: 4 bytes") !=
        std::string::npos);
  CHECK(cudaGetLastError() == cudaSuccess);
  const Cuda other = device.sibling();
  CHECK(second_run([&] {
          other.wait_for(device);
          cuda::launch(other, add, dim3(1), 32, 0, y.data(), 1.0F);
        }).find("cudaErrorStreamCaptureUnjoined") != std::string::npos);

  Cuda::Recording recording;
  for (int step = 0; step < 3; ++step) {
    recording.run(device, [&] {
      other.wait_for(device);
      cuda::launch(other, add, dim3(1), 32, 0, y.data(), 1.0F);
      device.wait_for(other);
      cuda::launch(device, add, dim3(1), 32, 0, y.data(), 1.0F);
    });
  }
  CHECK(is(y.host(), 7.0F));
}

TEST_CASE("errors have their names") {
  CHECK(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)) == "cudaErrorMemoryAllocation");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorString(cudaErrorNotReady)) == "device not ready");
}
