// SPDX-License-Identifier: MIT
/// @file
/// @brief op::rms_norm on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// run and backward as op::rms_norm says; bias and dbias are null. Rows are
/// normalised as they are stored: `sum` is rounded to T first.
template <cuda::Element T>
struct kernel<op::rms_norm, Cuda, T> {
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<T> sum, MatrixView<float> stats,
                  MatrixView<const T> residual, MatrixView<const T> branch, const T* weight, const T* bias, double eps,
                  const DropoutSpec& dropout, const PackedView& batch);

  static void backward(const Cuda& device, MatrixView<T> dsum, MatrixView<T> dbranch, float* dweight, float* dbias,
                       MatrixView<const T> dy, MatrixView<const T> sum, MatrixView<const float> stats, const T* weight,
                       MatrixView<const T> plus, const DropoutSpec& dropout, const PackedView& batch);
};

}  // namespace storylm
