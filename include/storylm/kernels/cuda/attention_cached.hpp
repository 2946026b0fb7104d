// SPDX-License-Identifier: MIT
/// @file
/// @brief op::attention_cached on CUDA.
#pragma once

#include <concepts>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

/// Heads of up to 256; a cache of the rows' own dtype, or a narrower one beside float.
template <cuda::Element T, cuda::Element TKV>
requires(std::same_as<T, TKV> || std::same_as<T, float>) struct kernel<op::attention_cached, Cuda, T, TKV> {
  /// @throws ShapeError when a head is wider than 256
  static void run(const Cuda& device, MatrixView<T> y, MatrixView<const T> qkv, const KvView<TKV>& kv,
                  const AttentionSpec& spec, const PackedView& batch);
};

}  // namespace storylm
