// SPDX-License-Identifier: MIT
/// @file
/// @brief Gradient clipping by the norm over all parameters. PyTorch equivalent: torch.nn.utils.clip_grad_norm_.
#pragma once

#include <storylm/core/step_state.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/optimizer.hpp>

namespace storylm::optim {

/// Measures the L2 norm of all gradients and has the optimizer's next step scale them to at most `max_norm`; 0 measures
/// only. No gradient is touched: the factor goes into the StepState. Gradients or a loss that are not finite make the
/// step a skipped one. Pascanu et al., ICML 2013.
/// @throws ArgumentError on a negative max_norm, or when the model was made without gradients
template <FloatDtype T, Device D, StepHandle Step>
void clip_grad_norm(nn::ParameterStore<T, D>& store, double max_norm, const Step& step) {
  expects<ArgumentError>(max_norm >= 0.0, "clip_grad_norm", "max_norm must not be negative: ", max_norm);
  expects<ArgumentError>(store.has_gradients(), "clip_grad_norm", "the model was made without gradients");
  const auto arena = store.arena();
  ops::clip(store.device(), std::span<const accumulator_t<T>>(arena.gradients, static_cast<std::size_t>(arena.size)),
            max_norm, step.state());
}

}  // namespace storylm::optim
