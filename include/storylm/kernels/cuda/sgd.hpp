// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sgd on CUDA.
#pragma once

#include <cstdint>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::sgd, Cuda, T> {
  /// One step over every segment of the arena; momentum (size), or null for none. The first step sets it to the
  /// gradient. 16-bit values become the rounded masters in the same pass. The gaps between segments are not touched.
  static void run(const Cuda& device, ArenaView<T> arena, float* momentum, std::int64_t* t,
                  const SgdConstants& constants, const StepState* state);
};

}  // namespace storylm
