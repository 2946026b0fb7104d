// EXPECT: storylm: TransformerConfig: the head size must be even
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {
    .vocab_size = 512, .d_model = 66, .n_layers = 2, .n_heads = 2, .max_len = 128};
storylm::TransformerLM<config> model;
