// SPDX-License-Identifier: MIT
/// @file
/// @brief Named shapes.
#pragma once

#include <array>
#include <string_view>

#include <storylm/nn/transformer_config.hpp>

namespace storylm {

/// A shape and what programs call it.
struct Preset {
  std::string_view name;     ///< as flags spell it
  TransformerConfig config;  ///< its shape
};

/// Model shapes that programs train, and small ones of the families we read. `story_*` are the reference system's
/// architecture: post-norm, LayerNorm, ReLU, sinusoidal positions, biases, untied head.
namespace presets {

/// The reference model: 24,163,328 parameters.
inline constexpr TransformerConfig story_24m = {.vocab_size = 5120,
                                                .d_model = 512,
                                                .d_ff = 2048,
                                                .n_layers = 6,
                                                .n_heads = 8,
                                                .max_len = 256,
                                                .scale_embedding = true};
static_assert(parameter_count(story_24m) == 24'163'328);

/// The same in small, for the demo: its vocabulary is what the demo corpus fills.
inline constexpr TransformerConfig story_3m = {.vocab_size = 1024,
                                               .d_model = 256,
                                               .d_ff = 1024,
                                               .n_layers = 3,
                                               .n_heads = 8,
                                               .max_len = 256,
                                               .scale_embedding = true};

/// Trains in seconds: for tests.
inline constexpr TransformerConfig story_tiny = {.vocab_size = 512,
                                                 .d_model = 64,
                                                 .d_ff = 256,
                                                 .n_layers = 2,
                                                 .n_heads = 2,
                                                 .max_len = 128,
                                                 .scale_embedding = true};

/// GPT-2's architecture (Radford et al., 2019) at its smallest published size.
inline constexpr TransformerConfig gpt2 = {.vocab_size = 50257,
                                           .d_model = 768,
                                           .d_ff = 3072,
                                           .n_layers = 12,
                                           .n_heads = 12,
                                           .max_len = 1024,
                                           .pre_norm = true,
                                           .feed_forward = FeedForwardKind::gelu_tanh,
                                           .positions = PositionKind::learned,
                                           .tie_head = true,
                                           .head_bias = false};

/// Mistral's architecture (Jiang et al., arXiv:2310.06825) at 7 billion parameters; Llama's is the same without window.
inline constexpr TransformerConfig mistral_7b = {.vocab_size = 32000,
                                                 .d_model = 4096,
                                                 .d_ff = 14336,
                                                 .n_layers = 32,
                                                 .n_heads = 32,
                                                 .n_kv_heads = 8,
                                                 .max_len = 32768,
                                                 .sliding_window = 4096,
                                                 .norm = NormKind::rms_norm,
                                                 .pre_norm = true,
                                                 .feed_forward = FeedForwardKind::swiglu,
                                                 .positions = PositionKind::rope_half,
                                                 .qkv_bias = false,
                                                 .attention_out_bias = false,
                                                 .feed_forward_bias = false,
                                                 .head_bias = false};

/// A Llama-shaped story model: RMSNorm, rotary positions, SwiGLU, grouped queries, tied head.
inline constexpr TransformerConfig story_llama_tiny = {.vocab_size = 512,
                                                       .d_model = 64,
                                                       .d_ff = 192,
                                                       .n_layers = 2,
                                                       .n_heads = 4,
                                                       .n_kv_heads = 2,
                                                       .head_dim = 32,
                                                       .max_len = 128,
                                                       .norm = NormKind::rms_norm,
                                                       .pre_norm = true,
                                                       .feed_forward = FeedForwardKind::swiglu,
                                                       .positions = PositionKind::rope_half,
                                                       .tie_head = true,
                                                       .qkv_bias = false,
                                                       .attention_out_bias = false,
                                                       .feed_forward_bias = false,
                                                       .head_bias = false};

/// What programs offer for training.
inline constexpr std::array trainable = {Preset{"story_24m", story_24m}, Preset{"story_3m", story_3m},
                                         Preset{"story_tiny", story_tiny}};

}  // namespace presets
}  // namespace storylm
