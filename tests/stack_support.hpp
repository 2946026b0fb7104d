// SPDX-License-Identifier: MIT
/// @file
/// @brief A small model of each family, for the tests of the whole stack.
#pragma once

#include <storylm/nn/transformer_stack.hpp>

#include "nn_support.hpp"

namespace storylm::test {

using Classic = nn::TransformerStack<double, Cpu, nn::LayerNorm, nn::Mlp>;
using Llama = nn::TransformerStack<double, Cpu, nn::RmsNorm, nn::SwiGlu>;
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

/// Calls f with a model of each family in double, its parameters far from their small initial values.
template <class F>
void for_each_family(const TransformerOptions& options, F&& f) {
  const auto with = [&](const char* name, auto model) {
    CAPTURE(name);
    randomise(model, 0.4, 0.1);
    f(model);
  };
  const Cpu cpu;
  with("seed", Classic(seed_config, cpu, options));
  with("gpt2", Classic(gpt2_config, cpu, options));
  with("llama", Llama(llama_config, cpu, options));
}

}  // namespace storylm::test
