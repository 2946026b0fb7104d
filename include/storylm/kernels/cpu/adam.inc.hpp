// SPDX-License-Identifier: MIT
/// @file
/// @brief op::adam on the CPU: Adam and AdamW with the arithmetic of PyTorch's single-tensor implementation.

template <Real T>
struct kernel<op::adam, T> {
  /// One step over every segment of the arena; m, v (size). The gaps between segments are not touched.
  static void run(const Cpu& device, ArenaView<T> arena, T* m, T* v, std::int64_t* t, const AdamConstants& constants,
                  const StepState* state) {
    if (state->skip != 0) return;
    ++*t;
    const auto steps = static_cast<double>(*t);
    const double correction1 = 1.0 - std::pow(constants.beta1, steps);
    const double correction2 = 1.0 - std::pow(constants.beta2, steps);
    Factors factors{.clip = static_cast<T>(state->clip),
                    .beta1 = static_cast<T>(constants.beta1),
                    .rest1 = static_cast<T>(1.0 - constants.beta1),
                    .beta2 = static_cast<T>(constants.beta2),
                    .rest2 = static_cast<T>(1.0 - constants.beta2),
                    .root_correction2 = static_cast<T>(std::sqrt(correction2)),
                    .eps = static_cast<T>(constants.eps),
                    .minus_step = static_cast<T>(-state->lr / correction1)};
    for (index_t s = 0; s < arena.segment_count; ++s) {
      const ParameterSegment& segment = arena.segments[s];
      const double decay = segment.decay ? constants.weight_decay : 0.0;
      factors.kept = static_cast<T>(constants.decoupled ? 1.0 - state->lr * decay : 1.0);
      factors.added = static_cast<T>(constants.decoupled ? 0.0 : decay);
      parallel_blocks(device, segment.size, flat_grain, [&](index_t begin, index_t end) {
        const index_t at = segment.offset + begin;
        update(end - begin, arena.values + at, arena.gradients + at, m + at, v + at, factors);
      });
    }
  }

 private:
  struct Factors {
    T clip;              // of the gradient
    T kept = T{1};       // of the weight: decoupled decay
    T added = T{0};      // of the weight in the gradient: the other decay
    T beta1, rest1;      // rest = 1 - beta, rounded from double
    T beta2, rest2;      //
    T root_correction2;  // sqrt(1 - beta2^t)
    T eps;               //
    T minus_step;        // -lr / (1 - beta1^t)
  };

  static void update(index_t n, T* values, const T* gradients, T* m, T* v, const Factors& factors) {
    const Factors f = factors;  // a copy of its own: the compiler then knows that no store changes it
    const index_t whole = n / lanes * lanes;
    for (index_t i = 0; i < whole; i += lanes) update_lanes(values + i, gradients + i, m + i, v + i, f);
    if (whole == n) return;
    T rest[4][lanes] = {};  // the last elements, with zeros behind them
    const index_t count = n - whole;
    std::copy_n(values + whole, count, rest[0]);
    std::copy_n(gradients + whole, count, rest[1]);
    std::copy_n(m + whole, count, rest[2]);
    std::copy_n(v + whole, count, rest[3]);
    update_lanes(rest[0], rest[1], rest[2], rest[3], f);
    std::copy_n(rest[0], count, values + whole);
    std::copy_n(rest[2], count, m + whole);
    std::copy_n(rest[3], count, v + whole);
  }

  static void update_lanes(T* values, const T* gradients, T* m, T* v, const Factors& f) {
    using V = Vector<T>;
    const V weight = load(values) * f.kept;
    const V g = load(gradients) * f.clip + f.added * weight;
    const V before = load(m);
    // torch.lerp takes the form that is exact at the nearer end.
    const V mean = f.rest1 < T{0.5} ? before + f.rest1 * (g - before) : g - (g - before) * (T{1} - f.rest1);
    const V square = load(v) * f.beta2 + f.rest2 * g * g;
    V root = square;
    square_root<T>(root);
    store(m, mean);
    store(v, square);
    store(values, V(weight + f.minus_step * mean / (root / f.root_correction2 + f.eps)));
  }

  static constexpr index_t lanes = vector_lanes<T>;
};
