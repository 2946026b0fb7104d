// SPDX-License-Identifier: MIT
/// @file
/// @brief op::embedding on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::embedding, Cuda, T> {
  /// y[t] = dropout(table[ids[t]] * scale + positions[position of t]), zeros in rows of no sequence; y (tokens, width),
  /// table (vocab, width), positions (max_len, width) or none.
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> table, MatrixView<const T> positions,
                  double scale, const DropoutSpec& dropout, const PackedView& batch);

  /// dtable[ids[t]] += dropout'(dy[t]) * scale, dpositions[position of t] += dropout'(dy[t]). The order of a row's sum
  /// depends on the ids (the positions) of the batch, and on nothing else: tokens in their order, in runs of bounded
  /// length, then the runs in their order.
  static void backward(const Cuda& device, MatrixView<float> dtable, MatrixView<float> dpositions,
                       MatrixView<const T> dy, double scale, const DropoutSpec& dropout, const PackedView& batch);
};

}  // namespace storylm
