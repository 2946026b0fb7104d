// SPDX-License-Identifier: MIT
/// @file
/// @brief Everything kernels read that changes from step to step; it lies in device memory.
#pragma once

#include <concepts>
#include <cstdint>

namespace storylm {

/// Written once a step by one copy. No kernel argument depends on the step, so a captured CUDA graph replays.
/// Doubles, so that a run in double is one: kernels convert.
struct StepState {
  std::uint64_t step = 0;        ///< counts from 0; part of every random key
  double lr = 0.0;               ///< learning rate
  double inverse_targets = 1.0;  ///< 1 / target tokens of the whole step, over micro-batches and ranks
  double loss_scale = 1.0;       ///< factor on the loss's gradient (half precision only), taken out before clipping
  double clip = 1.0;             ///< factor the optimizer multiplies gradients by
  double grad_norm = 0.0;        ///< L2 norm of the unscaled gradients, written by clipping
  double loss_sum = 0.0;         ///< sum of the losses of all target tokens so far in this step
  std::uint32_t skip = 0;        ///< 1: loss or gradients are not finite, the step changes nothing
};

/// Anything that hands out a device and the StepState on it: train::Step, or a user's own.
template <class S>
concept StepHandle = requires(const S& step) {
  step.device();
  { step.state() } -> std::convertible_to<StepState*>;
};

}  // namespace storylm
