// SPDX-License-Identifier: MIT
/// @file
/// @brief op::clip on CUDA.
#pragma once

#include <concepts>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// T: the dtype of the gradients, which are floats whatever the parameters are.
template <std::same_as<float> T>
struct kernel<op::clip, Cuda, T> {
  /// Writes state->grad_norm, clip and skip, and touches no gradient; gradients (n).
  static void run(const Cuda& device, const T* gradients, index_t n, double max_norm, StepState* state);
};

}  // namespace storylm
