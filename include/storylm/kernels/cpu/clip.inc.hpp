// SPDX-License-Identifier: MIT
/// @file
/// @brief op::clip on the CPU: the global norm of the gradients and the factor that bounds it.

/// T: the dtype of the gradients.
template <Real T>
struct kernel<op::clip, T> {
  /// Writes state->grad_norm, clip and skip, and touches no gradient; gradients (n).
  static void run(const Cpu& device, const T* gradients, index_t n, double max_norm, StepState* state) {
    // In double: the square of a large float is no float, and its norm may be one.
    const double squares = ordered_sum<double>(device, n, flat_grain, [&](index_t begin, index_t end) {
      return sum_of_vectors<double>(end - begin, [from = gradients + begin](index_t i, auto which) {
        const Vector<double> g = load_as<double>(from + i, which);
        return g * g;
      });
    });
    const double norm = std::sqrt(squares) / state->loss_scale;
    const double factor = max_norm > 0.0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
    state->grad_norm = norm;
    state->clip = factor / state->loss_scale;
    state->skip = std::isfinite(norm) && std::isfinite(state->loss_sum) ? 0U : 1U;
  }
};
