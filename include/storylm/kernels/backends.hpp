// SPDX-License-Identifier: MIT
/// @file
/// @brief The one place that decides which backends a translation unit sees.
///
/// The CPU's kernels are left out where nvcc compiles, which cannot read them: a .cu sees Cuda alone. The bodies of
/// CUDA's kernels are in the .cuh files, which nvcc compiles apart (cmake/cuda_kernels.cmake).
#pragma once

// IWYU pragma: begin_exports
#if !defined(__CUDACC__)
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/cpu/gather_rows.hpp>
#include <storylm/kernels/cpu/grad_scale.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/cpu/sample.hpp>
#endif

#if defined(STORYLM_WITH_CUDA)  // the target storylm::cuda is linked
#include <storylm/kernels/cuda/activation.hpp>
#include <storylm/kernels/cuda/adam.hpp>
#include <storylm/kernels/cuda/add.hpp>
#include <storylm/kernels/cuda/attention.hpp>
#include <storylm/kernels/cuda/attention_cached.hpp>
#include <storylm/kernels/cuda/clip.hpp>
#include <storylm/kernels/cuda/column_sum.hpp>
#include <storylm/kernels/cuda/cross_entropy.hpp>
#include <storylm/kernels/cuda/embedding.hpp>
#include <storylm/kernels/cuda/gather_rows.hpp>
#include <storylm/kernels/cuda/grad_scale.hpp>
#include <storylm/kernels/cuda/layer_norm.hpp>
#include <storylm/kernels/cuda/linear_activation.hpp>
#include <storylm/kernels/cuda/linear_gradient.hpp>
#include <storylm/kernels/cuda/matmul.hpp>
#include <storylm/kernels/cuda/matmul_rows.hpp>
#include <storylm/kernels/cuda/peak_flops.hpp>
#include <storylm/kernels/cuda/rms_norm.hpp>
#include <storylm/kernels/cuda/rope.hpp>
#include <storylm/kernels/cuda/sample.hpp>
#include <storylm/kernels/cuda/scale_to_mean.hpp>
#include <storylm/kernels/cuda/sgd.hpp>
#include <storylm/kernels/cuda/sum.hpp>
#include <storylm/kernels/cuda/swiglu.hpp>
#endif
// IWYU pragma: end_exports
