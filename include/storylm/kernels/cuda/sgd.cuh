// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sgd on CUDA: one thread finds the factors of the step, one launch walks the arena.
#pragma once

#include <storylm/kernels/cuda/arena_slots.cuh>
#include <storylm/kernels/cuda/sgd.hpp>

namespace storylm {
namespace cuda {

/// What a step multiplies by, in device memory.
struct SgdFactors {
  float clip;           ///< of the gradient
  float minus_lr;       ///< of the velocity
  std::uint32_t first;  ///< the velocity becomes the gradient
  std::uint32_t skip;   ///< nothing changes
};

/// The constants of an SgdConstants, rounded once.
struct SgdRates {
  float kept;     ///< of the velocity
  float taken;    ///< of the gradient into the velocity
  float decay;    ///< of a weight that decays, in the gradient
  bool nesterov;  ///< looks one step ahead
};

/// One thread: the factors, and t.
template <Element T>
__global__ void sgd_factors_kernel(SgdFactors* factors, std::int64_t* t, const StepState* state) {
  factors->skip = state->skip;
  if (state->skip != 0) return;
  factors->first = *t == 0 ? 1U : 0U;
  ++*t;
  factors->clip = static_cast<float>(state->clip);
  factors->minus_lr = static_cast<float>(-state->lr);
}

/// The arithmetic of PyTorch's single-tensor implementation; momentum may be null.
template <Element T>
__global__ void __launch_bounds__(slot_threads)
    sgd_kernel(ArenaArguments<T> arena, float* momentum, SgdRates rates, const SgdFactors* factors) {
  const SgdFactors f = *factors;
  if (f.skip != 0) return;
  for_each_group(arena, [&](index_t at, int count, bool aligned, bool decays) {
    const float decay = decays ? rates.decay : 0.0F;
    float w[8];
    float g[8];
    load8(static_cast<const float*>(arena.values + at), count, aligned, w);
    load8(arena.gradients + at, count, aligned, g);
#pragma unroll
    for (int k = 0; k < 8; ++k) g[k] = g[k] * f.clip + decay * w[k];
    if (momentum != nullptr) {
      float b[8] = {};
      if (f.first == 0) load8(static_cast<const float*>(momentum + at), count, aligned, b);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        b[k] = f.first != 0 ? g[k] : b[k] * rates.kept + rates.taken * g[k];
        g[k] = rates.nesterov ? g[k] + rates.kept * b[k] : b[k];
      }
      store8(momentum + at, count, aligned, b);
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) w[k] += f.minus_lr * g[k];
    store8(arena.values + at, count, aligned, w);
    if constexpr (!std::is_same_v<T, float>) store8(arena.copies + at, count, aligned, w);
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::sgd, Cuda, T>::run(const Cuda& device, ArenaView<T> arena, float* momentum, std::int64_t* t,
                                   const SgdConstants& constants, const StepState* state) {
  auto scratch = device.scratch();
  auto* const factors = scratch.template take<cuda::SgdFactors>(1);
  cuda::launch(device, cuda::sgd_factors_kernel<T>, dim3(1), 1, 0, factors, t, state);
  const cuda::SgdRates rates{.kept = static_cast<float>(constants.momentum),
                             .taken = static_cast<float>(1.0 - constants.dampening),
                             .decay = static_cast<float>(constants.weight_decay),
                             .nesterov = constants.nesterov};
  const cuda::ArenaArguments<T> arguments(arena, momentum);
  cuda::launch(device, cuda::sgd_kernel<T>, arguments.grid(), cuda::slot_threads, 0, arguments, momentum, rates,
               static_cast<const cuda::SgdFactors*>(factors));
}

}  // namespace storylm
