// EXPECT: storylm: op::embedding has no kernel for this dtype on this device
// SPDX-License-Identifier: MIT
#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>

// A device that nobody has written kernels for: that is said of each op, and not by the linker.
struct Elsewhere : storylm::Cpu {};

void forward(storylm::TransformerLM<storylm::presets::story_tiny, storylm::bf16, Elsewhere>& model,
             const storylm::Pass<Elsewhere>& pass) {
  auto cache = model.make_training_cache({.tokens = 8, .sequences = 1, .longest = 8});
  model.forward(pass, cache);
}
