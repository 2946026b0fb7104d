// SPDX-License-Identifier: MIT
/// @file
/// @brief op::peak_flops on CUDA: the rate of a large product, which kernels are compared with.
#pragma once

#include <algorithm>
#include <chrono>

#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/cuda/matmul.hpp>
#include <storylm/kernels/cuda/peak_flops.hpp>
#include <storylm/kernels/cuda/primitives.cuh>
#include <storylm/tensor/tensor.hpp>

namespace storylm {
namespace cuda {

/// Numbers in [-0.5, 0.5) that differ: a GPU multiplies zeros with less power, and so faster.
template <Element T>
__global__ void __launch_bounds__(elementwise_threads) fill_kernel(T* x, index_t n) {
  const index_t i = index_t{block_x()} * elementwise_threads + thread_index();
  if (i < n)
    x[i] = from_float<T>(static_cast<float>(static_cast<std::uint32_t>(i) * 2654435761U >> 8U) * 0x1p-24F - 0.5F);
}

}  // namespace cuda

template <cuda::Element T>
double kernel<op::peak_flops, Cuda, T>::run(const Cuda& device) {
  constexpr index_t largest = 8192;
  constexpr float long_enough = 2.0F;  // ms
  constexpr int repeats = 5;
  const cuda::Event start = cuda::make_timer();
  const cuda::Event end = cuda::make_timer();
  // Milliseconds of one product of (size, size) matrices, over `count` of them.
  const auto time = [&](MatrixView<T> c, MatrixView<const T> a, int count) {
    STORYLM_CUDA_CHECK(cudaEventRecord(start.get(), device.stream()));
    for (int i = 0; i < count; ++i) {
      kernel<op::matmul, Cuda, T, T, T>::run(device, c, a, a, {.transpose_b = true}, nullptr);
    }
    STORYLM_CUDA_CHECK(cudaEventRecord(end.get(), device.stream()));
    STORYLM_CUDA_CHECK(cudaEventSynchronize(end.get()));
    float milliseconds = 0.0F;
    STORYLM_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start.get(), end.get()));
    return milliseconds / static_cast<float>(count);
  };
  for (index_t size = 256;; size *= 2) {
    auto a = Tensor<T, Cuda>::uninitialised({size, size}, device);
    auto c = Tensor<T, Cuda>::uninitialised({size, size}, device);
    cuda::launch(device, cuda::fill_kernel<T>, dim3(cuda::blocks_for(size * size, cuda::elementwise_threads)),
                 cuda::elementwise_threads, 0, a.data(), size * size);
    static_cast<void>(time(c.matrix(), a.matrix(), 1));  // plans are made
    float best = time(c.matrix(), a.matrix(), 1);
    if (best < long_enough && size < largest) continue;
    const auto begin = std::chrono::steady_clock::now();
    do {
      best = std::min(best, time(c.matrix(), a.matrix(), repeats));
    } while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(100));
    return 2.0 * static_cast<double>(size * size * size) / (static_cast<double>(best) * 1e-3);
  }
}

}  // namespace storylm
