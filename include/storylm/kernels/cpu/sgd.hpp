// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sgd on the CPU: stochastic gradient descent with the arithmetic of PyTorch's.
#pragma once

#include <cstdint>

#include <storylm/kernels/cpu/lanes.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cpu::Real T>
struct kernel<op::sgd, Cpu, T> {
  /// One step over every segment of the arena; momentum (size), or null for none. The first step sets it to the
  /// gradient. The gaps between segments are not touched.
  static void run(const Cpu& device, ArenaView<T> arena, T* momentum, std::int64_t* t, const SgdConstants& constants,
                  const StepState* state) {
    if (state->skip != 0) return;
    const bool first = *t == 0;
    ++*t;
    const auto clip = static_cast<T>(state->clip);
    const auto minus_lr = static_cast<T>(-state->lr);
    const auto kept = static_cast<T>(first ? 0.0 : constants.momentum);
    const auto taken = static_cast<T>(first ? 1.0 : 1.0 - constants.dampening);
    const auto ahead = static_cast<T>(constants.momentum);
    const bool nesterov = constants.nesterov;
    for (index_t s = 0; s < arena.segment_count; ++s) {
      const ParameterSegment& segment = arena.segments[s];
      const auto decay = static_cast<T>(segment.decay ? constants.weight_decay : 0.0);
      cpu::parallel_blocks(device, segment.size, cpu::flat_grain, [&](index_t begin, index_t end) {
        const index_t at = segment.offset + begin;
        T* __restrict const values = arena.values + at;
        const T* __restrict const gradients = arena.gradients + at;
        if (momentum == nullptr) {
          for (index_t i = 0; i < end - begin; ++i) {
            values[i] += minus_lr * (gradients[i] * clip + decay * values[i]);
          }
          return;
        }
        T* __restrict const velocity = momentum + at;
        for (index_t i = 0; i < end - begin; ++i) {
          const T g = gradients[i] * clip + decay * values[i];
          const T before = first ? T{0} : velocity[i] * kept;  // the memory may hold anything before the first step
          const T after = before + taken * g;
          velocity[i] = after;
          values[i] += minus_lr * (nesterov ? g + ahead * after : after);
        }
      });
    }
  }
};

}  // namespace storylm
