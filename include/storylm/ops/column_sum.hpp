// SPDX-License-Identifier: MIT
/// @file
/// @brief Sums over rows: the gradient of a bias.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::ops {

/// dsum[c] += sum over r of x[r, c]; x (rows, cols). In an order that depends on the shape only.
/// @throws ShapeError when the stride is below the columns, ArgumentError when there is something to sum and dsum is
/// null
template <Device D, class TS, class T>
void column_sum(const D& device, TS* dsum, MatrixView<T> x) {
  using X = std::remove_const_t<T>;
  static_assert(Supports<D, op::column_sum, X, TS>,
                "storylm: op::column_sum has no kernel for these dtypes on this device");
  expects<ShapeError>(x.stride >= x.cols, "column_sum", "the stride ", x.stride,
                      " of x is below its columns: ", Shape{x.rows, x.cols});
  expects<ArgumentError>(dsum != nullptr || x.rows == 0 || x.cols == 0, "column_sum", "dsum is null, x is ",
                         Shape{x.rows, x.cols});
  kernel<op::column_sum, D, X, TS>::run(device, dsum, x);
}

}  // namespace storylm::ops
