// SPDX-License-Identifier: MIT
/// @file
/// @brief The shape of a small model of each family.
#pragma once

#include <storylm/nn/transformer_config.hpp>

namespace storylm::test {

inline constexpr TransformerConfig seed_config = {
    .vocab_size = 13, .d_model = 8, .d_ff = 12, .n_layers = 2, .n_heads = 2, .max_len = 8, .scale_embedding = true};
inline constexpr TransformerConfig gpt2_config = {.vocab_size = 13,
                                                  .d_model = 8,
                                                  .d_ff = 12,
                                                  .n_layers = 2,
                                                  .n_heads = 2,
                                                  .max_len = 8,
                                                  .pre_norm = true,
                                                  .feed_forward = FeedForwardKind::gelu_tanh,
                                                  .positions = PositionKind::learned,
                                                  .tie_head = true,
                                                  .head_bias = false};
inline constexpr TransformerConfig llama_config = {.vocab_size = 13,
                                                   .d_model = 8,
                                                   .d_ff = 12,
                                                   .n_layers = 2,
                                                   .n_heads = 4,
                                                   .n_kv_heads = 2,
                                                   .head_dim = 4,
                                                   .max_len = 8,
                                                   .sliding_window = 4,
                                                   .norm = NormKind::rms_norm,
                                                   .pre_norm = true,
                                                   .feed_forward = FeedForwardKind::swiglu,
                                                   .positions = PositionKind::rope_half,
                                                   .qkv_bias = false,
                                                   .attention_out_bias = false,
                                                   .feed_forward_bias = false,
                                                   .head_bias = false};

/// What resized() makes of a family's model; head_dim and window where the family has its own.
struct FamilySizes {
  int vocab_size = 0;
  int d_model = 0;
  int d_ff = 0;
  int n_heads = 0;
  int max_len = 0;
  int head_dim = 0;
  int window = 0;
};
/// The same model, larger.
constexpr TransformerConfig resized(TransformerConfig config, const FamilySizes& sizes) {
  config.vocab_size = sizes.vocab_size;
  config.d_model = sizes.d_model;
  config.d_ff = sizes.d_ff;
  config.n_heads = sizes.n_heads;
  config.max_len = sizes.max_len;
  if (config.head_dim != 0) config.head_dim = sizes.head_dim;
  if (config.sliding_window != 0) config.sliding_window = sizes.window;
  return config;
}

}  // namespace storylm::test
