// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_gradient on CUDA: one product for both gradients, two kernels where cuBLASLt has no such product.
#pragma once

#include <storylm/kernels/cuda/column_sum.hpp>
#include <storylm/kernels/cuda/cublaslt.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/linear_gradient.hpp>
#include <storylm/kernels/cuda/primitives.cuh>

namespace storylm {
namespace cuda {

/// y += x, both (n): cuBLASLt overwrites sums, gradients add up.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads) add_vector_kernel(T* y, const T* x, index_t n) {
  const index_t i = index_t{block_x()} * elementwise_threads + thread_index();
  if (i < n) y[i] += x[i];
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::linear_gradient, Cuda, T, float>::run(const Cuda& device, MatrixView<float> dweight, float* dbias,
                                                      MatrixView<const T> dy, MatrixView<const T> x) {
  using cuda::Transpose;
  if (dy.rows == 0) return;
  if (dbias != nullptr && x.cols > 0) {
    using WithSums = cuda::Gemm<T, T, float, cuda::epilogue::SumsOfA, Transpose::yes, Transpose::no>;
    auto scratch = device.scratch();
    auto* const sums = scratch.template take<float>(dy.cols);  // (out)
    if (WithSums::try_run(device, dweight, dy, x, {.beta = 1.0F, .sums = sums})) {
      cuda::launch(device, cuda::add_vector_kernel<float>, dim3(cuda::blocks_for(dy.cols, cuda::elementwise_threads)),
                   cuda::elementwise_threads, 0, dbias, sums, dy.cols);
      return;
    }
  }
  cuda::Gemm<T, T, float, cuda::epilogue::None, Transpose::yes, Transpose::no>::run(device, dweight, dy, x,
                                                                                    {.beta = 1.0F});
  if (dbias != nullptr) kernel<op::column_sum, Cuda, T, float>::run(device, dbias, dy);
}

}  // namespace storylm
