// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul on CUDA: the choice among cuBLASLt's products, and what is left when there is nothing to add up.
#pragma once

#include <storylm/kernels/cuda/cublaslt.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/matmul.hpp>
#include <storylm/kernels/cuda/primitives.cuh>

namespace storylm {
namespace cuda {

/// C = [C +] [bias]: a product over nothing. A thread has one element.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    empty_product_kernel(MatrixView<T> c, const T* bias, bool accumulate) {
  const index_t i = index_t{block_x()} * elementwise_threads + thread_index();
  if (i >= c.rows * c.cols) return;
  T& element = c(i / c.cols, i % c.cols);
  const float before = accumulate ? to_float(element) : 0.0F;
  element = from_float<T>(before + (bias == nullptr ? 0.0F : to_float(bias[i % c.cols])));
}

/// C (m, n) = op(A) op(B) [+ C] [+ bias], the ops known.
template <Transpose OpA, Transpose OpB, Element T, Element TC>
void matmul_of(const Cuda& device, MatrixView<TC> c, MatrixView<const T> a, MatrixView<const T> b, bool accumulate,
               const TC* bias) {
  const float beta = accumulate ? 1.0F : 0.0F;
  if (bias != nullptr) {
    Gemm<T, T, TC, epilogue::Bias, OpA, OpB>::run(device, c, a, b, {.beta = beta, .bias = bias});
  } else {
    Gemm<T, T, TC, epilogue::None, OpA, OpB>::run(device, c, a, b, {.beta = beta});
  }
}

}  // namespace cuda

template <cuda::Element T, cuda::Element TC>
requires(std::same_as<TC, T> ||
         std::same_as<TC, float>) void kernel<op::matmul, Cuda, T, T, TC>::run(const Cuda& device, MatrixView<TC> c,
                                                                               MatrixView<const T> a,
                                                                               MatrixView<const T> b, MatmulFlags flags,
                                                                               const TC* bias) {
  using cuda::Transpose;
  if ((flags.transpose_a ? a.rows : a.cols) == 0) {
    if (flags.accumulate && bias == nullptr) return;
    cuda::launch(device, cuda::empty_product_kernel<TC>,
                 dim3(cuda::blocks_for(c.rows * c.cols, cuda::elementwise_threads)), cuda::elementwise_threads, 0, c,
                 bias, flags.accumulate);
  } else if (flags.transpose_a && flags.transpose_b) {
    cuda::matmul_of<Transpose::yes, Transpose::yes>(device, c, a, b, flags.accumulate, bias);
  } else if (flags.transpose_a) {
    cuda::matmul_of<Transpose::yes, Transpose::no>(device, c, a, b, flags.accumulate, bias);
  } else if (flags.transpose_b) {
    cuda::matmul_of<Transpose::no, Transpose::yes>(device, c, a, b, flags.accumulate, bias);
  } else {
    cuda::matmul_of<Transpose::no, Transpose::no>(device, c, a, b, flags.accumulate, bias);
  }
}

}  // namespace storylm
