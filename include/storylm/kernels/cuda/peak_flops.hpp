// SPDX-License-Identifier: MIT
/// @file
/// @brief op::peak_flops on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::peak_flops, Cuda, T> {
  /// Of cuBLASLt's product of large square matrices, the fastest of several runs.
  static double run(const Cuda& device);
};

}  // namespace storylm
