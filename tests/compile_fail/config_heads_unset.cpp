// EXPECT: storylm: TransformerConfig: d_model, n_layers and n_heads must be positive
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {.vocab_size = 512, .d_model = 64, .n_layers = 2, .max_len = 128};
storylm::TransformerLM<config> model;
