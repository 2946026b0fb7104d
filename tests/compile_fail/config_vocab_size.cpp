// EXPECT: storylm: TransformerConfig: vocab_size must be set
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {.d_model = 64, .n_layers = 2, .n_heads = 2, .max_len = 128};
storylm::TransformerLM<config> model;
