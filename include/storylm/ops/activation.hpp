// SPDX-License-Identifier: MIT
/// @file
/// @brief Elementwise non-linearities of a feed-forward layer, with dropout behind them.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// True when activation_backward reads the input x of this function, false when it reads the output y.
template <Device D, FloatDtype T>
[[nodiscard]] constexpr bool activation_needs_input(Activation function) {
  static_assert(Supports<D, op::activation, T>, "storylm: op::activation has no kernel for this dtype on this device");
  return kernel<op::activation, D, T>::needs_input(function);
}

/// y = dropout(f(x)), both (tokens, width); y may be x unless activation_needs_input.
/// @throws ShapeError when shapes differ
template <Device D, FloatDtype T>
void activation(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> x, Activation function,
                const DropoutSpec& dropout = {}, const PackedView& batch = {}) {
  static_assert(Supports<D, op::activation, T>, "storylm: op::activation has no kernel for this dtype on this device");
  detail::expects_shape("activation", "y", y, x.rows, x.cols);
  detail::expects_batch("activation", dropout, batch, x.rows);
  kernel<op::activation, D, T>::run(device, y, x, function, dropout, batch);
}

/// dx = f'(x) dropout'(dy), all (tokens, width). Of x and y only the one that activation_needs_input names is read, the
/// other may be none; dx may be dy.
/// @throws ShapeError when shapes differ
template <Device D, FloatDtype T>
void activation_backward(const D& device, MatrixView<T> dx, std::type_identity_t<MatrixView<const T>> dy,
                         std::type_identity_t<MatrixView<const T>> x, std::type_identity_t<MatrixView<const T>> y,
                         Activation function, const DropoutSpec& dropout = {}, const PackedView& batch = {}) {
  static_assert(Supports<D, op::activation, T>, "storylm: op::activation has no kernel for this dtype on this device");
  detail::expects_shape("activation_backward", "dx", dx, dy.rows, dy.cols);
  if (activation_needs_input<D, T>(function)) {
    detail::expects_shape("activation_backward", "x", x, dy.rows, dy.cols);
  } else {
    detail::expects_shape("activation_backward", "y", y, dy.rows, dy.cols);
  }
  detail::expects_batch("activation_backward", dropout, batch, dy.rows);
  kernel<op::activation, D, T>::backward(device, dx, dy, x, y, function, dropout, batch);
}

}  // namespace storylm::ops
