// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sum on CUDA: the kernel.
#pragma once

#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/reduce.cuh>
#include <storylm/kernels/cuda/sum.hpp>

namespace storylm {
namespace cuda {

/// to[block] (+)= the sum of the block's `span` values; T may be double as well.
template <class T>
__global__ void __launch_bounds__(elementwise_threads)
    sum_kernel(double* to, const T* values, index_t n, index_t span, bool accumulate, bool aligned) {
  const index_t first = block_x() * span;
  const index_t last = first + span < n ? first + span : n;
  double total = 0.0;
  if constexpr (Element<T>) {
    constexpr index_t step = index_t{elementwise_threads} * group_columns;
    for (index_t i = first + thread_index() * group_columns; i < last; i += step) {
      const int count = columns_of_group(last, i);
      float v[8];
      load8(values + i, count, aligned && count == group_columns, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) total += static_cast<double>(v[k]);
    }
  } else {
    for (index_t i = first + thread_index(); i < last; i += elementwise_threads) total += values[i];
  }
  total = block_sum(total);
  if (thread_index() == 0) to[block_x()] = accumulate ? to[block_x()] + total : total;
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::sum, Cuda, T>::run(const Cuda& device, double* total, const T* values, index_t n) {
  constexpr index_t span = 16384;  // one block's; a multiple of eight
  const bool aligned = cuda::groups_aligned(values, 0);
  const index_t parts = cuda::ceil_divide(n, span);
  if (parts <= 1) {
    cuda::launch(device, cuda::sum_kernel<T>, dim3(static_cast<unsigned>(parts)), cuda::elementwise_threads, 0, total,
                 values, n, span, true, aligned);
    return;
  }
  auto scratch = device.scratch();
  double* const partial = scratch.template take<double>(parts);
  cuda::launch(device, cuda::sum_kernel<T>, dim3(cuda::blocks_for(parts, 1)), cuda::elementwise_threads, 0, partial,
               values, n, span, false, aligned);
  cuda::launch(device, cuda::sum_kernel<double>, dim3(1), cuda::elementwise_threads, 0, total,
               static_cast<const double*>(partial), parts, parts, true, true);
}

}  // namespace storylm
