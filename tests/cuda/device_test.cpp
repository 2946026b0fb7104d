// SPDX-License-Identifier: MIT
// Cuda as a device: memory, copies through pinned staging, streams and marks, recordings, read-backs, errors.
#include <cstring>
#include <numeric>
#include <vector>

#include <storylm/core/cuda_device.hpp>
#include <storylm/tensor/tensor.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

std::vector<int> counting(std::size_t n, int first = 0) {
  std::vector<int> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST_CASE("copies longer than the staging ring arrive whole, and the source may change at once") {
  const Cuda device;
  const std::size_t n = (std::size_t{9} << 20U) / sizeof(int) + 3;  // over twice the ring
  Tensor<std::int32_t, Cuda> there({static_cast<index_t>(n)}, device);
  auto values = counting(n);
  device.copy_from_host(there.data(), values.data(), n * sizeof(int));
  values.assign(n, -1);
  CHECK(there.to_host() == counting(n));
  for (int i = 0; i < 300; ++i) {  // small ones share a part of the ring
    const auto few = counting(1000, i);
    device.copy_from_host(there.data() + i * 1000, few.data(), few.size() * sizeof(int));
  }
  const auto all = there.to_host();
  for (int i = 0; i < 300; ++i) CHECK(all[static_cast<std::size_t>(i) * 1000 + 7] == i + 7);
}

TEST_CASE("nothing is copied, zeroed or allocated for zero bytes") {
  const Cuda device;
  device.copy_from_host(nullptr, nullptr, 0);
  device.copy_to_host(nullptr, nullptr, 0);
  device.copy(nullptr, nullptr, 0);
  device.fill_zero(nullptr, 0);
  CHECK(device.allocate(0) == nullptr);
  device.deallocate(nullptr);
  const Tensor<float, Cuda> empty({0}, device);
  CHECK(empty.to_host().empty());
}

TEST_CASE("memory begins on 256-byte boundaries, scratch on 64-byte ones and is used again") {
  const Cuda device;
  for (const std::size_t bytes : {1U, 100U, 5000U}) {
    void* const p = device.allocate(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 256 == 0);
    device.deallocate(p);
  }
  void* first = nullptr;
  for (int i = 0; i < 3; ++i) {
    auto scratch = device.scratch();
    auto* const a = scratch.take<float>(3);
    auto* const b = scratch.take<double>(5);
    CHECK(reinterpret_cast<std::uintptr_t>(b) % 64 == 0);
    CHECK(static_cast<void*>(a) != static_cast<void*>(b));
    if (i == 0) first = a;
    CHECK(a == first);
  }
}

TEST_CASE("a read-back gives what was there when it was posted") {
  const Cuda device;
  Tensor<std::int32_t, Cuda> value({1}, device);
  Cuda::Readback early(device, sizeof(int));
  Cuda::Readback late(device, sizeof(int));
  const int seven = 7;
  const int eight = 8;
  device.copy_from_host(value.data(), &seven, sizeof(int));
  early.post(value.data());
  device.copy_from_host(value.data(), &eight, sizeof(int));
  late.post(value.data());
  int a = 0;
  int b = 0;
  std::memcpy(&a, early.wait(), sizeof(int));
  std::memcpy(&b, late.wait(), sizeof(int));
  CHECK(a == 7);
  CHECK(b == 8);
}

TEST_CASE("a recording is made at the second run and replayed from then on, with what memory holds by then") {
  const Cuda device;
  Tensor<std::int32_t, Cuda> from({4}, device);
  Tensor<std::int32_t, Cuda> to({4}, device);
  Cuda::Recording recording;
  int calls = 0;
  for (int i = 0; i < 5; ++i) {
    const auto values = counting(4, 10 * i);
    device.copy_from_host(from.data(), values.data(), from.bytes());
    recording.run(device, [&] {
      ++calls;
      auto scratch = device.scratch();
      auto* const between = scratch.take<std::int32_t>(4);
      device.copy(between, from.data(), from.bytes());
      device.copy(to.data(), between, to.bytes());
    });
    CHECK(recording.recorded() == (i >= 1));
    CHECK(to.to_host() == values);
  }
  CHECK(calls == 2);
}

TEST_CASE("a recording begins anew when the scratch memory that it used has moved") {
  const Cuda device;
  Tensor<std::int32_t, Cuda> value({4}, device);
  Cuda::Recording recording;
  int calls = 0;
  const auto run = [&](int i) {
    const auto values = counting(4, i);
    device.copy_from_host(value.data(), values.data(), value.bytes());
    recording.run(device, [&] {
      ++calls;
      auto scratch = device.scratch();
      auto* const between = scratch.take<std::int32_t>(4);
      device.copy(between, value.data(), value.bytes());
      device.fill_zero(value.data(), value.bytes());
      device.copy(value.data(), between, value.bytes());
    });
    CHECK(value.to_host() == values);
  };
  for (int i = 0; i < 3; ++i) run(i);
  CHECK(calls == 2);
  {
    auto scratch = device.scratch();
    static_cast<void>(scratch.take<double>(1'000'000));
    static_cast<void>(scratch.take<double>(3'000'000));
  }
  for (int i = 3; i < 7; ++i) run(i);
  CHECK(calls == 4);
}

TEST_CASE("what cannot be recorded is refused, and the device goes on afterwards") {
  const Cuda device;
  Tensor<std::int32_t, Cuda> value({1}, device);
  Cuda::Recording recording;
  const int seven = 7;
  const auto upload = [&] { device.copy_from_host(value.data(), &seven, sizeof(int)); };
  recording.run(device, upload);  // the first run is no recording
  CHECK_THROWS_WITH_AS(recording.run(device, upload), "[cuda] a copy from the host cannot be recorded: 4 bytes",
                       CudaError);
  CHECK_FALSE(recording.recorded());
  upload();
  CHECK(value.to_host().front() == 7);
  CHECK_THROWS_WITH_AS(recording.run(device, [&] { static_cast<void>(device.allocate(4)); }),
                       "[cuda] an allocation cannot be recorded: 4 bytes", CudaError);
  CHECK_THROWS_AS(recording.run(device, [&] { device.synchronize(); }), CudaError);
  CHECK(cudaGetLastError() == cudaSuccess);  // no later launch is blamed
  CHECK(value.to_host().front() == 7);
}

TEST_CASE("work of one stream waits for a mark, or for all, of another") {
  test::for_each_schedule([](unsigned) {
    const Cuda device;
    const Cuda other = device.sibling();
    CHECK(device.stream() != other.stream());
    Tensor<std::int32_t, Cuda> value({1}, device);
    other.wait_for(device);  // for its memory
    const int seven = 7;
    other.copy_from_host(value.data(), &seven, sizeof(int));
    device.wait_for(other);
    CHECK(value.to_host().front() == 7);
    Cuda::Mark mark;
    device.wait_for(mark);  // never set: no wait
    other.copy_from_host(value.data(), &seven, sizeof(int));
    other.mark(mark);
    device.wait_for(mark);
    CHECK(value.to_host().front() == 7);
  });
}

TEST_CASE("a GPU that is not there is an error that says so") {
  CHECK_THROWS_AS(Cuda({.device = 1000}), CudaError);
  CHECK_THROWS_AS(Cuda({.device = -1}), CudaError);
  CHECK(test::cuda_device().properties().capability >= 80);
  CHECK(test::cuda_device().properties().multiprocessors > 0);
  CHECK_FALSE(test::cuda_device().properties().name.empty());
}

TEST_CASE("memory that there is not is an error, and the device goes on afterwards") {
  const Cuda device;
  CHECK_THROWS_AS(static_cast<void>(device.allocate(std::size_t{1} << 52U)), CudaError);
  const Tensor<float, Cuda> small({16}, device);
  CHECK(small.to_host() == std::vector<float>(16, 0.0F));
}
