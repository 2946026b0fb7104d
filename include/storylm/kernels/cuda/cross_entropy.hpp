// SPDX-License-Identifier: MIT
/// @file
/// @brief op::cross_entropy on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::cross_entropy, Cuda, T> {
  /// loss (rows); logits (rows, vocab) become the gradient when asked for; targets (rows), negative: none. The bits of
  /// a row depend on that row alone. Fastest where rows of logits begin on 16-byte boundaries.
  static void run(const Cuda& device, float* loss, MatrixView<T> logits, const token_t* targets, bool gradient);
};

}  // namespace storylm
