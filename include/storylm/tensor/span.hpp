// SPDX-License-Identifier: MIT
/// @file
/// @brief A run of a device's memory that belongs to someone else, and its way to the host.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>

namespace storylm {

/// `size` elements of `device`'s memory, such as an arena's moments: how visit_state() names memory that is no Tensor.
template <Dtype T, Device D>
struct StateSpan {
  using value_type = T;  ///< dtype of an element

  T* data = nullptr;  ///< in the device's memory
  index_t size = 0;   ///< elements
  D device;           ///< whose memory it is
};
/// From its members.
template <class T, class D>
StateSpan(T*, index_t, D) -> StateSpan<T, D>;

/// Elements that a copy between a device and the host holds on the host at a time.
inline constexpr index_t host_chunk_elements = index_t{1} << 20U;

/// Calls `consume(first, std::span<const T>)` for the elements of a device's memory, in order. Host memory is passed on
/// as it is, in one piece; of other devices at most host_chunk_elements are on the host at a time.
template <Dtype T, Device D, class F>
void for_each_host_chunk(const T* data, index_t size, const D& device, F&& consume) {
  if constexpr (D::host_memory) {
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

}  // namespace storylm
