// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sum on the CPU.

template <FloatDtype T>
struct kernel<op::sum, T> {
  /// *total += sum of values, (n).
  static void run(const Cpu& device, double* total, const T* values, index_t n) {
    *total += ordered_sum<double>(device, n, flat_grain, [&](index_t begin, index_t end) {
      return sum_of_vectors<double>(
          end - begin, [from = values + begin](index_t i, auto which) { return load_as<double>(from + i, which); });
    });
  }
};
