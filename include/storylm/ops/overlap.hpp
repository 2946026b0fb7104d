// SPDX-License-Identifier: MIT
/// @file
/// @brief Do two matrices share memory? For ops that may not work in place.
#pragma once

#include <functional>
#include <type_traits>

#include <storylm/core/dtype.hpp>
#include <storylm/tensor/view.hpp>

namespace storylm::ops {

/// True when an element of x lies in the memory of y. Column slices of one matrix do not overlap although their address
/// ranges do; for views of different strides or dtypes the ranges decide.
template <class T, class U>
[[nodiscard]] bool overlap(MatrixView<T> x, MatrixView<U> y) {
  if (x.rows == 0 || x.cols == 0 || y.rows == 0 || y.cols == 0) return false;
  const void* x_first = x.data;
  const void* y_first = y.data;
  const void* x_last = x.row(x.rows - 1) + x.cols - 1;
  const void* y_last = y.row(y.rows - 1) + y.cols - 1;
  const std::less<const void*> before;
  if (before(x_last, y_first) || before(y_last, x_first)) return false;
  if constexpr (std::is_same_v<std::remove_const_t<T>, std::remove_const_t<U>>) {
    if (x.stride == y.stride) {
      const index_t offset = ((x.data - y.data) % x.stride + x.stride) % x.stride;  // first column of x, seen from y
      return offset < y.cols || offset + x.cols > x.stride;
    }
  }
  return true;
}

}  // namespace storylm::ops
