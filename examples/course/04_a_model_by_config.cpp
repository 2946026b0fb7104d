// SPDX-License-Identifier: MIT
// A model is its config: the same type gives the reference architecture, GPT-2's and Llama's. Names and counts.
// Run time: a second.
// expected last line: the stack of a config known at run time has as many: yes
#include <iomanip>
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

// Checked when it compiles. What is left out has a default or follows: d_ff = 4 * d_model, head_dim = d_model /
// n_heads.
constexpr TransformerConfig small_gpt2 = {.vocab_size = 1000,
                                          .d_model = 64,
                                          .n_layers = 2,
                                          .n_heads = 4,
                                          .max_len = 128,
                                          .pre_norm = true,
                                          .feed_forward = FeedForwardKind::gelu_tanh,
                                          .positions = PositionKind::learned,
                                          .tie_head = true,
                                          .head_bias = false};
static_assert(parameter_count(presets::story_24m) == 24'163'328);

template <class Model>
void print(const char* title, const Model& model) {
  std::cout << title << '\n';
  nn::for_each_parameter(model, [](const std::string& name, const auto& p) {
    std::cout << "  " << std::left << std::setw(40) << name << p.shape() << '\n';
  });
  std::cout << "  " << nn::parameter_count(model) << " parameters\n";
}

int main() {
  const Cpu device;
  print("GPT-2's architecture, small", TransformerLM<small_gpt2>(device, {.dropout = 0.1, .seed = 1}));

  // RMSNorm, rotary positions, SwiGLU, grouped queries, no biases. Without gradients there is no memory for them.
  const TransformerLM<presets::story_llama_tiny> llama(device, {}, nn::Gradients::no);
  print("Llama's architecture, tiny", llama);

  // Everything that takes a model takes the stack below it, whose sizes are run-time values: programs read any shape.
  const TransformerConfig config = llama.shape();
  const index_t count = nn::with_stack_type<float, Cpu>(
      config, [&]<class Stack>(std::type_identity<Stack>) { return nn::parameter_count(Stack(config, device)); });
  std::cout << "the stack of a config known at run time has as many: "
            << (count == parameter_count(config) && count == nn::parameter_count(llama) ? "yes" : "no") << '\n';
}
