// SPDX-License-Identifier: MIT
/// @file
/// @brief SwiGLU: silu(gate) * up, with dropout behind it.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// y (tokens, width) = dropout(silu(gate) * up), gate_up (tokens, 2 width) with gate first. Shazeer, arXiv:2002.05202.
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void swiglu(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> gate_up,
            const DropoutSpec& dropout = {}, const PackedView& batch = {}) {
  static_assert(Supports<D, op::swiglu, T>, "storylm: op::swiglu has no kernel for this dtype on this device");
  detail::expects_shape("swiglu", "gate_up", gate_up, y.rows, 2 * y.cols);
  detail::expects_batch("swiglu", dropout, batch, y.rows);
  kernel<op::swiglu, D, T>::run(device, y, gate_up, dropout, batch);
}

/// dgate_up (tokens, 2 width) from dy (tokens, width).
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void swiglu_backward(const D& device, MatrixView<T> dgate_up, std::type_identity_t<MatrixView<const T>> dy,
                     std::type_identity_t<MatrixView<const T>> gate_up, const DropoutSpec& dropout = {},
                     const PackedView& batch = {}) {
  static_assert(Supports<D, op::swiglu, T>, "storylm: op::swiglu has no kernel for this dtype on this device");
  detail::expects_shape("swiglu_backward", "gate_up", gate_up, dy.rows, 2 * dy.cols);
  detail::expects_shape("swiglu_backward", "dgate_up", dgate_up, dy.rows, 2 * dy.cols);
  detail::expects_batch("swiglu_backward", dropout, batch, dy.rows);
  kernel<op::swiglu, D, T>::backward(device, dgate_up, dy, gate_up, dropout, batch);
}

}  // namespace storylm::ops
