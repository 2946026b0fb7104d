// SPDX-License-Identifier: MIT
/// @file
/// @brief op::activation on CUDA: the kernels.
#pragma once

#include <algorithm>
#include <cmath>

#include <storylm/kernels/cuda/activation.hpp>
#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/sigmoid.cuh>

namespace storylm {
namespace cuda {

/// f(x), and what backward multiplies gradients by.
template <Activation activation>
struct ActivationFunction;
template <>
struct ActivationFunction<Activation::relu> {
  __device__ __forceinline__ static float value(float x) { return x < 0.0F ? 0.0F : x; }
};
template <>
struct ActivationFunction<Activation::gelu_tanh> {
  static constexpr float cubic = 0.044715F;
  static constexpr float twice_sqrt_2_over_pi = 1.5957691216057308F;

  // (1 + tanh(u)) / 2 is sigmoid(2 u).
  __device__ __forceinline__ static float twice_u(float x) { return twice_sqrt_2_over_pi * (x + cubic * x * x * x); }
  __device__ __forceinline__ static float value(float x) { return x * sigmoid(twice_u(x)).value; }
  __device__ __forceinline__ static float slope(float x) {
    const Sigmoid s = sigmoid(twice_u(x));
    const float near = std::min(std::max(x, -32.0F), 32.0F);  // beyond, s.slope is 0, and x * x may be infinite
    return s.value + near * s.slope * (twice_sqrt_2_over_pi * (1.0F + 3.0F * cubic * near * near));
  }
};
template <>
struct ActivationFunction<Activation::gelu_erf> {
  static constexpr float inverse_sqrt2 = 0.7071067811865476F;
  static constexpr float inverse_sqrt_2pi = 0.3989422804014327F;

  __device__ __forceinline__ static float cumulative(float x) { return 0.5F * (1.0F + std::erf(x * inverse_sqrt2)); }
  __device__ __forceinline__ static float value(float x) { return x * cumulative(x); }
  __device__ __forceinline__ static float slope(float x) {
    return cumulative(x) + x * fast_exp(-0.5F * x * x) * inverse_sqrt_2pi;
  }
};

/// y = dropout(f(x)).
template <Element T, Activation activation>
__global__ void __launch_bounds__(elementwise_threads)
    activation_kernel(MatrixView<T> y, MatrixView<const T> x, DropoutArguments dropout, PackedView batch, int shift,
                      bool aligned) {
  const bool drops = dropout.threshold != 0;
  const PhiloxKey key = drops ? dropout_key(dropout) : PhiloxKey{};
  for_each_group(y.rows, y.cols, shift, [&](index_t row, index_t column, int count) {
    float v[8];
    load8(x.data + row * x.stride + column, count, aligned, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = ActivationFunction<activation>::value(v[i]);
    if (drops) drop8(v, key, dropout, token_of_row(batch, row), static_cast<int>(column / group_columns));
    store8(y.data + row * y.stride + column, count, aligned, v);
  });
}

/// dx = f'(x) dropout'(dy); `from` is x.
template <Element T, Activation activation>
__global__ void __launch_bounds__(elementwise_threads, 4)
    activation_backward_kernel(MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> from,
                               DropoutArguments dropout, PackedView batch, int shift, bool aligned) {
  const bool drops = dropout.threshold != 0;
  const PhiloxKey key = drops ? dropout_key(dropout) : PhiloxKey{};
  for_each_group(dx.rows, dx.cols, shift, [&](index_t row, index_t column, int count) {
    float g[8];
    float x[8];
    load8(dy.data + row * dy.stride + column, count, aligned, g);
    load8(from.data + row * from.stride + column, count, aligned, x);
    if (drops) drop8(g, key, dropout, token_of_row(batch, row), static_cast<int>(column / group_columns));
#pragma unroll
    for (int i = 0; i < 8; ++i) g[i] *= ActivationFunction<activation>::slope(x[i]);
    store8(dx.data + row * dx.stride + column, count, aligned, g);
  });
}

/// The same of ReLU, from y: no random bits are needed.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    relu_backward_kernel(MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> y, DropoutArguments dropout,
                         PackedView batch, int shift, bool aligned) {
  const index_t tokens = dropout.threshold != 0 ? index_t{batch.offsets[batch.sequences]} : 0;
  for_each_group(dx.rows, dx.cols, shift, [&](index_t row, index_t column, int count) {
    const float scale = row < tokens ? dropout.scale : 1.0F;
    float g[8];
    float v[8];
    load8(dy.data + row * dy.stride + column, count, aligned, g);
    load8(y.data + row * y.stride + column, count, aligned, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) g[i] = v[i] <= 0.0F ? 0.0F : g[i] * scale;
    store8(dx.data + row * dx.stride + column, count, aligned, g);
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::activation, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<const T> x,
                                          Activation activation, const DropoutSpec& dropout, const PackedView& batch) {
  const cuda::GroupTiles tiles(y.rows, y.cols);
  const auto launch = [&](auto* kernel) {
    cuda::launch(device, kernel, tiles.grid, cuda::elementwise_threads, 0, y, x, cuda::DropoutArguments(dropout), batch,
                 tiles.shift, cuda::groups_aligned(y) && cuda::groups_aligned(x));
  };
  switch (activation) {
    case Activation::relu:
      return launch(cuda::activation_kernel<T, Activation::relu>);
    case Activation::gelu_tanh:
      return launch(cuda::activation_kernel<T, Activation::gelu_tanh>);
    case Activation::gelu_erf:
      return launch(cuda::activation_kernel<T, Activation::gelu_erf>);
  }
}

template <cuda::Element T>
void kernel<op::activation, Cuda, T>::backward(const Cuda& device, MatrixView<T> dx, MatrixView<const T> dy,
                                               MatrixView<const T> x, MatrixView<const T> y, Activation activation,
                                               const DropoutSpec& dropout, const PackedView& batch) {
  const cuda::GroupTiles tiles(dx.rows, dx.cols);
  const auto launch = [&](auto* kernel, MatrixView<const T> from) {
    cuda::launch(device, kernel, tiles.grid, cuda::elementwise_threads, 0, dx, dy, from,
                 cuda::DropoutArguments(dropout), batch, tiles.shift,
                 cuda::groups_aligned(dx) && cuda::groups_aligned(dy) && cuda::groups_aligned(from));
  };
  switch (activation) {
    case Activation::relu:
      return launch(cuda::relu_backward_kernel<T>, y);
    case Activation::gelu_tanh:
      return launch(cuda::activation_backward_kernel<T, Activation::gelu_tanh>, x);
    case Activation::gelu_erf:
      return launch(cuda::activation_backward_kernel<T, Activation::gelu_erf>, x);
  }
}

}  // namespace storylm
