// SPDX-License-Identifier: MIT
/// @file
/// @brief op::grad_scale on the CPU: what torch.amp.GradScaler does between steps.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>

#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <std::same_as<half> T>
struct kernel<op::grad_scale, Cpu, T> {
  /// state->loss_scale = *scale; the step is a skipped one until op::clip has looked at its gradients.
  static void begin(const Cpu& /*device*/, const float* scale, StepState* state) {
    state->loss_scale = static_cast<double>(*scale);
    state->skip = 1;
  }

  /// The scale of the next step, by how this one went.
  static void update(const Cpu& /*device*/, float* scale, std::int32_t* good_steps, const GradScaleConstants& constants,
                     const StepState* state) {
    const auto now = static_cast<double>(*scale);
    if (state->skip != 0) {
      *scale = static_cast<float>(now * constants.backoff_factor);
      *good_steps = 0;
    } else if (++*good_steps == constants.growth_interval) {
      const auto grown = static_cast<float>(now * constants.growth_factor);
      if (std::isfinite(grown)) *scale = grown;
      *good_steps = 0;
    }
  }
};

}  // namespace storylm
