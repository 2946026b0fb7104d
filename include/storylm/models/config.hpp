// SPDX-License-Identifier: MIT
/// @file
/// @brief The rules a TransformerConfig must keep, each said in a sentence when it is broken.
#pragma once

#include <storylm/nn/transformer_config.hpp>

namespace storylm {

/// Checks a compile-time config; named by TransformerLM, so that the sentence appears where the model does.
template <TransformerConfig C>
struct ValidConfig {
  static_assert(C.vocab_size > 0, "storylm: TransformerConfig: vocab_size must be set");
  static_assert(C.max_len > 0, "storylm: TransformerConfig: max_len must be set");
  static_assert(C.d_model > 0 && C.n_layers > 0 && C.n_heads > 0,
                "storylm: TransformerConfig: d_model, n_layers and n_heads must be positive");
  static_assert(C.d_ff >= 0 && C.n_kv_heads >= 0 && C.head_dim >= 0 && C.sliding_window >= 0,
                "storylm: TransformerConfig: d_ff, n_kv_heads, head_dim and sliding_window must not be negative");
  static_assert(C.head_dim != 0 || C.n_heads <= 0 || C.d_model % C.n_heads == 0,
                "storylm: TransformerConfig: d_model must be a multiple of n_heads, or head_dim be given");
  static_assert(C.n_kv_heads <= 0 || C.n_heads % C.n_kv_heads == 0,
                "storylm: TransformerConfig: n_heads must be a multiple of n_kv_heads");
  static_assert(C.n_heads <= 0 || C.head_size() % 2 == 0, "storylm: TransformerConfig: the head size must be even");
  static constexpr bool value = true;  ///< for a static_assert to name
};

}  // namespace storylm
