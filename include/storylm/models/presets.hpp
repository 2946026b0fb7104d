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
static_assert(parameter_count(gpt2) == 124'439'808);

/// GPT-2's architecture at another of its published sizes.
[[nodiscard]] constexpr TransformerConfig gpt2_of_size(int d_model, int n_layers, int n_heads) {
  TransformerConfig config = gpt2;
  config.d_model = d_model;
  config.d_ff = 4 * d_model;
  config.n_layers = n_layers;
  config.n_heads = n_heads;
  return config;
}
/// GPT-2 medium.
inline constexpr TransformerConfig gpt2_medium = gpt2_of_size(1024, 24, 16);
static_assert(parameter_count(gpt2_medium) == 354'823'168);
/// GPT-2 large.
inline constexpr TransformerConfig gpt2_large = gpt2_of_size(1280, 36, 20);
static_assert(parameter_count(gpt2_large) == 774'030'080);
/// GPT-2 XL.
inline constexpr TransformerConfig gpt2_xl = gpt2_of_size(1600, 48, 25);
static_assert(parameter_count(gpt2_xl) == 1'557'611'200);

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
static_assert(parameter_count(mistral_7b) == 7'241'732'096);

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

/// About as large as story_24m, in Llama's shape: a tied head pays for two more layers.
inline constexpr TransformerConfig story_llama_24m = [] {
  TransformerConfig config = story_llama_tiny;
  config.vocab_size = 5120;
  config.d_model = 512;
  config.d_ff = 1280;
  config.n_layers = 8;
  config.n_heads = 8;
  config.n_kv_heads = 4;
  config.head_dim = 64;
  config.max_len = 256;
  return config;
}();

/// About as large as story_3m, in Llama's shape.
inline constexpr TransformerConfig story_llama_3m = [] {
  TransformerConfig config = story_llama_24m;
  config.vocab_size = 1024;
  config.d_model = 256;
  config.d_ff = 704;
  config.n_layers = 4;
  config.head_dim = 32;
  return config;
}();

/// About as large as story_3m, in GPT-2's shape.
inline constexpr TransformerConfig story_gpt2_3m = [] {
  TransformerConfig config = gpt2;
  config.vocab_size = 1024;
  config.d_model = 256;
  config.d_ff = 1024;
  config.n_layers = 3;
  config.n_heads = 8;
  config.max_len = 256;
  return config;
}();

/// What programs offer for training. Models of the shapes of Llama and GPT-2 are what others can load, too.
inline constexpr std::array trainable = {
    Preset{"story_24m", story_24m},           Preset{"story_3m", story_3m},
    Preset{"story_tiny", story_tiny},         Preset{"story_llama_24m", story_llama_24m},
    Preset{"story_llama_3m", story_llama_3m}, Preset{"story_llama_tiny", story_llama_tiny},
    Preset{"story_gpt2_3m", story_gpt2_3m},
};

}  // namespace presets
}  // namespace storylm
