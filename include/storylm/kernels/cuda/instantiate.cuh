// SPDX-License-Identifier: MIT
/// @file
/// @brief Every CUDA kernel for every element type: the one list of them.
///
/// CMake reads this file and makes one source of each op (cmake/cuda_kernels.cmake). Without CMake: one .cu of one's
/// own that includes this header and nothing else, compiled by nvcc and linked to the program.
/// kernel<op::NAME, ...> comes from NAME.cuh; each line is one kernel.
#pragma once

#include <storylm/kernels/cuda/add.cuh>

namespace storylm {

template struct kernel<op::add, Cuda, bf16>;
template struct kernel<op::add, Cuda, half>;
template struct kernel<op::add, Cuda, float>;

}  // namespace storylm
