// SPDX-License-Identifier: MIT
/// @file
/// @brief Gradients of a linear map's parameters.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/column_sum.hpp>
#include <storylm/ops/matmul.hpp>

namespace storylm::ops {

/// For y = x W^T + b: dweight (out, in) += dy^T x and dbias (out) += sums of dy's columns; dy (tokens, out), x (tokens,
/// in), dbias may be null. In one pass where a backend has op::linear_gradient. @throws ShapeError, ArgumentError when
/// dweight overlaps dy or x
template <Device D, class TG, class TY, class TX>
void linear_gradient(const D& device, MatrixView<TG> dweight, std::type_identity_t<TG>* dbias, MatrixView<TY> dy,
                     MatrixView<TX> x) {
  using Y = std::remove_const_t<TY>;
  using X = std::remove_const_t<TX>;
  if constexpr (std::is_same_v<Y, X> && Supports<D, op::linear_gradient, Y, TG>) {
    const Shape wanted{dy.cols, x.cols};
    expects<ShapeError>(dy.rows == x.rows, "linear_gradient", "dy is ", Shape{dy.rows, dy.cols}, ", x is ",
                        Shape{x.rows, x.cols});
    expects<ShapeError>(dweight.rows == dy.cols && dweight.cols == x.cols, "linear_gradient", "dweight is ",
                        Shape{dweight.rows, dweight.cols}, ", dy^T x is ", wanted);
    expects<ShapeError>(dy.stride >= dy.cols && x.stride >= x.cols && dweight.stride >= dweight.cols, "linear_gradient",
                        "a stride is below its matrix's columns: ", dy.stride, " for dy, ", x.stride, " for x, ",
                        dweight.stride, " for dweight ", wanted);
    expects<ArgumentError>(!overlap(dweight, dy) && !overlap(dweight, x), "linear_gradient", "dweight ", wanted,
                           " overlaps ", overlap(dweight, dy) ? "dy" : "x");
    kernel<op::linear_gradient, D, Y, TG>::run(device, dweight, dbias, dy, x);
  } else {
    matmul(device, dweight, dy, x, {.transpose_a = true, .accumulate = true});
    if (dbias != nullptr) column_sum(device, dbias, dy);
  }
}

}  // namespace storylm::ops
