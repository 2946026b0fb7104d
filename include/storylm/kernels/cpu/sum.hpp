// SPDX-License-Identifier: MIT
/// @file
/// @brief op::sum on the CPU.
#pragma once

#include <storylm/kernels/cpu/lanes.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cpu::Real T>
struct kernel<op::sum, Cpu, T> {
  /// *total += sum of values, (n).
  static void run(const Cpu& device, double* total, const T* values, index_t n) {
    *total += cpu::ordered_sum<double>(device, n, cpu::flat_grain, [&](index_t begin, index_t end) {
      return cpu::lane_sum<double>(end - begin, [v = values + begin](index_t i) { return v[i]; });
    });
  }
};

}  // namespace storylm
