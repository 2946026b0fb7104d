// SPDX-License-Identifier: MIT
/// @file
/// @brief op::add on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::add, Cuda, T> {
  /// y += x, both (rows, cols).
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x);
};

}  // namespace storylm
