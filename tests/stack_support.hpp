// SPDX-License-Identifier: MIT
/// @file
/// @brief A small model of each family, for the tests of the whole stack.
#pragma once

#include <storylm/nn/transformer_stack.hpp>

#include "family_configs.hpp"
#include "nn_support.hpp"

namespace storylm::test {

using Classic = nn::TransformerStack<double, Cpu, nn::LayerNorm, nn::Mlp>;
using Llama = nn::TransformerStack<double, Cpu, nn::RmsNorm, nn::SwiGlu>;

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
