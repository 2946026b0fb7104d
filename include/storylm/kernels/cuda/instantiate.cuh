// SPDX-License-Identifier: MIT
/// @file
/// @brief Every CUDA kernel for every element type: the one list of them.
///
/// CMake reads this file and makes one source of each op (cmake/cuda_kernels.cmake). Without CMake: one .cu of one's
/// own that includes this header and nothing else, compiled by nvcc and linked to the program.
/// Each line is one kernel; kernel<op::NAME, ...> comes from NAME.cuh.
#pragma once

#include <storylm/kernels/cuda/activation.cuh>
#include <storylm/kernels/cuda/adam.cuh>
#include <storylm/kernels/cuda/add.cuh>
#include <storylm/kernels/cuda/attention.cuh>
#include <storylm/kernels/cuda/attention_cached.cuh>
#include <storylm/kernels/cuda/clip.cuh>
#include <storylm/kernels/cuda/column_sum.cuh>
#include <storylm/kernels/cuda/cross_entropy.cuh>
#include <storylm/kernels/cuda/embedding.cuh>
#include <storylm/kernels/cuda/gather_rows.cuh>
#include <storylm/kernels/cuda/grad_scale.cuh>
#include <storylm/kernels/cuda/layer_norm.cuh>
#include <storylm/kernels/cuda/linear_activation.cuh>
#include <storylm/kernels/cuda/linear_gradient.cuh>
#include <storylm/kernels/cuda/matmul.cuh>
#include <storylm/kernels/cuda/matmul_rows.cuh>
#include <storylm/kernels/cuda/peak_flops.cuh>
#include <storylm/kernels/cuda/rms_norm.cuh>
#include <storylm/kernels/cuda/rope.cuh>
#include <storylm/kernels/cuda/sample.cuh>
#include <storylm/kernels/cuda/scale_to_mean.cuh>
#include <storylm/kernels/cuda/sgd.cuh>
#include <storylm/kernels/cuda/sum.cuh>
#include <storylm/kernels/cuda/swiglu.cuh>

namespace storylm {

template struct kernel<op::activation, Cuda, bf16>;
template struct kernel<op::activation, Cuda, half>;
template struct kernel<op::activation, Cuda, float>;

template struct kernel<op::adam, Cuda, bf16>;
template struct kernel<op::adam, Cuda, half>;
template struct kernel<op::adam, Cuda, float>;

template struct kernel<op::add, Cuda, bf16>;
template struct kernel<op::add, Cuda, half>;
template struct kernel<op::add, Cuda, float>;

template struct kernel<op::attention, Cuda, bf16>;
template struct kernel<op::attention, Cuda, half>;
template struct kernel<op::attention, Cuda, float>;

template struct kernel<op::attention_cached, Cuda, bf16, bf16>;
template struct kernel<op::attention_cached, Cuda, half, half>;
template struct kernel<op::attention_cached, Cuda, float, float>;
template struct kernel<op::attention_cached, Cuda, float, bf16>;
template struct kernel<op::attention_cached, Cuda, float, half>;

template struct kernel<op::clip, Cuda, float>;

template struct kernel<op::column_sum, Cuda, bf16, float>;
template struct kernel<op::column_sum, Cuda, half, float>;
template struct kernel<op::column_sum, Cuda, float, float>;

template struct kernel<op::cross_entropy, Cuda, bf16>;
template struct kernel<op::cross_entropy, Cuda, half>;
template struct kernel<op::cross_entropy, Cuda, float>;

template struct kernel<op::embedding, Cuda, bf16>;
template struct kernel<op::embedding, Cuda, half>;
template struct kernel<op::embedding, Cuda, float>;

template struct kernel<op::gather_rows, Cuda, bf16>;
template struct kernel<op::gather_rows, Cuda, half>;
template struct kernel<op::gather_rows, Cuda, float>;

template struct kernel<op::grad_scale, Cuda, half>;

template struct kernel<op::layer_norm, Cuda, bf16>;
template struct kernel<op::layer_norm, Cuda, half>;
template struct kernel<op::layer_norm, Cuda, float>;

template struct kernel<op::linear_activation, Cuda, bf16>;
template struct kernel<op::linear_activation, Cuda, half>;
template struct kernel<op::linear_activation, Cuda, float>;

template struct kernel<op::linear_gradient, Cuda, bf16, float>;
template struct kernel<op::linear_gradient, Cuda, half, float>;
template struct kernel<op::linear_gradient, Cuda, float, float>;

template struct kernel<op::matmul, Cuda, bf16, bf16, bf16>;
template struct kernel<op::matmul, Cuda, bf16, bf16, float>;
template struct kernel<op::matmul, Cuda, half, half, half>;
template struct kernel<op::matmul, Cuda, half, half, float>;
template struct kernel<op::matmul, Cuda, float, float, float>;

template struct kernel<op::matmul_rows, Cuda, bf16, bf16, bf16>;
template struct kernel<op::matmul_rows, Cuda, half, half, half>;
template struct kernel<op::matmul_rows, Cuda, float, float, float>;

template struct kernel<op::peak_flops, Cuda, bf16>;
template struct kernel<op::peak_flops, Cuda, half>;
template struct kernel<op::peak_flops, Cuda, float>;

template struct kernel<op::rms_norm, Cuda, bf16>;
template struct kernel<op::rms_norm, Cuda, half>;
template struct kernel<op::rms_norm, Cuda, float>;

template struct kernel<op::rope, Cuda, bf16>;
template struct kernel<op::rope, Cuda, half>;
template struct kernel<op::rope, Cuda, float>;

template struct kernel<op::sample, Cuda, bf16>;
template struct kernel<op::sample, Cuda, half>;
template struct kernel<op::sample, Cuda, float>;

template struct kernel<op::scale_to_mean, Cuda, bf16, bf16>;
template struct kernel<op::scale_to_mean, Cuda, bf16, half>;
template struct kernel<op::scale_to_mean, Cuda, bf16, float>;
template struct kernel<op::scale_to_mean, Cuda, half, bf16>;
template struct kernel<op::scale_to_mean, Cuda, half, half>;
template struct kernel<op::scale_to_mean, Cuda, half, float>;
template struct kernel<op::scale_to_mean, Cuda, float, bf16>;
template struct kernel<op::scale_to_mean, Cuda, float, half>;
template struct kernel<op::scale_to_mean, Cuda, float, float>;

template struct kernel<op::sgd, Cuda, bf16>;
template struct kernel<op::sgd, Cuda, half>;
template struct kernel<op::sgd, Cuda, float>;

template struct kernel<op::sum, Cuda, bf16>;
template struct kernel<op::sum, Cuda, half>;
template struct kernel<op::sum, Cuda, float>;

template struct kernel<op::swiglu, Cuda, bf16>;
template struct kernel<op::swiglu, Cuda, half>;
template struct kernel<op::swiglu, Cuda, float>;

}  // namespace storylm
