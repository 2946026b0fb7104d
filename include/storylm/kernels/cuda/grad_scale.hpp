// SPDX-License-Identifier: MIT
/// @file
/// @brief op::grad_scale on CUDA.
#pragma once

#include <concepts>
#include <cstdint>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <std::same_as<half> T>
struct kernel<op::grad_scale, Cuda, T> {
  /// state->loss_scale = *scale; the step is a skipped one until op::clip has looked at its gradients.
  static void begin(const Cuda& device, const float* scale, StepState* state);
  /// The scale of the next step, by how this one went.
  static void update(const Cuda& device, float* scale, std::int32_t* good_steps, const GradScaleConstants& constants,
                     const StepState* state);
};

}  // namespace storylm
