// SPDX-License-Identifier: MIT
/// @file
/// @brief op::add on the CPU.
#pragma once

#include <storylm/kernels/cpu/lanes.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <cpu::Real T>
struct kernel<op::add, Cpu, T> {
  /// y += x, both (rows, cols).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x) {
    cpu::parallel_blocks(device, y.rows, cpu::row_grain(y.cols), [=](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        T* const to = y.row(r);
        const T* const from = x.row(r);
        cpu::lane_map(y.cols, to, [=](index_t c) { return to[c] + from[c]; });
      }
    });
  }
};

}  // namespace storylm
