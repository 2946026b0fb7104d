// SPDX-License-Identifier: MIT
/// @file
/// @brief op::embedding on CUDA: the forward kernel, and backward as a sum over sorted rows.
#pragma once

#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/embedding.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/sum_by_row.cuh>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

/// threads_per_row threads, a power of two, make a row of y, eight columns each at a time.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    embedding_kernel(MatrixView<T> y, MatrixView<const T> table, MatrixView<const T> positions, float scale,
                     DropoutArguments dropout, PackedView batch, int threads_per_row, bool aligned) {
  const int i = block_x() * (elementwise_threads / threads_per_row) + thread_index() / threads_per_row;
  if (i >= y.rows) return;
  const index_t row = i;
  const bool real = row < batch.offsets[batch.sequences];
  const T* const from = real ? table.row(batch.ids[row]) : nullptr;
  const T* const shift = real && positions.data != nullptr ? positions.row(batch.positions[row]) : nullptr;
  const auto groups = static_cast<int>((y.cols + group_columns - 1) / group_columns);
  RowToken token;
  PhiloxKey key;
  if (dropout.threshold != 0) {
    token = token_of_row(batch, row);
    key = dropout_key(dropout);
  }
  for (int group = thread_index() % threads_per_row; group < groups; group += threads_per_row) {
    const index_t column = index_t{group} * group_columns;
    const auto count = static_cast<int>(y.cols - column < group_columns ? y.cols - column : group_columns);
    float x[8] = {};
    if (real) {
      load8(from + column, count, aligned, x);
#pragma unroll
      for (int k = 0; k < 8; ++k) x[k] *= scale;
      if (shift != nullptr) {
        float s[8];
        load8(shift + column, count, aligned, s);
#pragma unroll
        for (int k = 0; k < 8; ++k) x[k] += s[k];
      }
      if (dropout.threshold != 0) drop8(x, key, dropout, token, group);
    }
    store8(y.row(row) + column, count, aligned, x);
  }
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::embedding, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<const T> table,
                                         MatrixView<const T> positions, double scale, const DropoutSpec& dropout,
                                         const PackedView& batch) {
  const index_t groups = cuda::ceil_divide(y.cols, cuda::group_columns);
  if (y.rows == 0 || groups == 0) return;
  int threads_per_row = 1;
  while (threads_per_row < groups && threads_per_row < cuda::elementwise_threads) threads_per_row *= 2;
  cuda::launch(device, cuda::embedding_kernel<T>,
               dim3(cuda::blocks_for(y.rows, cuda::elementwise_threads / threads_per_row)), cuda::elementwise_threads,
               0, y, table, positions, static_cast<float>(scale), cuda::DropoutArguments(dropout), batch,
               threads_per_row,
               cuda::groups_aligned(y) && cuda::groups_aligned(table) && cuda::groups_aligned(positions));
}

template <cuda::Element T>
void kernel<op::embedding, Cuda, T>::backward(const Cuda& device, MatrixView<float> dtable,
                                              MatrixView<float> dpositions, MatrixView<const T> dy, double scale,
                                              const DropoutSpec& dropout, const PackedView& batch) {
  cuda::sum_by_row(device, dtable, batch.ids, dy, static_cast<float>(scale), cuda::DropoutArguments(dropout), batch);
  if (!dpositions) return;
  cuda::sum_by_row(device, dpositions, batch.positions, dy, 1.0F, cuda::DropoutArguments(dropout), batch);
}

}  // namespace storylm
