// SPDX-License-Identifier: MIT
/// @file
/// @brief What the Llama-shaped models have in common that we generate from beside llama2.c and llama.cpp.
#pragma once

#include <array>

#include <storylm/models/presets.hpp>
#include <storylm/nn/transformer_stack.hpp>

/// Not part of the library.
namespace bench {

/// Llama: RMSNorm, rotary positions, SwiGLU, no biases, tied head; the vocabulary and the sizes of llama2.c's models of
/// that many million parameters.
constexpr storylm::TransformerConfig llama_shape(int d_model, int d_ff, int n_layers, int n_heads, int max_len) {
  storylm::TransformerConfig c = storylm::presets::story_llama_tiny;
  c.vocab_size = 32000;
  c.d_model = d_model;
  c.d_ff = d_ff;
  c.n_layers = n_layers;
  c.n_heads = n_heads;
  c.n_kv_heads = n_heads;
  c.head_dim = d_model / n_heads;
  c.max_len = max_len;
  return c;
}

/// By the names that programs give them; "tiny" is for tests.
inline constexpr std::array llama_shapes{storylm::Preset{"tiny", llama_shape(64, 160, 2, 4, 128)},
                                         storylm::Preset{"15m", llama_shape(288, 768, 6, 6, 256)},
                                         storylm::Preset{"42m", llama_shape(512, 1376, 8, 8, 1024)},
                                         storylm::Preset{"110m", llama_shape(768, 2048, 12, 12, 1024)}};

/// The type of all of them.
template <class T>
using LlamaModel = storylm::nn::TransformerStack<T, storylm::Cpu, storylm::nn::RmsNorm, storylm::nn::SwiGlu>;

}  // namespace bench
