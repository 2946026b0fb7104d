// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix product for training.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/overlap.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::ops {

/// C (m, n) = op(A) op(B) [+ C] [+ bias (n) on every row]; op(A) is (m, k), op(B) is (k, n), transposed as `flags` say.
/// Equal shapes and values give equal bits, whatever the number of threads. @throws ShapeError, ArgumentError when c
/// overlaps a or b
template <Device D, class TC, class TA, class TB>
void matmul(const D& device, MatrixView<TC> c, MatrixView<TA> a, MatrixView<TB> b, MatmulFlags flags = {},
            const std::type_identity_t<TC>* bias = nullptr) {
  using A = std::remove_const_t<TA>;
  using B = std::remove_const_t<TB>;
  static_assert(Supports<D, op::matmul, A, B, TC>, "storylm: op::matmul has no kernel for these dtypes on this device");
  const Shape op_a = flags.transpose_a ? Shape{a.cols, a.rows} : Shape{a.rows, a.cols};
  const Shape op_b = flags.transpose_b ? Shape{b.cols, b.rows} : Shape{b.rows, b.cols};
  expects<ShapeError>(op_a[1] == op_b[0], "matmul", "inner dimensions differ: op(a) is ", op_a, ", op(b) is ", op_b);
  expects<ShapeError>(c.rows == op_a[0] && c.cols == op_b[1], "matmul", "c is ", Shape{c.rows, c.cols},
                      ", op(a) op(b) is ", Shape{op_a[0], op_b[1]});
  expects<ShapeError>(a.stride >= a.cols && b.stride >= b.cols && c.stride >= c.cols, "matmul",
                      "a stride is below its matrix's columns: ", a.stride, " for a ", Shape{a.rows, a.cols}, ", ",
                      b.stride, " for b ", Shape{b.rows, b.cols}, ", ", c.stride, " for c ", Shape{c.rows, c.cols});
  expects<ArgumentError>(!overlap(c, a) && !overlap(c, b), "matmul", "c ", Shape{c.rows, c.cols}, " overlaps ",
                         overlap(c, a) ? "a " : "b ", overlap(c, a) ? Shape{a.rows, a.cols} : Shape{b.rows, b.cols});
  kernel<op::matmul, D, A, B, TC>::run(device, c, a, b, flags, bias);
}

}  // namespace storylm::ops
