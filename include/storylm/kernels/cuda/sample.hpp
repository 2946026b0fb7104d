// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sample on CUDA.
#pragma once

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/kernels/sampling.hpp>

namespace storylm {

template <cuda::Element T>
struct kernel<op::sample, Cuda, T> {
  /// out (rows) ids, or no_sample; logits (rows, vocab). With a history each token is also stored there.
  static void run(const Cuda& device, token_t* out, MatrixView<const T> logits, const SampleRequest& request);
  /// What follows a draw when the host does not look.
  static void advance(const Cuda& device, const StoryRows& stories, const token_t* out);
};

}  // namespace storylm
