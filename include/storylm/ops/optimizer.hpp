// SPDX-License-Identifier: MIT
/// @file
/// @brief One step of an optimizer over an arena, clipping by the global norm, the scale of the loss.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm::ops {

/// One Adam or AdamW step with the lr, clip and skip of `state`. With skip nothing changes, t included.
/// @param m, v moments (arena.size)
/// @param t number of steps taken so far, in the device's memory
/// @param state in the device's memory
/// @throws ShapeError when a moment's size is not the arena's
template <Device D, FloatDtype T>
void adam(const D& device, const ArenaView<T>& arena, std::span<accumulator_t<T>> m, std::span<accumulator_t<T>> v,
          std::int64_t* t, const AdamConstants& constants, const StepState* state) {
  static_assert(Supports<D, op::adam, T>, "storylm: op::adam has no kernel for this dtype on this device");
  const auto size = static_cast<std::size_t>(arena.size);
  expects<ShapeError>(m.size() == size, "adam", "m has ", m.size(), " elements, expected ", size);
  expects<ShapeError>(v.size() == size, "adam", "v has ", v.size(), " elements, expected ", size);
  kernel<op::adam, D, T>::run(device, arena, m.data(), v.data(), t, constants, state);
}

/// One step of stochastic gradient descent with the lr, clip and skip of `state`.
/// @param momentum (arena.size), or empty when constants.momentum is 0
/// @param t number of steps taken so far, in the device's memory; the first one sets momentum to the gradient
/// @throws ShapeError when momentum's size is not the arena's
template <Device D, FloatDtype T>
void sgd(const D& device, const ArenaView<T>& arena, std::span<accumulator_t<T>> momentum, std::int64_t* t,
         const SgdConstants& constants, const StepState* state) {
  static_assert(Supports<D, op::sgd, T>, "storylm: op::sgd has no kernel for this dtype on this device");
  const auto size = static_cast<std::size_t>(arena.size);
  const bool needed = constants.momentum != 0.0;
  expects<ShapeError>(momentum.size() == size || (!needed && momentum.empty()), "sgd", "momentum has ", momentum.size(),
                      " elements, expected ", size);
  kernel<op::sgd, D, T>::run(device, arena, needed ? momentum.data() : nullptr, t, constants, state);
}

/// Writes the norm of all gradients to state->grad_norm and the factor that bounds it by max_norm (<= 0: no bound) to
/// state->clip; sets state->skip unless the norm is finite. The gradients stay as they are. Equal to PyTorch's
/// clip_grad_norm_. Pascanu et al., arXiv:1211.5063.
/// @param gradients a whole arena, gaps (zeros) included
/// @param state in the device's memory
template <Device D, class T>
void clip(const D& device, std::span<T> gradients, double max_norm, StepState* state) {
  using Element = std::remove_const_t<T>;
  static_assert(Supports<D, op::clip, Element>, "storylm: op::clip has no kernel for this dtype on this device");
  kernel<op::clip, D, Element>::run(device, gradients.data(), static_cast<index_t>(gradients.size()), max_norm, state);
}

/// state->loss_scale becomes *scale; the step is a skipped one until clip() has looked at its gradients.
/// @tparam T the model's dtype
/// @param scale, state in the device's memory
template <FloatDtype T, Device D>
void begin_grad_scale(const D& device, const float* scale, StepState* state) {
  static_assert(Supports<D, op::grad_scale, T>, "storylm: op::grad_scale has no kernel for this dtype on this device");
  kernel<op::grad_scale, D, T>::begin(device, scale, state);
}

/// The scale shrinks after a skipped step, and grows after constants.growth_interval good ones in a row, as
/// torch.amp.GradScaler's does.
/// @tparam T the model's dtype
/// @param scale, good_steps, state in the device's memory
template <FloatDtype T, Device D>
void update_grad_scale(const D& device, float* scale, std::int32_t* good_steps, const GradScaleConstants& constants,
                       const StepState* state) {
  static_assert(Supports<D, op::grad_scale, T>, "storylm: op::grad_scale has no kernel for this dtype on this device");
  kernel<op::grad_scale, D, T>::update(device, scale, good_steps, constants, state);
}

}  // namespace storylm::ops
