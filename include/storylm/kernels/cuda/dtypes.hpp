// SPDX-License-Identifier: MIT
/// @file
/// @brief The element types that CUDA kernels are made for.
#pragma once

#include <concepts>

#include <storylm/core/dtype.hpp>

namespace storylm::cuda {

/// Kernels exist for these, and cmake/cuda_kernels.cmake instantiates no others.
template <class T>
concept Element = std::same_as<T, bf16> || std::same_as<T, half> || std::same_as<T, float>;

}  // namespace storylm::cuda
