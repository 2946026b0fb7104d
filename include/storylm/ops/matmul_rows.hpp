// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix product whose rows are independent of each other, for generation and scoring.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/overlap.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::ops {

/// C (m, n) = A (m, k) B (n, k)^T [+ bias (n) on every row]. The bits of a row of C depend on that row of A and on B
/// only. @throws ShapeError, ArgumentError when c overlaps a or b
template <Device D, class TC, class TA, class TB>
void matmul_rows(const D& device, MatrixView<TC> c, MatrixView<TA> a, MatrixView<TB> b,
                 const std::type_identity_t<TC>* bias = nullptr) {
  using A = std::remove_const_t<TA>;
  using B = std::remove_const_t<TB>;
  static_assert(Supports<D, op::matmul_rows, A, B, TC>,
                "storylm: op::matmul_rows has no kernel for these dtypes on this device");
  const Shape shape_a{a.rows, a.cols};
  const Shape shape_b{b.rows, b.cols};
  const Shape shape_c{c.rows, c.cols};
  expects<ShapeError>(a.cols == b.cols, "matmul_rows", "inner dimensions differ: a is ", shape_a, ", b is ", shape_b);
  expects<ShapeError>(c.rows == a.rows && c.cols == b.rows, "matmul_rows", "c is ", shape_c, ", a b^T is ",
                      Shape{a.rows, b.rows});
  expects<ShapeError>(a.stride >= a.cols && b.stride >= b.cols && c.stride >= c.cols, "matmul_rows",
                      "a stride is below its matrix's columns: ", a.stride, " for a ", shape_a, ", ", b.stride,
                      " for b ", shape_b, ", ", c.stride, " for c ", shape_c);
  expects<ArgumentError>(!overlap(c, a) && !overlap(c, b), "matmul_rows", "c ", shape_c, " overlaps ",
                         overlap(c, a) ? "a " : "b ", overlap(c, a) ? shape_a : shape_b);
  kernel<op::matmul_rows, D, A, B, TC>::run(device, c, a, b, bias);
}

}  // namespace storylm::ops
