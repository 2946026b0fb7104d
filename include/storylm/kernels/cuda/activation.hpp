// SPDX-License-Identifier: MIT
/// @file
/// @brief op::activation on CUDA: ReLU and both GELUs with dropout in the same pass.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::activation, Cuda, T> {
  /// ReLU's derivative is seen from its output: positive means kept by the function and by dropout alike.
  [[nodiscard]] static constexpr bool needs_input(Activation activation) { return activation != Activation::relu; }

  /// y = dropout(f(x)), both (tokens, width).
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x, Activation activation,
                  const DropoutSpec& dropout, const PackedView& batch);

  /// dx = f'(x) dropout'(dy), all (tokens, width); x is read where needs_input, else y.
  static void backward(const Cuda& device, MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> x,
                       MatrixView<const T> y, Activation activation, const DropoutSpec& dropout,
                       const PackedView& batch);
};

}  // namespace storylm
