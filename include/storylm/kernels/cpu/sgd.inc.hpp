// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sgd on the CPU: stochastic gradient descent with the arithmetic of PyTorch's.

template <FloatDtype T>
struct kernel<op::sgd, T> {
  using A = accumulator_t<T>;

  /// One step over every segment of the arena; momentum (size), or null for none. The first step sets it to the
  /// gradient. The gaps between segments are not touched.
  static void run(const Cpu& device, ArenaView<T> arena, A* momentum, std::int64_t* t, const SgdConstants& constants,
                  const StepState* state) {
    using V = Vector<A>;
    if (state->skip != 0) return;
    const bool first = *t == 0;
    ++*t;
    const auto clip = static_cast<A>(state->clip);
    const V minus_lr = broadcast(static_cast<A>(-state->lr));
    const V kept = broadcast(static_cast<A>(constants.momentum));
    const V taken = broadcast(static_cast<A>(1.0 - constants.dampening));
    for_each_piece(device, arena, [&](index_t begin, index_t end, bool decays) {
      const V decay = broadcast(static_cast<A>(decays ? constants.weight_decay : 0.0));
      const A* const weights = master_values(arena) + begin;
      const A* const gradients = arena.gradients + begin;
      for_each_vector<A>(end - begin, [&](index_t i, auto which) {
        const V weight = load_as<A>(weights + i, which);
        V step = multiply_add(decay, weight, V(load_as<A>(gradients + i, which) * clip));
        if (momentum != nullptr) {
          A* const velocities = momentum + begin;
          const V velocity = first ? step : multiply_add(load_as<A>(velocities + i, which), kept, V(taken * step));
          store_as<A>(velocities + i, velocity, which);
          step = constants.nesterov ? multiply_add(kept, velocity, step) : velocity;
        }
        store_values(arena, begin + i, multiply_add(minus_lr, step, weight), which);
      });
    });
  }
};
