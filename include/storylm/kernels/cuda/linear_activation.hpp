// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_activation on CUDA: epilogues of cuBLASLt, and a bit for each element of a ReLU.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::linear_activation, Cuda, T> {
  /// Of a ReLU: bit (column % 8) of byte (column / 8) of a row says whether the element counts in backward, as cuBLASLt
  /// has it; rows of whole 128 bits. Of a GELU: what it was given.
  [[nodiscard]] static constexpr index_t saved_columns(Activation activation, index_t width) {
    constexpr auto bits = static_cast<index_t>(8 * sizeof(T));
    return activation == Activation::relu ? (width + 127) / 128 * 128 / bits : (width + 7) / 8 * 8;
  }

  /// y (tokens, width) = dropout(f(x weight^T + bias)); writes `saved`.
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<T> saved, MatrixView<const T> x,
                  MatrixView<const T> weight, const T* bias, Activation activation, const DropoutSpec& dropout,
                  const PackedView& batch, bool row_invariant);

  /// dpre (tokens, width) = f' dropout'(dy weight). The first one of a ReLU in a context waits for the device: it tries
  /// out how cuBLASLt reads the bits. @throws CudaError also where that first one is recorded
  static void backward(const Cuda& device, MatrixView<T> dpre, MatrixView<const T> dy, MatrixView<const T> weight,
                       MatrixView<const T> y, MatrixView<const T> saved, Activation activation,
                       const DropoutSpec& dropout, const PackedView& batch);
};

}  // namespace storylm
