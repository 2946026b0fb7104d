// SPDX-License-Identifier: MIT
/// @file
/// @brief op::scale_to_mean on the CPU.

template <Real TX, Real TY>
struct kernel<op::scale_to_mean, TX, TY> {
  /// y (+)= x * inverse_targets * loss_scale, both (n).
  static void run(const Cpu& device, TY* y, const TX* x, index_t n, const StepState* state, bool accumulate) {
    const auto factor = static_cast<TX>(state->inverse_targets * state->loss_scale);
    parallel_blocks(device, n, flat_grain, [=](index_t begin, index_t end) {
      TY* const to = y + begin;
      const TX* const from = x + begin;
      if (accumulate) {
        lane_map(end - begin, to, [=](index_t i) { return to[i] + static_cast<TY>(from[i] * factor); });
      } else {
        lane_map(end - begin, to, [=](index_t i) { return static_cast<TY>(from[i] * factor); });
      }
    });
  }
};
