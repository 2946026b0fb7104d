// SPDX-License-Identifier: MIT
/// @file
/// @brief op::attention on CUDA.
#pragma once

#include <limits>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// bf16 and half on tensor cores up to a head size of 128, everything else in plain float arithmetic. The bits of a
/// sequence depend on the GPU's kind, but on nothing else in the batch.
template <cuda::Element T>
struct kernel<op::attention, Cuda, T> {
  /// Also makes y and lse of tail rows zero.
  static void run(const Cuda& device, MatrixView<T> y, accumulator_t<T>* lse, MatrixView<const T> qkv,
                  const AttentionSpec& spec, const DropoutSpec& dropout, const PackedView& batch);
  /// Also makes dqkv of tail rows zero; reads nothing of theirs. Sequences up to `longest_short` whose heads fit into
  /// the shared memory of a block have a kernel of their own: same bits, other speed.
  static void backward(const Cuda& device, MatrixView<T> dqkv, MatrixView<const T> dy, MatrixView<const T> y,
                       const accumulator_t<T>* lse, MatrixView<const T> qkv, const AttentionSpec& spec,
                       const DropoutSpec& dropout, const PackedView& batch,
                       index_t longest_short = std::numeric_limits<int>::max());
};

}  // namespace storylm
