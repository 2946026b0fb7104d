// SPDX-License-Identifier: MIT
/// @file
/// @brief op::scale_to_mean on CUDA: the kernel.
#pragma once

#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/scale_to_mean.hpp>

namespace storylm {
namespace cuda {

/// A thread scales eight neighbours.
template <Element TX, Element TY>
__global__ void __launch_bounds__(elementwise_threads)
    scale_to_mean_kernel(TY* y, const TX* x, index_t n, const StepState* state, bool accumulate, bool aligned) {
  const index_t first = (index_t{block_x()} * elementwise_threads + thread_index()) * group_columns;
  if (first >= n) return;
  const auto factor = static_cast<float>(state->inverse_targets * state->loss_scale);
  const int count = columns_of_group(n, first);
  const bool whole = aligned && count == group_columns;
  float v[8];
  float old[8] = {};
  load8(x + first, count, whole, v);
  if (accumulate) load8(static_cast<const TY*>(y + first), count, whole, old);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = old[i] + v[i] * factor;
  store8(y + first, count, whole, v);
}

}  // namespace cuda

template <cuda::Element TX, cuda::Element TY>
void kernel<op::scale_to_mean, Cuda, TX, TY>::run(const Cuda& device, TY* y, const TX* x, index_t n,
                                                  const StepState* state, bool accumulate) {
  cuda::launch(device, cuda::scale_to_mean_kernel<TX, TY>,
               dim3(cuda::blocks_for(n, index_t{cuda::elementwise_threads} * cuda::group_columns)),
               cuda::elementwise_threads, 0, y, x, n, state, accumulate,
               cuda::groups_aligned(static_cast<const TY*>(y), 0) && cuda::groups_aligned(x, 0));
}

}  // namespace storylm
