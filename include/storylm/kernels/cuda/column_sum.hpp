// SPDX-License-Identifier: MIT
/// @file
/// @brief op::column_sum on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::column_sum, Cuda, T, float> {
  /// dsum[c] += sum over r of x[r, c]; x (rows, cols), dsum (cols). Sums are carried in float.
  static void run(const Cuda& device, float* dsum, MatrixView<const T> x);
};

}  // namespace storylm
