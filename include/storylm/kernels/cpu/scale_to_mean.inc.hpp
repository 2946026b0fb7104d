// SPDX-License-Identifier: MIT
/// @file
/// @brief op::scale_to_mean on the CPU.

/// Dtypes that are computed in the same type.
template <FloatDtype TX, FloatDtype TY>
requires std::same_as<accumulator_t<TX>, accumulator_t<TY>>
struct kernel<op::scale_to_mean, TX, TY> {
  using A = accumulator_t<TX>;

  /// y (+)= x * inverse_targets * loss_scale, both (n).
  static void run(const Cpu& device, TY* y, const TX* x, index_t n, const StepState* state, bool accumulate) {
    const Vector<A> factor = broadcast(static_cast<A>(state->inverse_targets * state->loss_scale));
    parallel_blocks(device, n, flat_grain, [=](index_t begin, index_t end) {
      TY* const to = y + begin;
      const TX* const from = x + begin;
      if (accumulate) {
        for_each_vector<A>(end - begin, [&](index_t i, auto which) {
          const Vector<A> sum = multiply_add(load_as<A>(from + i, which), factor, load_as<A>(to + i, which));
          store_as<A>(to + i, sum, which);
        });
      } else {
        for_each_vector<A>(end - begin, [&](index_t i, auto which) {
          store_as<A>(to + i, Vector<A>(load_as<A>(from + i, which) * factor), which);
        });
      }
    });
  }
};
