// EXPECT: storylm: TransformerConfig: d_ff, n_kv_heads, head_dim and sliding_window must not be negative
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {
    .vocab_size = 512, .d_model = 64, .n_layers = 2, .n_heads = 2, .max_len = 128, .sliding_window = -1};
storylm::TransformerLM<config> model;
