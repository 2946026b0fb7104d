// SPDX-License-Identifier: MIT
/// @file
/// @brief op::swiglu on CUDA: the kernels.
#pragma once

#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/sigmoid.cuh>
#include <storylm/kernels/cuda/swiglu.hpp>

namespace storylm {
namespace cuda {

/// y = dropout(silu(gate) * up).
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    swiglu_kernel(MatrixView<T> y, MatrixView<const T> gate_up, DropoutArguments dropout, PackedView batch, int shift,
                  bool aligned) {
  const bool drops = dropout.threshold != 0;
  const PhiloxKey key = drops ? dropout_key(dropout) : PhiloxKey{};
  for_each_group(y.rows, y.cols, shift, [&](index_t row, index_t column, int count) {
    const T* const from = gate_up.data + row * gate_up.stride + column;
    float gate[8];
    float up[8];
    load8(from, count, aligned, gate);
    load8(from + y.cols, count, aligned, up);
#pragma unroll
    for (int i = 0; i < 8; ++i) up[i] *= gate[i] * sigmoid(gate[i]).value;
    if (drops) drop8(up, key, dropout, token_of_row(batch, row), static_cast<int>(column / group_columns));
    store8(y.data + row * y.stride + column, count, aligned, up);
  });
}

/// dgate = dropout'(dy) up silu'(gate), dup = dropout'(dy) silu(gate). A thread reads what it overwrites, first.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    swiglu_backward_kernel(MatrixView<T> dgate_up, MatrixView<const T> dy, MatrixView<const T> gate_up,
                           DropoutArguments dropout, PackedView batch, int shift, bool aligned) {
  const bool drops = dropout.threshold != 0;
  const PhiloxKey key = drops ? dropout_key(dropout) : PhiloxKey{};
  for_each_group(dy.rows, dy.cols, shift, [&](index_t row, index_t column, int count) {
    const T* const from = gate_up.data + row * gate_up.stride + column;
    float g[8];
    float gate[8];
    float up[8];
    load8(dy.data + row * dy.stride + column, count, aligned, g);
    load8(from, count, aligned, gate);
    load8(from + dy.cols, count, aligned, up);
    if (drops) drop8(g, key, dropout, token_of_row(batch, row), static_cast<int>(column / group_columns));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const Sigmoid s = sigmoid(gate[i]);
      const float of_gate = g[i] * up[i] * (s.value + gate[i] * s.slope);
      up[i] = g[i] * gate[i] * s.value;
      gate[i] = of_gate;
    }
    T* const to = dgate_up.data + row * dgate_up.stride + column;
    store8(to, count, aligned, gate);
    store8(to + dy.cols, count, aligned, up);
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::swiglu, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<const T> gate_up,
                                      const DropoutSpec& dropout, const PackedView& batch) {
  const cuda::GroupTiles tiles(y.rows, y.cols);
  cuda::launch(device, cuda::swiglu_kernel<T>, tiles.grid, cuda::elementwise_threads, 0, y, gate_up,
               cuda::DropoutArguments(dropout), batch, tiles.shift,
               cuda::groups_aligned(y) && cuda::groups_aligned(gate_up));
}

template <cuda::Element T>
void kernel<op::swiglu, Cuda, T>::backward(const Cuda& device, MatrixView<T> dgate_up, MatrixView<const T> dy,
                                           MatrixView<const T> gate_up, const DropoutSpec& dropout,
                                           const PackedView& batch) {
  const cuda::GroupTiles tiles(dy.rows, dy.cols);
  cuda::launch(device, cuda::swiglu_backward_kernel<T>, tiles.grid, cuda::elementwise_threads, 0, dgate_up, dy, gate_up,
               cuda::DropoutArguments(dropout), batch, tiles.shift,
               cuda::groups_aligned(dgate_up) && cuda::groups_aligned(dy) && cuda::groups_aligned(gate_up));
}

}  // namespace storylm
