// SPDX-License-Identifier: MIT
/// @file
/// @brief Device memory with a host's view, and seeds, for the emulator's own tests.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <emulator/engine.hpp>

#include <storylm/core/cuda_device.hpp>

namespace storylm::test {

/// Device memory of a few values.
template <class T>
class Buffer {
 public:
  Buffer(const Cuda& device, std::size_t size) : device_(device), size_(size) {
    data_ = static_cast<T*>(device.allocate(size * sizeof(T)));
  }
  Buffer(const Cuda& device, const std::vector<T>& values) : Buffer(device, values.size()) {
    device.copy_from_host(data_, values.data(), size_ * sizeof(T));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { device_.deallocate(data_); }

  [[nodiscard]] T* data() const { return data_; }
  /// What is there when all work is done.
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> values(size_);
    device_.copy_to_host(values.data(), data_, size_ * sizeof(T));
    device_.synchronize();
    return values;
  }

 private:
  Cuda device_;
  std::size_t size_;
  T* data_ = nullptr;
};

/// Calls f() on `count` schedules.
template <class F>
void for_seeds(unsigned count, F&& f) {
  for (unsigned seed = 0; seed < count; ++seed) {
    CAPTURE(seed);
    emulator::set_seed(seed);
    f();
  }
}

/// The text of the CudaError that f() throws, empty when it throws none.
template <class F>
[[nodiscard]] std::string error_of(F&& f) {
  try {
    f();
  } catch (const CudaError& error) {
    return error.what();
  }
  return {};
}

}  // namespace storylm::test
