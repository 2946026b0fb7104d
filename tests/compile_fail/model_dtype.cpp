// EXPECT: storylm: op::embedding has no kernel for this dtype on this device
// SPDX-License-Identifier: MIT
#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>

// The CPU has no kernels for bf16: that is said of each op, and not by the linker.
void forward(storylm::TransformerLM<storylm::presets::story_tiny, storylm::bf16, storylm::Cpu>& model,
             const storylm::Pass<storylm::Cpu>& pass) {
  auto cache = model.make_training_cache({.tokens = 8, .sequences = 1, .longest = 8});
  model.forward(pass, cache);
}
