// SPDX-License-Identifier: MIT
/// @file
/// @brief op::column_sum on CUDA: the kernel.
#pragma once

#include <storylm/kernels/cuda/column_sum.hpp>
#include <storylm/kernels/cuda/partial_sums.cuh>

namespace storylm {
namespace cuda {

struct ColumnSum;
/// partial (parts, cols) of x.
template <Element T>
__global__ void __launch_bounds__(partial_threads)
    column_sum_kernel(float* partial, MatrixView<const T> x, index_t block_rows, bool aligned) {
  sum_block_rows<1, ColumnSum>(partial, x.rows, x.cols, block_rows,
                               [&](index_t row, index_t column, int count, float(&values)[1][8]) {
                                 load8(x.data + row * x.stride + column, count, aligned, values[0]);
                               });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::column_sum, Cuda, T, float>::run(const Cuda& device, float* dsum, MatrixView<const T> x) {
  if (x.rows == 0 || x.cols == 0) return;
  const cuda::PartialShape shape(x.rows, cuda::ceil_divide(x.cols, cuda::warp_columns), 32, 256);
  expects<ShapeError>(shape.across < 65536, "cuda", "too many columns: ", x.cols);
  auto scratch = device.scratch();
  float* const partial = scratch.template take<float>(shape.parts * x.cols);  // (parts, cols)
  cuda::launch(device, cuda::column_sum_kernel<T>,
               dim3(cuda::blocks_for(shape.parts, 1), static_cast<unsigned>(shape.across)), cuda::partial_threads, 0,
               partial, x, shape.block_rows, cuda::groups_aligned(x));
  cuda::add_partials(device, dsum, nullptr, partial, shape.parts, x.cols);
}

}  // namespace storylm
