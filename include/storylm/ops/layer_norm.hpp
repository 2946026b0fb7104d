// SPDX-License-Identifier: MIT
/// @file
/// @brief Layer normalisation of a residual stream, with the branch's dropout and addition before it.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// sum = residual + dropout(branch); y = (sum - mean) / sqrt(var + eps) * weight + bias, row by row. Ba et al.,
/// arXiv:1607.06450.
/// @param y (tokens, width)
/// @param sum (tokens, width), or none without a branch
/// @param stats (tokens, 2): mean and 1/sqrt(var + eps) of each row, for backward
/// @param residual (tokens, width)
/// @param branch (tokens, width), or none: residual itself is normalised
/// @param weight (width)
/// @param bias (width), or none
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void layer_norm(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<T>> sum,
                MatrixView<accumulator_t<T>> stats, std::type_identity_t<MatrixView<const T>> residual,
                std::type_identity_t<MatrixView<const T>> branch, std::type_identity_t<MatrixView<const T>> weight,
                std::type_identity_t<MatrixView<const T>> bias, double eps, const DropoutSpec& dropout = {},
                const PackedView& batch = {}) {
  static_assert(Supports<D, op::layer_norm, T>, "storylm: op::layer_norm has no kernel for this dtype on this device");
  detail::expects_shape("layer_norm", "y", y, residual.rows, residual.cols);
  detail::expects_shape("layer_norm", "stats", stats, residual.rows, 2);
  detail::expects_elements("layer_norm", "weight", weight, residual.cols);
  if (bias) detail::expects_elements("layer_norm", "bias", bias, residual.cols);
  if (branch) {
    detail::expects_shape("layer_norm", "branch", branch, residual.rows, residual.cols);
    detail::expects_shape("layer_norm", "sum", sum, residual.rows, residual.cols);
    detail::expects_batch("layer_norm", dropout, batch, residual.rows);
  }
  kernel<op::layer_norm, D, T>::run(device, y, sum, stats, residual, branch, weight.data, bias.data, eps, dropout,
                                    batch);
}

/// dsum = plus + gradient, dbranch = dropout'(dsum); adds to dweight and dbias.
/// @param dsum (tokens, width); may be dy or plus
/// @param dbranch (tokens, width), or none
/// @param dweight (width)
/// @param dbias (width), or none
/// @param dy (tokens, width)
/// @param sum (tokens, width): what was normalised
/// @param stats (tokens, 2), as layer_norm left it
/// @param weight (width)
/// @param plus (tokens, width), or none
/// @throws ShapeError when shapes disagree
template <Device D, FloatDtype T>
void layer_norm_backward(const D& device, MatrixView<T> dsum, std::type_identity_t<MatrixView<T>> dbranch,
                         MatrixView<accumulator_t<T>> dweight, MatrixView<accumulator_t<T>> dbias,
                         std::type_identity_t<MatrixView<const T>> dy, std::type_identity_t<MatrixView<const T>> sum,
                         MatrixView<const accumulator_t<T>> stats, std::type_identity_t<MatrixView<const T>> weight,
                         std::type_identity_t<MatrixView<const T>> plus, const DropoutSpec& dropout = {},
                         const PackedView& batch = {}) {
  static_assert(Supports<D, op::layer_norm, T>, "storylm: op::layer_norm has no kernel for this dtype on this device");
  detail::expects_shape("layer_norm_backward", "dsum", dsum, dy.rows, dy.cols);
  detail::expects_shape("layer_norm_backward", "sum", sum, dy.rows, dy.cols);
  detail::expects_shape("layer_norm_backward", "stats", stats, dy.rows, 2);
  detail::expects_elements("layer_norm_backward", "weight", weight, dy.cols);
  detail::expects_elements("layer_norm_backward", "dweight", dweight, dy.cols);
  if (dbias) detail::expects_elements("layer_norm_backward", "dbias", dbias, dy.cols);
  if (plus) detail::expects_shape("layer_norm_backward", "plus", plus, dy.rows, dy.cols);
  if (dbranch) {
    detail::expects_shape("layer_norm_backward", "dbranch", dbranch, dy.rows, dy.cols);
    detail::expects_batch("layer_norm_backward", dropout, batch, dy.rows);
  }
  kernel<op::layer_norm, D, T>::backward(device, dsum, dbranch, dweight.data, dbias.data, dy, sum, stats, weight.data,
                                         plus, dropout, batch);
}

}  // namespace storylm::ops
