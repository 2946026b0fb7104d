// SPDX-License-Identifier: MIT
/// @file
/// @brief Every CUDA kernel for every element type: the one list of them.
///
/// CMake reads this file and makes one source of each op (cmake/cuda_kernels.cmake). Without CMake: one .cu of one's
/// own that includes this header and nothing else, compiled by nvcc and linked to the program.
/// Each line is one kernel; kernel<op::NAME, ...> comes from NAME.cuh where its line names no other file.
#pragma once

#include <storylm/kernels/cuda/activation.cuh>
#include <storylm/kernels/cuda/add.cuh>
#include <storylm/kernels/cuda/column_sum.cuh>
#include <storylm/kernels/cuda/gather_rows.cuh>
#include <storylm/kernels/cuda/layer_norm.cuh>
#include <storylm/kernels/cuda/rms_norm.cuh>
#include <storylm/kernels/cuda/rope.cuh>
#include <storylm/kernels/cuda/scale_to_mean.cuh>
#include <storylm/kernels/cuda/sum.cuh>
#include <storylm/kernels/cuda/swiglu.cuh>

namespace storylm {

template struct kernel<op::activation, Cuda, bf16>;
template struct kernel<op::activation, Cuda, half>;
template struct kernel<op::activation, Cuda, float>;

template struct kernel<op::add, Cuda, bf16>;
template struct kernel<op::add, Cuda, half>;
template struct kernel<op::add, Cuda, float>;

template struct kernel<op::column_sum, Cuda, bf16, float>;
template struct kernel<op::column_sum, Cuda, half, float>;
template struct kernel<op::column_sum, Cuda, float, float>;

template struct kernel<op::gather_rows, Cuda, bf16>;
template struct kernel<op::gather_rows, Cuda, half>;
template struct kernel<op::gather_rows, Cuda, float>;

template struct kernel<op::layer_norm, Cuda, bf16>;
template struct kernel<op::layer_norm, Cuda, half>;
template struct kernel<op::layer_norm, Cuda, float>;

template struct kernel<op::rms_norm, Cuda, bf16>;
template struct kernel<op::rms_norm, Cuda, half>;
template struct kernel<op::rms_norm, Cuda, float>;

template struct kernel<op::rope, Cuda, bf16>;
template struct kernel<op::rope, Cuda, half>;
template struct kernel<op::rope, Cuda, float>;

template struct kernel<op::scale_to_mean, Cuda, bf16, bf16>;
template struct kernel<op::scale_to_mean, Cuda, bf16, half>;
template struct kernel<op::scale_to_mean, Cuda, bf16, float>;
template struct kernel<op::scale_to_mean, Cuda, half, bf16>;
template struct kernel<op::scale_to_mean, Cuda, half, half>;
template struct kernel<op::scale_to_mean, Cuda, half, float>;
template struct kernel<op::scale_to_mean, Cuda, float, bf16>;
template struct kernel<op::scale_to_mean, Cuda, float, half>;
template struct kernel<op::scale_to_mean, Cuda, float, float>;

template struct kernel<op::sum, Cuda, bf16>;
template struct kernel<op::sum, Cuda, half>;
template struct kernel<op::sum, Cuda, float>;

template struct kernel<op::swiglu, Cuda, bf16>;
template struct kernel<op::swiglu, Cuda, half>;
template struct kernel<op::swiglu, Cuda, float>;

}  // namespace storylm
