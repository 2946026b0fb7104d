// SPDX-License-Identifier: MIT
/// @file
/// @brief op::gather_rows on CUDA: the kernel.
#pragma once

#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/gather_rows.hpp>

namespace storylm {
namespace cuda {

/// Copies bits.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    gather_rows_kernel(MatrixView<T> y, MatrixView<const T> x, const std::int32_t* rows, int shift, bool aligned) {
  for_each_group(y.rows, y.cols, shift, [&](index_t row, index_t column, int count) {
    T* const to = y.data + row * y.stride + column;
    const T* const from = x.data + rows[row] * x.stride + column;
    if (aligned) {
#pragma unroll
      for (std::size_t k = 0; k < group_columns * sizeof(T) / sizeof(Bytes16); ++k) {
        reinterpret_cast<Bytes16*>(to)[k] = reinterpret_cast<const Bytes16*>(from)[k];
      }
    } else {
      for (int i = 0; i < count; ++i) to[i] = from[i];
    }
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::gather_rows, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x,
                                           const std::int32_t* rows) {
  const cuda::GroupTiles tiles(y.rows, y.cols);
  cuda::launch(device, cuda::gather_rows_kernel<T>, tiles.grid, cuda::elementwise_threads, 0, y, x, rows, tiles.shift,
               cuda::groups_aligned(y) && cuda::groups_aligned(x));
}

}  // namespace storylm
