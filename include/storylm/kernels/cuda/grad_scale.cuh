// SPDX-License-Identifier: MIT
/// @file
/// @brief op::grad_scale on CUDA: one thread each.
#pragma once

#include <limits>

#include <storylm/kernels/cuda/grad_scale.hpp>
#include <storylm/kernels/cuda/primitives.cuh>

namespace storylm {
namespace cuda {

template <std::same_as<half> T>
__global__ void begin_scaled_step_kernel(const float* scale, StepState* state) {
  state->loss_scale = static_cast<double>(*scale);
  state->skip = 1;
}

template <std::same_as<half> T>
__global__ void update_scale_kernel(float* scale, std::int32_t* good_steps, GradScaleConstants constants,
                                    const StepState* state) {
  const auto now = static_cast<double>(*scale);
  if (state->skip != 0) {
    *scale = static_cast<float>(now * constants.backoff_factor);
    *good_steps = 0;
  } else if (++*good_steps == constants.growth_interval) {
    const auto grown = static_cast<float>(now * constants.growth_factor);
    if (grown <= std::numeric_limits<float>::max()) *scale = grown;
    *good_steps = 0;
  }
}

}  // namespace cuda

template <std::same_as<half> T>
void kernel<op::grad_scale, Cuda, T>::begin(const Cuda& device, const float* scale, StepState* state) {
  cuda::launch(device, cuda::begin_scaled_step_kernel<T>, dim3(1), 1, 0, scale, state);
}

template <std::same_as<half> T>
void kernel<op::grad_scale, Cuda, T>::update(const Cuda& device, float* scale, std::int32_t* good_steps,
                                             const GradScaleConstants& constants, const StepState* state) {
  cuda::launch(device, cuda::update_scale_kernel<T>, dim3(1), 1, 0, scale, good_steps, constants, state);
}

}  // namespace storylm
