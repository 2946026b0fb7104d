// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sum on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::sum, Cuda, T> {
  /// *total += sum of values, (n), in double; total lies in the device's memory.
  static void run(const Cuda& device, double* total, const T* values, index_t n);
};

}  // namespace storylm
