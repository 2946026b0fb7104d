// SPDX-License-Identifier: MIT
/// @file
/// @brief op::adam on CUDA: one thread finds the factors of the step, one launch walks the arena.
#pragma once

#include <cmath>

#include <storylm/kernels/cuda/adam.hpp>
#include <storylm/kernels/cuda/arena_slots.cuh>

namespace storylm {
namespace cuda {

/// What a step multiplies by, in device memory.
struct AdamFactors {
  float clip;              ///< of the gradient
  float kept;              ///< of a weight that decays: decoupled decay
  float added;             ///< of such a weight in the gradient: the other decay
  float root_correction2;  ///< sqrt(1 - beta2^t)
  float minus_step;        ///< -lr / (1 - beta1^t)
  std::uint32_t skip;      ///< nothing changes
};

/// The constants of an AdamConstants, rounded once.
struct AdamRates {
  float beta1, rest1;  ///< rest = 1 - beta, rounded from double
  float beta2, rest2;  ///< the same
  float eps;           ///< added to the root
};

/// One thread: the factors, and t.
template <Element T>
__global__ void adam_factors_kernel(AdamFactors* factors, std::int64_t* t, AdamConstants constants,
                                    const StepState* state) {
  factors->skip = state->skip;
  if (state->skip != 0) return;
  const auto steps = static_cast<double>(++*t);
  const double lr = state->lr;
  factors->clip = static_cast<float>(state->clip);
  factors->kept = static_cast<float>(constants.decoupled ? 1.0 - lr * constants.weight_decay : 1.0);
  factors->added = static_cast<float>(constants.decoupled ? 0.0 : constants.weight_decay);
  factors->root_correction2 = static_cast<float>(std::sqrt(1.0 - std::pow(constants.beta2, steps)));
  factors->minus_step = static_cast<float>(-lr / (1.0 - std::pow(constants.beta1, steps)));
}

/// The arithmetic of PyTorch's single-tensor implementation.
template <Element T>
__global__ void __launch_bounds__(slot_threads)
    adam_kernel(ArenaArguments<T> arena, float* first, float* second, AdamRates rates, const AdamFactors* factors) {
  const AdamFactors f = *factors;
  if (f.skip != 0) return;
  for_each_group(arena, [&](index_t at, int count, bool aligned, bool decay) {
    const float kept = decay ? f.kept : 1.0F;
    const float added = decay ? f.added : 0.0F;
    float w[8];
    float g[8];
    float m[8];
    float v[8];
    if (aligned) {
      load8(static_cast<const float*>(arena.values + at), w);
      load8(arena.gradients + at, g);
      load8(static_cast<const float*>(first + at), m);
      load8(static_cast<const float*>(second + at), v);
    } else {
      load8(static_cast<const float*>(arena.values + at), count, w);
      load8(arena.gradients + at, count, g);
      load8(static_cast<const float*>(first + at), count, m);
      load8(static_cast<const float*>(second + at), count, v);
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float weight = w[k] * kept;
      const float gradient = g[k] * f.clip + added * weight;
      // torch.lerp takes the form that is exact at the nearer end.
      m[k] = rates.rest1 < 0.5F ? m[k] + rates.rest1 * (gradient - m[k])
                                : gradient - (gradient - m[k]) * (1.0F - rates.rest1);
      v[k] = v[k] * rates.beta2 + rates.rest2 * gradient * gradient;
      w[k] = weight + f.minus_step * m[k] / (std::sqrt(v[k]) / f.root_correction2 + rates.eps);
    }
    store8(arena.values + at, count, aligned, w);
    store8(first + at, count, aligned, m);
    store8(second + at, count, aligned, v);
    if constexpr (!std::is_same_v<T, float>) store8(arena.copies + at, count, aligned, w);
  });
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::adam, Cuda, T>::run(const Cuda& device, ArenaView<T> arena, float* m, float* v, std::int64_t* t,
                                    const AdamConstants& constants, const StepState* state) {
  auto scratch = device.scratch();
  auto* const factors = scratch.template take<cuda::AdamFactors>(1);
  cuda::launch(device, cuda::adam_factors_kernel<T>, dim3(1), 1, 0, factors, t, constants, state);
  const cuda::AdamRates rates{.beta1 = static_cast<float>(constants.beta1),
                              .rest1 = static_cast<float>(1.0 - constants.beta1),
                              .beta2 = static_cast<float>(constants.beta2),
                              .rest2 = static_cast<float>(1.0 - constants.beta2),
                              .eps = static_cast<float>(constants.eps)};
  const cuda::ArenaArguments<T> arguments(arena, m, v);
  cuda::launch(device, cuda::adam_kernel<T>, arguments.grid(), cuda::slot_threads, 0, arguments, m, v, rates,
               static_cast<const cuda::AdamFactors*>(factors));
}

}  // namespace storylm
