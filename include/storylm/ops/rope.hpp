// SPDX-License-Identifier: MIT
/// @file
/// @brief Rotary positions: Su et al., arXiv:2104.09864.
#pragma once

#include <cmath>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/attention_checks.hpp>

namespace storylm::ops {

/// Rotates queries and keys of qkv (tokens, qkv_width) in place: pair i of a head by position * theta^(-2i / head_dim).
/// @throws ShapeError when shapes disagree, ArgumentError when theta is not positive and finite
template <Device D, FloatDtype T>
void rope(const D& device, MatrixView<T> qkv, const AttentionSpec& spec, double theta, RopeLayout layout,
          const PackedView& batch) {
  static_assert(Supports<D, op::rope, T>, "storylm: op::rope has no kernel for these dtypes on this device");
  detail::expects_attention("rope", qkv, spec, batch);
  expects<ArgumentError>(theta > 0.0 && std::isfinite(theta), "rope", "theta must be positive and finite: ", theta);
  kernel<op::rope, D, T>::run(device, qkv, spec, theta, layout, false, batch);
}

/// The same rotation backwards: turns the gradient of rope's output into that of its input, in place.
/// @throws ShapeError when shapes disagree, ArgumentError when theta is not positive and finite
template <Device D, FloatDtype T>
void rope_backward(const D& device, MatrixView<T> dqkv, const AttentionSpec& spec, double theta, RopeLayout layout,
                   const PackedView& batch) {
  static_assert(Supports<D, op::rope, T>, "storylm: op::rope has no kernel for these dtypes on this device");
  detail::expects_attention("rope_backward", dqkv, spec, batch);
  expects<ArgumentError>(theta > 0.0 && std::isfinite(theta), "rope_backward",
                         "theta must be positive and finite: ", theta);
  kernel<op::rope, D, T>::run(device, dqkv, spec, theta, layout, true, batch);
}

}  // namespace storylm::ops
