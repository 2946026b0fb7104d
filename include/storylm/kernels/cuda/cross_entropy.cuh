// SPDX-License-Identifier: MIT
/// @file
/// @brief op::cross_entropy on CUDA: a block for each row.
///
/// A row of up to 32,768 columns is held in registers: memory is read once and written once. Longer ones are read
/// twice, the second time most likely from the cache.
#pragma once

#include <cmath>
#include <limits>

#include <storylm/kernels/cuda/cross_entropy.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/reduce.cuh>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

namespace detail {

/// One row of logits as a block sees it: group g is columns 8 g to 8 g + 7.
template <Element T>
struct LogitRow {
  T* data;
  int vocab;
  bool aligned;  ///< the row begins on a 16-byte boundary

  __device__ __forceinline__ int count(int group) const {
    const int rest = vocab - group * group_columns;
    return rest < group_columns ? rest : group_columns;
  }
  /// Columns beyond the last are minus infinity.
  __device__ __forceinline__ void load(int group, float (&x)[8]) const {
    const int n = count(group);
    load8(static_cast<const T*>(data) + group * group_columns, n, aligned && n == group_columns, x,
          -std::numeric_limits<float>::infinity());
  }
  /// Groups thread, thread + Threads, ... at once: no load waits for another, for the addresses are always good.
  template <int Threads, int Groups>
  __device__ __forceinline__ void load_all(float (&x)[Groups][8]) const {
    const int last = vocab / group_columns - 1;  // of the whole groups
    const bool whole = aligned && last >= 0;
    if (whole) {
#pragma unroll
      for (int g = 0; g < Groups; ++g) {
        const int group = g * Threads + thread_index();
        load8(static_cast<const T*>(data) + (group <= last ? group : last) * group_columns, x[g]);
      }
    }
#pragma unroll
    for (int g = 0; g < Groups; ++g) {
      const int group = g * Threads + thread_index();
      if (!whole || group > last) load(group, x[g]);
    }
  }
  __device__ __forceinline__ void store(int group, const float (&x)[8]) const {
    const int n = count(group);
    store8(data + group * group_columns, n, aligned && n == group_columns, x);
  }
  /// What a row without a target gets.
  __device__ __forceinline__ void clear() const {
    const float zeros[8] = {};
    for (int group = thread_index(); group * group_columns < vocab; group += block_threads()) store(group, zeros);
  }
};

/// x becomes x / sum - onehot(target), of the group's columns.
__device__ __forceinline__ void softmax_gradient(float (&x)[8], float inverse_sum, int group, token_t target) {
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    x[k] *= inverse_sum;
    if (group * group_columns + k == target) x[k] -= 1.0F;
  }
}

}  // namespace detail

/// Threads * Groups groups of eight columns hold the whole row.
template <Element T, int Threads, int Groups>
__global__ void __launch_bounds__(Threads)
    cross_entropy_kernel(float* loss, MatrixView<T> logits, const token_t* targets, bool gradient, bool aligned) {
  const index_t r = block_x();
  const detail::LogitRow<T> row{logits.row(r), static_cast<int>(logits.cols), aligned};
  const token_t target = targets[r];
  if (target < 0) {
    if (thread_index() == 0) loss[r] = 0.0F;
    if (gradient) row.clear();
    return;
  }
  const float at_target = to_float(row.data[target]);  // before anything is overwritten
  float x[Groups][8];
  float largest = -std::numeric_limits<float>::infinity();
  row.template load_all<Threads, Groups>(x);
#pragma unroll
  for (int g = 0; g < Groups; ++g) {
#pragma unroll
    for (int k = 0; k < 8; ++k) largest = x[g][k] > largest ? x[g][k] : largest;
  }
  largest = block_max(largest);
  float sum = 0.0F;
#pragma unroll
  for (int g = 0; g < Groups; ++g) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      x[g][k] = fast_exp(x[g][k] - largest);
      sum += x[g][k];
    }
  }
  sum = block_sum(sum);
  if (thread_index() == 0) loss[r] = std::log(sum) + (largest - at_target);
  if (!gradient) return;
  const float inverse_sum = 1.0F / sum;
