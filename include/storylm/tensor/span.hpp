// SPDX-License-Identifier: MIT
/// @file
/// @brief A run of a device's memory that belongs to someone else, and copies of it through the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

namespace storylm {

/// `size` elements of `device`'s memory, such as an arena's moments: how visit_state() names memory that is no Tensor.
template <Dtype T, Device D>
struct StateSpan {
  T* data = nullptr;
  index_t size = 0;
  D device;
};
template <class T, class D>
StateSpan(T*, index_t, D) -> StateSpan<T, D>;

/// Elements that a copy between a device and the host holds on the host at a time.
inline constexpr index_t host_chunk_elements = index_t{1} << 20U;

/// Calls `consume(first, std::span<const T>)` for the elements of a device's memory, in order. Host memory is passed on
/// as it is, in one piece; of other devices at most host_chunk_elements are on the host at a time.
template <Dtype T, Device D, class F>
void for_each_host_chunk(const T* data, index_t size, const D& device, F&& consume) {
  if constexpr (std::same_as<D, Cpu>) {
    if (size != 0) consume(index_t{0}, std::span<const T>(data, static_cast<std::size_t>(size)));
  } else {
    std::vector<T> chunk(static_cast<std::size_t>(std::min(size, host_chunk_elements)));
    for (index_t first = 0; first < size; first += host_chunk_elements) {
      const auto count = static_cast<std::size_t>(std::min(host_chunk_elements, size - first));
      device.copy_to_host(chunk.data(), data + first, count * sizeof(T));
      device.synchronize();
      consume(first, std::span<const T>(chunk.data(), count));
    }
  }
}

/// Writes `values` to the elements of a device's memory from `first` on. They are on the device when it returns.
/// @throws ShapeError when they do not all lie within `size`
template <Dtype T, Device D>
void write_host_chunk(T* data, index_t size, const D& device, index_t first, std::span<const T> values) {
  const auto count = static_cast<index_t>(values.size());
  expects<ShapeError>(first >= 0 && first <= size && count <= size - first, "write_host_chunk", "elements ", first,
                      " to ", first + count, " of ", size);
  device.copy_from_host(data + first, values.data(), values.size_bytes());
  device.synchronize();  // `values` may go away
}

}  // namespace storylm
