// SPDX-License-Identifier: MIT
/// @file
/// @brief The peak arithmetic rate of a device.
#pragma once

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm::ops {

/// Floating-point operations per second that this device reaches at best with products of T. Measured, in about a tenth
/// of a second.
template <FloatDtype T, Device D>
[[nodiscard]] double peak_flops(const D& device) {
  static_assert(Supports<D, op::peak_flops, T>, "storylm: op::peak_flops has no kernel for this dtype on this device");
  return kernel<op::peak_flops, D, T>::run(device);
}

}  // namespace storylm::ops
