// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul on CUDA, by cuBLASLt.
#pragma once

#include <concepts>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T, cuda::Element TC>
requires(std::same_as<TC, T> || std::same_as<TC, float>) struct kernel<op::matmul, Cuda, T, T, TC> {
  /// C (m, n) = op(A) op(B) [+ C] [+ bias (n)]. Sums are floats.
  static void run(const Cuda& device, MatrixView<TC> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                  const TC* bias);
};

}  // namespace storylm
