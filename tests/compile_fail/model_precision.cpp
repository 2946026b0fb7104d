// EXPECT: storylm: no kernels yet for weights, activations and a residual stream of different dtypes
// SPDX-License-Identifier: MIT
#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>

storylm::TransformerLM<storylm::presets::story_tiny, storylm::Precision<float, storylm::bf16>, storylm::Cpu> model;
