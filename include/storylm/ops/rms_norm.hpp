// SPDX-License-Identifier: MIT
/// @file
/// @brief Root-mean-square normalisation of a residual stream, with the branch's dropout and addition before it.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// sum = residual + dropout(branch); y = sum / sqrt(mean of squares + eps) * weight, row by row. Zhang and Sennrich,
/// arXiv:1910.07467.
/// @param y (tokens, width)
/// @param sum (tokens, width), or none without a branch
/// @param stats (tokens, 2): 0 and 1/sqrt(mean of squares + eps) of each row, for backward
/// @param residual (tokens, width)
/// @param branch (tokens, width), or none: residual itself is normalised
/// @param weight (width)
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void rms_norm(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<T>> sum,
              MatrixView<accumulator_t<T>> stats, std::type_identity_t<MatrixView<const T>> residual,
              std::type_identity_t<MatrixView<const T>> branch, std::type_identity_t<MatrixView<const T>> weight,
              double eps, const DropoutSpec& dropout = {}, const PackedView& batch = {}) {
  static_assert(Supports<D, op::rms_norm, T>, "storylm: op::rms_norm has no kernel for this dtype on this device");
  detail::expects_shape("rms_norm", "y", y, residual.rows, residual.cols);
  detail::expects_shape("rms_norm", "stats", stats, residual.rows, 2);
  detail::expects_elements("rms_norm", "weight", weight, residual.cols);
  if (branch) {
    detail::expects_shape("rms_norm", "branch", branch, residual.rows, residual.cols);
    detail::expects_shape("rms_norm", "sum", sum, residual.rows, residual.cols);
    detail::expects_batch("rms_norm", dropout, batch, residual.rows);
  }
  kernel<op::rms_norm, D, T>::run(device, y, sum, stats, residual, branch, weight.data, nullptr, eps, dropout, batch);
}

/// dsum = plus + gradient, dbranch = dropout'(dsum); adds to dweight.
/// @param dsum (tokens, width); may be dy or plus
/// @param dbranch (tokens, width), or none
/// @param dweight (width)
/// @param dy (tokens, width)
/// @param sum (tokens, width): what was normalised
/// @param stats (tokens, 2), as rms_norm left it
/// @param weight (width)
/// @param plus (tokens, width), or none
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void rms_norm_backward(const D& device, MatrixView<T> dsum, std::type_identity_t<MatrixView<T>> dbranch,
                       MatrixView<accumulator_t<T>> dweight, std::type_identity_t<MatrixView<const T>> dy,
                       std::type_identity_t<MatrixView<const T>> sum, MatrixView<const accumulator_t<T>> stats,
                       std::type_identity_t<MatrixView<const T>> weight, std::type_identity_t<MatrixView<const T>> plus,
                       const DropoutSpec& dropout = {}, const PackedView& batch = {}) {
  static_assert(Supports<D, op::rms_norm, T>, "storylm: op::rms_norm has no kernel for this dtype on this device");
  detail::expects_shape("rms_norm_backward", "dsum", dsum, dy.rows, dy.cols);
  detail::expects_shape("rms_norm_backward", "sum", sum, dy.rows, dy.cols);
  detail::expects_shape("rms_norm_backward", "stats", stats, dy.rows, 2);
  detail::expects_elements("rms_norm_backward", "weight", weight, dy.cols);
  detail::expects_elements("rms_norm_backward", "dweight", dweight, dy.cols);
  if (plus) detail::expects_shape("rms_norm_backward", "plus", plus, dy.rows, dy.cols);
  if (dbranch) {
    detail::expects_shape("rms_norm_backward", "dbranch", dbranch, dy.rows, dy.cols);
    detail::expects_batch("rms_norm_backward", dropout, batch, dy.rows);
  }
  kernel<op::rms_norm, D, T>::backward(device, dsum, dbranch, dweight.data, nullptr, dy, sum, stats, weight.data, plus,
                                       dropout, batch);
}

}  // namespace storylm::ops
