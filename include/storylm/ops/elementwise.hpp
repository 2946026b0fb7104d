// SPDX-License-Identifier: MIT
/// @file
/// @brief Small ops on flat memory and rows: sum, scale_to_mean, add, gather_rows.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// *total += sum of values, carried in double; total lies in the device's memory.
template <Device D, class T>
void sum(const D& device, double* total, std::span<T> values) {
  using Element = std::remove_const_t<T>;
  static_assert(Supports<D, op::sum, Element>, "storylm: op::sum has no kernel for this dtype on this device");
  kernel<op::sum, D, Element>::run(device, total, values.data(), static_cast<index_t>(values.size()));
}

/// y (+)= x * inverse_targets * loss_scale of `state`: the gradient of a sum over target tokens becomes that of their
/// mean. y may be x.
/// @throws ShapeError when sizes differ
template <Device D, class TY, class TX>
void scale_to_mean(const D& device, std::span<TY> y, std::span<TX> x, const StepState* state, bool accumulate) {
  using X = std::remove_const_t<TX>;
  static_assert(Supports<D, op::scale_to_mean, X, TY>,
                "storylm: op::scale_to_mean has no kernel for these dtypes on this device");
  expects<ShapeError>(y.size() == x.size(), "scale_to_mean", "y has ", y.size(), " elements, expected ", x.size());
  kernel<op::scale_to_mean, D, X, TY>::run(device, y.data(), x.data(), static_cast<index_t>(y.size()), state,
                                           accumulate);
}

/// y += x, both (rows, cols).
/// @throws ShapeError when shapes differ
template <Device D, FloatDtype T>
void add(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> x) {
  static_assert(Supports<D, op::add, T>, "storylm: op::add has no kernel for this dtype on this device");
  detail::expects_shape("add", "x", x, y.rows, y.cols);
  kernel<op::add, D, T>::run(device, y, x);
}

/// y[i] = x[rows[i]]; y (n, cols), x (any, cols), rows (n) in the device's memory.
/// @throws ShapeError when shapes disagree, or (in host memory) x has no such row
template <Device D, FloatDtype T>
void gather_rows(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> x,
                 std::span<const std::int32_t> rows) {
  static_assert(Supports<D, op::gather_rows, T>,
                "storylm: op::gather_rows has no kernel for this dtype on this device");
  detail::expects_shape("gather_rows", "y", y, static_cast<index_t>(rows.size()), x.cols);
  detail::expects_indices("gather_rows", "row", device, rows.data(), y.rows, x.rows);
  kernel<op::gather_rows, D, T>::run(device, y, x, rows.data());
}

}  // namespace storylm::ops
