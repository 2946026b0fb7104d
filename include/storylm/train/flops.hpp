// SPDX-License-Identifier: MIT
/// @file
/// @brief Floating-point work of a training step; beside ops::peak_flops it gives the share of the machine's peak.
#pragma once

#include <storylm/nn/transformer_config.hpp>

namespace storylm::train {

/// Floating-point operations of forward and backward per token: 6 for every weight in a matrix product, and causal
/// attention over sequences of `length` tokens. Chowdhery et al., arXiv:2204.02311, appendix B, halved for causality.
[[nodiscard]] constexpr double flops_per_token(const TransformerConfig& config, double length) {
  const TransformerConfig c = config.resolved();
  const double q = static_cast<double>(c.n_heads) * c.head_dim;
  const double qkv = q + 2.0 * c.n_kv_heads * c.head_dim;
  const double up = c.feed_forward == FeedForwardKind::swiglu ? 2.0 : 1.0;
  const double block = c.d_model * (qkv + q + (up + 1.0) * c.d_ff);
  const double weights = c.n_layers * block + static_cast<double>(c.vocab_size) * c.d_model;
  return 6.0 * weights + 6.0 * c.n_layers * q * length;
}

}  // namespace storylm::train
