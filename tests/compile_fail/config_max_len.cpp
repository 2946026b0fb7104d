// EXPECT: storylm: TransformerConfig: max_len must be set
// SPDX-License-Identifier: MIT
#include <storylm/models/transformer_lm.hpp>

constexpr storylm::TransformerConfig config = {.vocab_size = 512, .d_model = 64, .n_layers = 2, .n_heads = 2};
storylm::TransformerLM<config> model;
