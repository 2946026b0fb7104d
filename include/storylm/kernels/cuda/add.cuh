// SPDX-License-Identifier: MIT
/// @file
/// @brief op::add on CUDA: the kernel.
#pragma once

#include <storylm/kernels/cuda/add.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

/// A thread adds eight columns of one row.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    add_kernel(MatrixView<T> y, MatrixView<const T> x, bool aligned) {
  const index_t groups = (y.cols + group_columns - 1) / group_columns;
  const index_t i = index_t{block_x()} * elementwise_threads + thread_index();
  if (i >= y.rows * groups) return;
  const index_t row = i / groups;
  const index_t column = i % groups * group_columns;
  const auto count = static_cast<int>(y.cols - column < group_columns ? y.cols - column : group_columns);
  T* const to = y.data + row * y.stride + column;
  float a[8];
  float b[8];
  load8(static_cast<const T*>(to), count, aligned, a);
  load8(x.data + row * x.stride + column, count, aligned, b);
#pragma unroll
  for (int k = 0; k < 8; ++k) a[k] += b[k];
  store8(to, count, aligned, a);
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::add, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x) {
  const index_t groups = cuda::ceil_divide(y.cols, cuda::group_columns);
  cuda::launch(device, cuda::add_kernel<T>, dim3(cuda::blocks_for(y.rows * groups, cuda::elementwise_threads)),
               cuda::elementwise_threads, 0, y, x, cuda::groups_aligned(y) && cuda::groups_aligned(x));
}

}  // namespace storylm
