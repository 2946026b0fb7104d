// SPDX-License-Identifier: MIT
/// @file
/// @brief op::scale_to_mean on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element TX, cuda::Element TY>
struct kernel<op::scale_to_mean, Cuda, TX, TY> {
  /// y (+)= x * inverse_targets * loss_scale, both (n).
  static void run(const Cuda& device, TY* y, const TX* x, index_t n, const StepState* state, bool accumulate);
};

}  // namespace storylm
