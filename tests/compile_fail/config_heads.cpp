// EXPECT: storylm: TransformerConfig: d_model must be a multiple of n_heads, or head_dim be given
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {
    .vocab_size = 512, .d_model = 64, .n_layers = 2, .n_heads = 3, .max_len = 128};
storylm::TransformerLM<config> model;
