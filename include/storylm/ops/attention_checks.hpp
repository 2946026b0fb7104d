// SPDX-License-Identifier: MIT
/// @file
/// @brief What the ops on rows of queries, keys and values check alike.
#pragma once

#include <string_view>

#include <storylm/core/error.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops::detail {

/// The spec makes sense and qkv is (batch.tokens, spec.qkv_width()).
template <class T>
void expects_attention(std::string_view op, MatrixView<T> qkv, const AttentionSpec& spec, const PackedView& batch) {
  expects<ShapeError>(spec.heads > 0 && spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0, op,
                      "heads must be a multiple of kv_heads: ", spec.heads, " heads, ", spec.kv_heads, " kv_heads");
  expects<ShapeError>(spec.head_dim > 0 && spec.head_dim % 2 == 0, op,
                      "head_dim must be even and positive: ", spec.head_dim);
  expects<ShapeError>(spec.window >= 0, op, "window must not be negative: ", spec.window);
  expects_shape(op, "qkv", qkv, batch.tokens, spec.qkv_width());
}

}  // namespace storylm::ops::detail
