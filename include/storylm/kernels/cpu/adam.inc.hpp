// SPDX-License-Identifier: MIT
/// @file
/// @brief op::adam on the CPU: Adam and AdamW with the arithmetic of PyTorch's single-tensor implementation, in one
/// pass over the arena.

template <FloatDtype T>
struct kernel<op::adam, T> {
  using A = accumulator_t<T>;

  /// One step over every segment of the arena; m, v (size). The gaps between segments are not touched.
  static void run(const Cpu& device, ArenaView<T> arena, A* m, A* v, std::int64_t* t, const AdamConstants& constants,
                  const StepState* state) {
    if (state->skip != 0) return;
    ++*t;
    const auto steps = static_cast<double>(*t);
    const double correction1 = 1.0 - std::pow(constants.beta1, steps);
    const double correction2 = 1.0 - std::pow(constants.beta2, steps);
    const Factors factors{.clip = static_cast<A>(state->clip),
                          .beta2 = static_cast<A>(constants.beta2),
                          .rest1 = static_cast<A>(1.0 - constants.beta1),
                          .rest2 = static_cast<A>(1.0 - constants.beta2),
                          .root_correction2 = static_cast<A>(std::sqrt(correction2)),
                          .eps = static_cast<A>(constants.eps),
                          .minus_step = static_cast<A>(-state->lr / correction1)};
    const double decay = constants.weight_decay;
    Factors decaying = factors;
    (constants.decoupled ? decaying.kept : decaying.added) =
        static_cast<A>(constants.decoupled ? 1.0 - state->lr * decay : decay);
    for_each_piece(device, arena, [&](index_t begin, index_t end, bool decays) {
      update(arena, begin, end, m, v, decays ? decaying : factors);
    });
  }

 private:
  struct Factors {
    A clip;              // of the gradient
    A kept = A{1};       // of the weight: decoupled decay
    A added = A{0};      // of the weight in the gradient: the other decay
    A beta2;             //
    A rest1, rest2;      // 1 - beta, rounded from double
    A root_correction2;  // sqrt(1 - beta2^t)
    A eps;               //
    A minus_step;        // -lr / (1 - beta1^t)
  };

  static void update(const ArenaView<T>& arena, index_t begin, index_t end, A* m, A* v, const Factors& factors) {
    using V = Vector<A>;
    const Factors f = factors;  // a copy of its own: the compiler then knows that no store changes it
    A* const weights = master_values(arena) + begin;
    const A* const gradients = arena.gradients + begin;
    A* const means = m + begin;
    A* const squares = v + begin;
    for_each_vector<A>(end - begin, [&](index_t i, auto which) {
      const V weight = load_as<A>(weights + i, which) * f.kept;
      const V clipped = load_as<A>(gradients + i, which) * f.clip;
      const V g = multiply_add(broadcast(f.added), weight, clipped);
      const V before = load_as<A>(means + i, which);
      // torch.lerp takes the form that is exact at the nearer end.
      const V mean = f.rest1 < A{0.5} ? multiply_add(broadcast(f.rest1), V(g - before), before)
                                      : multiply_add(broadcast(f.rest1 - A{1}), V(g - before), g);
      const V square = multiply_add(V(f.rest2 * g), g, V(load_as<A>(squares + i, which) * f.beta2));
      V root = square;
      square_root<A>(root);
      const V moved = weight + f.minus_step * mean / (root / f.root_correction2 + f.eps);
      store_as<A>(means + i, mean, which);
      store_as<A>(squares + i, square, which);
      store_values(arena, begin + i, moved, which);
    });
  }
};
