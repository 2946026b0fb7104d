// SPDX-License-Identifier: MIT
/// @file
/// @brief A linear map, its activation and dropout; and back through all three.
///
/// Backends with op::linear_activation do it in fewer passes over memory; elsewhere it is matmul, then activation.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/activation.hpp>
#include <storylm/ops/checks.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/matmul_rows.hpp>

namespace storylm::ops {

/// Columns of what lies between linear_activation and its backward, (tokens, columns) of T; 0: nothing.
template <Device D, FloatDtype T>
[[nodiscard]] constexpr index_t linear_activation_saved(Activation function, index_t width) {
  if constexpr (Supports<D, op::linear_activation, T>) {
    return kernel<op::linear_activation, D, T>::saved_columns(function, width);
  } else {
    return activation_needs_input<D, T>(function) ? width : 0;
  }
}

/// y (tokens, width) = dropout(f(x weight^T + bias)); x (tokens, in), weight (width, in), bias (width) may be null;
/// `saved` (tokens, linear_activation_saved) is written, and none where that is 0. row_invariant: the product is
/// matmul_rows'. @throws ShapeError, ArgumentError when y overlaps x, weight or saved
template <Device D, FloatDtype T, class TW>
void linear_activation(const D& device, MatrixView<T> y, MatrixView<T> saved,
                       std::type_identity_t<MatrixView<const T>> x, MatrixView<TW> weight,
                       const std::type_identity_t<T>* bias, Activation function, const DropoutSpec& dropout,
                       const PackedView& batch, bool row_invariant = false) {
  constexpr std::string_view op = "linear_activation";
  const index_t columns = linear_activation_saved<D, T>(function, y.cols);
  if (columns != 0) detail::expects_shape(op, "saved", saved, y.rows, columns);
  if constexpr (std::is_same_v<std::remove_const_t<TW>, T> && Supports<D, op::linear_activation, T>) {
    detail::expects_shape(op, "x", x, y.rows, weight.cols);
    detail::expects_shape(op, "weight", weight, y.cols, x.cols);
    detail::expects_batch(op, dropout, batch, y.rows);
    const bool over_saved = columns != 0 && overlap(y, saved);
    expects<ArgumentError>(!overlap(y, x) && !overlap(y, weight) && !over_saved, op, "y ", Shape{y.rows, y.cols},
                           " overlaps ",
                           overlap(y, x) ? "x"
                           : over_saved  ? "saved"
                                         : "weight");
    kernel<op::linear_activation, D, T>::run(device, y, saved, x, weight, bias, function, dropout, batch,
                                             row_invariant);
  } else {
    const auto pre = columns != 0 ? saved : y;
    if (row_invariant) {
      matmul_rows(device, pre, x, weight, bias);
    } else {
      matmul(device, pre, x, weight, {.transpose_b = true}, bias);
    }
    activation(device, y, pre, function, dropout, batch);
  }
}

/// dpre (tokens, width) = f' dropout'(dy weight): back from what y is multiplied with next, y weight^T, to what f was
/// given; dy (tokens, out), weight (out, width), y and saved as linear_activation left them.
/// @throws ShapeError, ArgumentError when dpre overlaps another matrix
template <Device D, FloatDtype T, class TW>
void linear_activation_backward(const D& device, MatrixView<T> dpre, std::type_identity_t<MatrixView<const T>> dy,
                                MatrixView<TW> weight, std::type_identity_t<MatrixView<const T>> y,
                                std::type_identity_t<MatrixView<const T>> saved, Activation function,
                                const DropoutSpec& dropout, const PackedView& batch) {
  constexpr std::string_view op = "linear_activation_backward";
  const index_t columns = linear_activation_saved<D, T>(function, y.cols);
  detail::expects_shape(op, "y", y, dpre.rows, dpre.cols);
  if (columns != 0) detail::expects_shape(op, "saved", saved, y.rows, columns);
  if constexpr (std::is_same_v<std::remove_const_t<TW>, T> && Supports<D, op::linear_activation, T>) {
    detail::expects_shape(op, "dy", dy, dpre.rows, weight.rows);
    detail::expects_shape(op, "weight", weight, dy.cols, dpre.cols);
    detail::expects_batch(op, dropout, batch, dpre.rows);
    const bool over_saved = columns != 0 && overlap(dpre, saved);
    expects<ArgumentError>(!overlap(dpre, dy) && !overlap(dpre, weight) && !overlap(dpre, y) && !over_saved, op,
                           "dpre ", Shape{dpre.rows, dpre.cols}, " overlaps ",
                           overlap(dpre, dy)       ? "dy"
                           : overlap(dpre, weight) ? "weight"
                           : over_saved            ? "saved"
                                                   : "y");
    kernel<op::linear_activation, D, T>::backward(device, dpre, dy, weight, y, saved, function, dropout, batch);
  } else {
    matmul(device, dpre, dy, weight);
    activation_backward(device, dpre, dpre, columns != 0 ? saved : y, y, function, dropout, batch);
  }
}

}  // namespace storylm::ops
