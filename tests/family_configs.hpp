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

}  // namespace storylm::test
