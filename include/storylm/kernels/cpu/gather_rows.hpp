// SPDX-License-Identifier: MIT
/// @file
/// @brief op::gather_rows on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/cpu/pieces.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

template <FloatDtype T>
struct kernel<op::gather_rows, Cpu, T> {
  /// y[i] = x[rows[i]]; y (n, cols), x (any, cols), rows (n).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x, const std::int32_t* rows) {
    cpu::parallel_blocks(device, y.rows, cpu::row_grain(y.cols), [=](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) std::copy_n(x.row(rows[r]), y.cols, y.row(r));
    });
  }
};

}  // namespace storylm
