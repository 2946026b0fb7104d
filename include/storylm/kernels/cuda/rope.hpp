// SPDX-License-Identifier: MIT
/// @file
/// @brief Rotary positions on CUDA: Su et al., arXiv:2104.09864.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// Any even head size. Cosines and sines are within 2e-7 of the true ones at every position, whatever T is. Programs
/// that round the angle to float, as the CPU's float kernel does, are off by up to position * 6e-8 themselves.
template <cuda::Element T>
struct kernel<op::rope, Cuda, T> {
  /// Rotates q and k of every token's row in place; tail rows stay as they are.
  static void run(const Cuda& device, MatrixView<T> qkv, const AttentionSpec& spec, double theta, RopeLayout layout,
                  bool inverse, const PackedView& batch);
};

}  // namespace storylm
