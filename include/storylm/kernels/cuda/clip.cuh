// SPDX-License-Identifier: MIT
/// @file
/// @brief op::clip on CUDA: a sum of squares in two stages, in double, for the largest floats have finite norms.
#pragma once

#include <cmath>
#include <limits>

#include <storylm/kernels/cuda/clip.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/reduce.cuh>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

inline constexpr int clip_threads = 256;  ///< of a block, in both stages
inline constexpr int clip_groups = 4;     ///< of eight elements, that a thread squares
inline constexpr int clip_block = clip_threads * clip_groups * group_columns;  ///< elements of a block

/// partial[b] = sum of the squares of the elements of block b.
template <Element T>
__global__ void __launch_bounds__(clip_threads)
    squares_kernel(double* partial, const T* gradients, index_t n, bool aligned) {
  const index_t first = index_t{block_x()} * clip_block;
  float x[clip_groups][8];
  if (aligned && first + clip_block <= n) {
#pragma unroll
    for (int g = 0; g < clip_groups; ++g) {
      load8(gradients + first + (g * clip_threads + thread_index()) * group_columns, x[g]);
    }
  } else {
#pragma unroll
    for (int g = 0; g < clip_groups; ++g) {
      const index_t at = first + (g * clip_threads + thread_index()) * group_columns;
      const index_t rest = n - at < 0 ? 0 : n - at;
      load8(gradients + at, static_cast<int>(rest < group_columns ? rest : group_columns), x[g]);
    }
  }
  double sum = 0.0;
#pragma unroll
  for (int g = 0; g < clip_groups; ++g) {
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += static_cast<double>(x[g][k]) * static_cast<double>(x[g][k]);
  }
  sum = block_sum(sum);
  if (thread_index() == 0) partial[block_x()] = sum;
}

/// One block: the partial sums become the norm, and what follows from it.
template <Element T>
__global__ void __launch_bounds__(clip_threads)
    clip_kernel(const double* partial, index_t count, double max_norm, StepState* state) {
  double sum = 0.0;
  for (index_t i = thread_index(); i < count; i += clip_threads) sum += partial[i];
  sum = block_sum(sum);
  if (thread_index() != 0) return;
  const double norm = std::sqrt(sum) / state->loss_scale;
  const double bound = max_norm / (norm + 1e-6);
  state->grad_norm = norm;
  state->clip = (max_norm > 0.0 && bound < 1.0 ? bound : 1.0) / state->loss_scale;
  constexpr double largest = std::numeric_limits<double>::max();
  state->skip = norm <= largest && std::abs(state->loss_sum) <= largest ? 0U : 1U;
}

}  // namespace cuda

template <std::same_as<float> T>
void kernel<op::clip, Cuda, T>::run(const Cuda& device, const T* gradients, index_t n, double max_norm,
                                    StepState* state) {
  const index_t blocks = cuda::ceil_divide(n, cuda::clip_block);
  auto scratch = device.scratch();
  auto* const partial = scratch.template take<double>(blocks);
  cuda::launch(device, cuda::squares_kernel<T>, dim3(cuda::blocks_for(n, cuda::clip_block)), cuda::clip_threads, 0,
               partial, gradients, n, cuda::groups_aligned(gradients, 0));
  cuda::launch(device, cuda::clip_kernel<T>, dim3(1), cuda::clip_threads, 0, static_cast<const double*>(partial),
               blocks, max_norm, state);
}

}  // namespace storylm
