// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_gradient on CUDA, by cuBLASLt.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::linear_gradient, Cuda, T, float> {
  /// dweight (out, in) += dy^T x, dbias (out) += sums of dy's columns, which the product reads anyway.
  static void run(const Cuda& device, MatrixView<float> dweight, float* dbias, MatrixView<const T> dy,
                  MatrixView<const T> x);
};

}  // namespace storylm
