// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sgd on the CPU: stochastic gradient descent with the arithmetic of PyTorch's.

template <Real T>
struct kernel<op::sgd, T> {
  /// One step over every segment of the arena; momentum (size), or null for none. The first step sets it to the
  /// gradient. The gaps between segments are not touched.
  static void run(const Cpu& device, ArenaView<T> arena, T* momentum, std::int64_t* t, const SgdConstants& constants,
                  const StepState* state) {
    if (state->skip != 0) return;
    const bool first = *t == 0;
    ++*t;
    const auto clip = static_cast<T>(state->clip);
    const auto minus_lr = static_cast<T>(-state->lr);
    const auto kept = static_cast<T>(constants.momentum);
    const auto taken = static_cast<T>(1.0 - constants.dampening);
    const bool nesterov = constants.nesterov;
    for (index_t s = 0; s < arena.segment_count; ++s) {
      const ParameterSegment& segment = arena.segments[s];
      const auto decay = static_cast<T>(segment.decay ? constants.weight_decay : 0.0);
      parallel_blocks(device, segment.size, flat_grain, [&](index_t begin, index_t end) {
        const index_t n = end - begin;
        T* const values = arena.values + segment.offset + begin;
        const T* const gradients = arena.gradients + segment.offset + begin;
        const auto gradient = [=](index_t i) { return gradients[i] * clip + decay * values[i]; };
        if (momentum == nullptr) {
          lane_map(n, values, [=](index_t i) { return values[i] + minus_lr * gradient(i); });
          return;
        }
        T* const velocity = momentum + segment.offset + begin;
        if (first) {
          lane_map(n, velocity, gradient);
        } else {
          lane_map(n, velocity, [=](index_t i) { return velocity[i] * kept + taken * gradient(i); });
        }
        if (nesterov) {
          lane_map(n, values, [=](index_t i) { return values[i] + minus_lr * (gradient(i) + kept * velocity[i]); });
        } else {
          lane_map(n, values, [=](index_t i) { return values[i] + minus_lr * velocity[i]; });
        }
      });
    }
  }
};
