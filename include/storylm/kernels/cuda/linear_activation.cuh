// SPDX-License-Identifier: MIT
/// @file
/// @brief op::linear_activation on CUDA: where the activation is part of the product, and where it is a kernel.
#pragma once

#include <storylm/kernels/cuda/activation.hpp>
#include <storylm/kernels/cuda/cublaslt.hpp>
#include <storylm/kernels/cuda/cublaslt_relu.hpp>
#include <storylm/kernels/cuda/dropout.cuh>
#include <storylm/kernels/cuda/elementwise.cuh>
#include <storylm/kernels/cuda/linear_activation.hpp>
#include <storylm/kernels/cuda/matmul.hpp>
#include <storylm/kernels/cuda/matmul_rows.hpp>

namespace storylm {
namespace cuda {

/// y = dropout(max(y, 0)) in place; bits: where that is positive, as cuBLASLt's DRELU reads it (ReluBackwardCheck).
template <Element T>
__global__ void __launch_bounds__(elementwise_threads)
    relu_bits_kernel(MatrixView<T> y, unsigned char* bits, index_t row_bytes, DropoutArguments dropout,
                     PackedView batch, int shift, bool aligned) {
  const bool drops = dropout.threshold != 0;
  const PhiloxKey key = drops ? dropout_key(dropout) : PhiloxKey{};
  for_each_group(y.rows, y.cols, shift, [&](index_t row, index_t column, int count) {
    T* const place = y.data + row * y.stride + column;
    float v[8];
    load8(static_cast<const T*>(place), count, aligned, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = v[i] < 0.0F ? 0.0F : v[i];
    if (drops) drop8(v, key, dropout, token_of_row(batch, row), static_cast<int>(column / group_columns));
    store8(place, count, aligned, v);
    std::uint32_t positive = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) positive |= static_cast<std::uint32_t>(v[i] > 0.0F) << i;
    bits[row * row_bytes + column / group_columns] = static_cast<unsigned char>(positive);
  });
}

/// Whether an activation is to be part of the product. Within a bf16 product it was measured by others to be faster
/// than a kernel of its own on sm_90, and slower before (llm.c, pull requests 338, 363, 591) and after (sglang, pull
/// request 34350). cuBLASLt's tanh is an approximation that 16-bit results hide and floats would not.
template <Element T>
[[nodiscard]] constexpr bool fuses_activation(Activation activation, int capability) {
  const bool exact = activation == Activation::relu || (activation == Activation::gelu_tanh && sizeof(T) == 2);
  return exact && capability >= 90 && capability < 100;
}

/// cuBLASLt's row length of `saved`: bits for a ReLU, else elements. @throws ShapeError when rows do not fit it
template <class T>
[[nodiscard]] index_t aux_stride(MatrixView<T> saved, Activation activation) {
  const bool relu = activation == Activation::relu;
  const index_t stride = relu ? saved.stride * static_cast<index_t>(8 * sizeof(T)) : saved.stride;
  expects<ShapeError>(stride % (relu ? 128 : 8) == 0, "linear_activation", "saved has rows of ", saved.stride,
                      " elements: no multiple of 16 bytes");
  return stride;
}

/// The forward as one product. False when cuBLASLt has none.
template <Element T>
[[nodiscard]] bool activated_product(const Cuda& device, MatrixView<T> y, MatrixView<T> saved, MatrixView<const T> x,
                                     MatrixView<const T> weight, const T* bias, Activation activation) {
  const GemmExtras<T> extras{.bias = bias, .aux = saved.data, .stride_aux = aux_stride(saved, activation)};
  const auto product = [&]<class E>(E) {
    return Gemm<T, T, T, E, Transpose::no, Transpose::yes>::try_run(device, y, x, weight, extras);
  };
  if (activation == Activation::relu) {
    return bias != nullptr ? product(epilogue::ReluBiasBits{}) : product(epilogue::ReluBits{});
  }
  return bias != nullptr ? product(epilogue::GeluBiasInput{}) : product(epilogue::GeluInput{});
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::linear_activation, Cuda, T>::run(const Cuda& device, MatrixView<T> y, MatrixView<T> saved,
                                                 MatrixView<const T> x, MatrixView<const T> weight, const T* bias,
                                                 Activation activation, const DropoutSpec& dropout,
                                                 const PackedView& batch, bool row_invariant) {
  const bool relu = activation == Activation::relu;
  const bool in_product = !row_invariant && !dropout.active() && x.cols > 0 &&
                          cuda::fuses_activation<T>(activation, device.properties().capability);
  if (in_product && cuda::activated_product(device, y, saved, x, weight, bias, activation)) {
    return;
  }
  const MatrixView<T> pre = relu ? y : MatrixView<T>(saved.data, y.rows, y.cols, saved.stride);
  if (row_invariant) {
    kernel<op::matmul_rows, Cuda, T, T, T>::run(device, pre, x, weight, bias);
  } else {
    kernel<op::matmul, Cuda, T, T, T>::run(device, pre, x, weight, {.transpose_b = true}, bias);
  }
  if (!relu) {
    kernel<op::activation, Cuda, T>::run(device, y, pre, activation, dropout, batch);
    return;
  }
  const cuda::GroupTiles tiles(y.rows, y.cols);
  cuda::launch(device, cuda::relu_bits_kernel<T>, tiles.grid, cuda::elementwise_threads, 0, y,
               reinterpret_cast<unsigned char*>(saved.data), cuda::aux_stride(saved, activation) / 8,
               cuda::DropoutArguments(dropout), batch, tiles.shift, cuda::groups_aligned(y));
}

template <cuda::Element T>
void kernel<op::linear_activation, Cuda, T>::backward(const Cuda& device, MatrixView<T> dpre, MatrixView<const T> dy,
                                                      MatrixView<const T> weight, MatrixView<const T> y,
                                                      MatrixView<const T> saved, Activation activation,
                                                      const DropoutSpec& dropout, const PackedView& batch) {
  const bool relu = activation == Activation::relu;
  // cuBLASLt's type of memory that it may read or write; here it reads
  auto* const aux = const_cast<T*>(saved.data);
  const auto product = [&]<class E>(E) {
    return cuda::Gemm<T, T, T, E>::try_run(
        device, dpre, dy, weight,
        {.alpha = static_cast<float>(dropout.scale()), .aux = aux, .stride_aux = cuda::aux_stride(saved, activation)});
  };
  if (dy.cols > 0) {
    if (relu && device.service<cuda::ReluBackwardCheck<T>>().as_written() && product(cuda::epilogue::ReluBackward{})) {
      return;
    }
    const bool in_product =
        !relu && !dropout.active() && cuda::fuses_activation<T>(activation, device.properties().capability);
    if (in_product && product(cuda::epilogue::GeluBackward{})) {
      return;
    }
  }
  kernel<op::matmul, Cuda, T, T, T>::run(device, dpre, dy, weight, {}, nullptr);
  const auto pre = relu ? MatrixView<const T>{} : MatrixView<const T>(saved.data, y.rows, y.cols, saved.stride);
  kernel<op::activation, Cuda, T>::backward(device, dpre, dpre, pre, y, activation, dropout, batch);
}

}  // namespace storylm
