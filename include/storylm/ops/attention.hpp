// SPDX-License-Identifier: MIT
/// @file
/// @brief Causal self-attention over packed sequences: Vaswani et al., arXiv:1706.03762; grouped queries: Ainslie et
/// al., arXiv:2305.13245; sliding window: Beltagy et al., arXiv:2004.05150.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/attention_checks.hpp>
#include <storylm/ops/checks.hpp>
#include <storylm/ops/overlap.hpp>

namespace storylm::ops {

/// y (tokens, q_width) = softmax(q k^T / sqrt(head_dim)) v within each sequence, each position looking at itself and
/// what came before, with dropout on the probabilities; lse (tokens, heads) = log of the sum of exponentials, which
/// backward needs. qkv (tokens, qkv_width).
/// @throws ShapeError when shapes disagree, ArgumentError when y overlaps qkv
template <Device D, FloatDtype T>
void attention(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<accumulator_t<T>>> lse,
               std::type_identity_t<MatrixView<const T>> qkv, const AttentionSpec& spec, const DropoutSpec& dropout,
               const PackedView& batch) {
  static_assert(Supports<D, op::attention, T>, "storylm: op::attention has no kernel for these dtypes on this device");
  detail::expects_attention("attention", qkv, spec, batch);
  detail::expects_shape("attention", "y", y, batch.tokens, spec.q_width());
  detail::expects_shape("attention", "lse", lse, batch.tokens, spec.heads);
  detail::expects_batch("attention", dropout, batch, batch.tokens);
  expects<ShapeError>(lse.stride == lse.cols || lse.rows == 0, "attention", "lse has a stride of ", lse.stride,
                      ", expected ", lse.cols);
  expects<ArgumentError>(!overlap(y, qkv), "attention", "y overlaps qkv");
  kernel<op::attention, D, T>::run(device, y, lse.data, qkv, spec, dropout, batch);
}

/// dqkv (tokens, qkv_width) from dy (tokens, q_width) and what the forward got and gave.
/// @throws ShapeError when shapes disagree, ArgumentError when dqkv overlaps another argument
template <Device D, FloatDtype T>
void attention_backward(const D& device, MatrixView<T> dqkv, std::type_identity_t<MatrixView<const T>> dy,
                        std::type_identity_t<MatrixView<const T>> y,
                        std::type_identity_t<MatrixView<const accumulator_t<T>>> lse,
                        std::type_identity_t<MatrixView<const T>> qkv, const AttentionSpec& spec,
                        const DropoutSpec& dropout, const PackedView& batch) {
  static_assert(Supports<D, op::attention, T>, "storylm: op::attention has no kernel for these dtypes on this device");
  detail::expects_attention("attention_backward", qkv, spec, batch);
  detail::expects_shape("attention_backward", "dqkv", dqkv, batch.tokens, spec.qkv_width());
  detail::expects_shape("attention_backward", "dy", dy, batch.tokens, spec.q_width());
  detail::expects_shape("attention_backward", "y", y, batch.tokens, spec.q_width());
  detail::expects_shape("attention_backward", "lse", lse, batch.tokens, spec.heads);
  detail::expects_batch("attention_backward", dropout, batch, batch.tokens);
  expects<ShapeError>(lse.stride == lse.cols || lse.rows == 0, "attention_backward", "lse has a stride of ", lse.stride,
                      ", expected ", lse.cols);
  expects<ArgumentError>(!overlap(dqkv, qkv) && !overlap(dqkv, dy) && !overlap(dqkv, y), "attention_backward",
                         "dqkv overlaps ",
                         overlap(dqkv, qkv)  ? "qkv"
                         : overlap(dqkv, dy) ? "dy"
                                             : "y");
  kernel<op::attention, D, T>::backward(device, dqkv, dy, y, lse.data, qkv, spec, dropout, batch);
}

}  // namespace storylm::ops
