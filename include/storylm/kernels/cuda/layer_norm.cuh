// SPDX-License-Identifier: MIT
/// @file
/// @brief op::layer_norm on CUDA: the kernels are those of norm_rows.cuh.
#pragma once

#include <storylm/kernels/cuda/layer_norm.hpp>
#include <storylm/kernels/cuda/norm_rows.cuh>

namespace storylm {

template <cuda::Element T>
void kernel<op::layer_norm, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<T> sum,
                                          MatrixView<float> stats, MatrixView<const T> residual,
                                          MatrixView<const T> branch, const T* weight, const T* bias, double eps,
                                          const DropoutSpec& dropout, const PackedView& batch) {
  cuda::normalise_rows<true, T>(device, {y, sum, stats, residual, branch, weight, bias, static_cast<float>(eps),
                                         cuda::DropoutArguments(dropout), batch});
}

template <cuda::Element T>
void kernel<op::layer_norm, Cuda, T>::backward(const Cuda& device, MatrixView<T> dsum, MatrixView<T> dbranch,
                                               float* dweight, float* dbias, MatrixView<const T> dy,
                                               MatrixView<const T> sum, MatrixView<const float> stats, const T* weight,
                                               MatrixView<const T> plus, const DropoutSpec& dropout,
                                               const PackedView& batch) {
  cuda::normalise_rows_backward<true, T>(
      device, {dsum, dbranch, dy, sum, stats, weight, plus, cuda::DropoutArguments(dropout), batch}, dweight, dbias);
}

}  // namespace storylm
