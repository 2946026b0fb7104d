// SPDX-License-Identifier: MIT
/// @file
/// @brief op::gather_rows on CUDA.
#pragma once

#include <cstdint>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::gather_rows, Cuda, T> {
  /// y[i] = x[rows[i]]; y (n, cols), x (any, cols), rows (n).
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x, const std::int32_t* rows);
};

}  // namespace storylm
