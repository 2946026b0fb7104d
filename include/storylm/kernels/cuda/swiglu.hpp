// SPDX-License-Identifier: MIT
/// @file
/// @brief op::swiglu on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::swiglu, Cuda, T> {
  /// y (tokens, width) = dropout(silu(gate) * up); gate_up (tokens, 2 width), gate first.
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> gate_up, const DropoutSpec& dropout,
                  const PackedView& batch);

  /// dgate_up (tokens, 2 width) from dy (tokens, width); dgate_up may be gate_up.
  static void backward(const Cuda& device, MatrixView<T> dgate_up, MatrixView<const T> dy, MatrixView<const T> gate_up,
                       const DropoutSpec& dropout, const PackedView& batch);
};

}  // namespace storylm