#pragma unroll
  for (int g = 0; g < Groups; ++g) {
    const int group = g * Threads + thread_index();
    detail::softmax_gradient(x[g], inverse_sum, group, target);
    row.store(group, x[g]);
  }
}

/// Any number of columns: a thread keeps a maximum and the sum of exponentials below it.
template <Element T, int Threads>
__global__ void __launch_bounds__(Threads)
    cross_entropy_long_kernel(float* loss, MatrixView<T> logits, const token_t* targets, bool gradient, bool aligned) {
  const index_t r = block_x();
  const detail::LogitRow<T> row{logits.row(r), static_cast<int>(logits.cols), aligned};
  const token_t target = targets[r];
  if (target < 0) {
    if (thread_index() == 0) loss[r] = 0.0F;
    if (gradient) row.clear();
    return;
  }
  const float at_target = to_float(row.data[target]);
  float mine = -std::numeric_limits<float>::infinity();
  float sum = 0.0F;
  for (int group = thread_index(); group * group_columns < row.vocab; group += Threads) {
    float x[8];
    row.load(group, x);
    float next = mine;
#pragma unroll
    for (int k = 0; k < 8; ++k) next = x[k] > next ? x[k] : next;
    if (next > mine) {
      sum *= fast_exp(mine - next);
      mine = next;
    }
    const float base = mine > -std::numeric_limits<float>::infinity() ? mine : 0.0F;  // infinity minus infinity is NaN
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += fast_exp(x[k] - base);
  }
  const float largest = block_max(mine);
  // The sum of a thread that saw nothing above minus infinity is zero, or NaN.
  sum = block_sum(mine > -std::numeric_limits<float>::infinity() ? sum * fast_exp(mine - largest) : sum);
  if (thread_index() == 0) loss[r] = std::log(sum) + (largest - at_target);
  if (!gradient) return;
  const float inverse_sum = 1.0F / sum;
  for (int group = thread_index(); group * group_columns < row.vocab; group += Threads) {
    float x[8];
    row.load(group, x);
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = fast_exp(x[k] - largest);
    detail::softmax_gradient(x, inverse_sum, group, target);
    row.store(group, x);
  }
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::cross_entropy, Cuda, T>::run(const Cuda& device, float* loss, MatrixView<T> logits,
                                             const token_t* targets, bool gradient) {
  const bool aligned = cuda::groups_aligned(static_cast<const T*>(logits.data), logits.stride);
  const dim3 grid(cuda::blocks_for(logits.rows, 1));
  const auto launch = [&](auto* kernel, int threads) {
    cuda::launch(device, kernel, grid, threads, 0, loss, logits, targets, gradient, aligned);
  };
  const index_t groups = cuda::ceil_divide(logits.cols, cuda::group_columns);
  if (groups <= 128) {
    launch(cuda::cross_entropy_kernel<T, 128, 1>, 128);
  } else if (groups <= 256) {
    launch(cuda::cross_entropy_kernel<T, 128, 2>, 128);
  } else if (groups <= 384) {
    launch(cuda::cross_entropy_kernel<T, 128, 3>, 128);
  } else if (groups <= 512) {
    launch(cuda::cross_entropy_kernel<T, 128, 4>, 128);
  } else if (groups <= 640) {  // 5120 columns
    launch(cuda::cross_entropy_kernel<T, 128, 5>, 128);
  } else if (groups <= 1024) {
    launch(cuda::cross_entropy_kernel<T, 256, 4>, 256);
  } else if (groups <= 2048) {
    launch(cuda::cross_entropy_kernel<T, 256, 8>, 256);
  } else if (groups <= 4096) {
    launch(cuda::cross_entropy_kernel<T, 512, 8>, 512);
  } else {
    launch(cuda::cross_entropy_long_kernel<T, 512>, 512);
  }
}

}  // namespace storylm
