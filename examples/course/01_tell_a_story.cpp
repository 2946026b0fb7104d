// SPDX-License-Identifier: MIT
// Trains a small model on four stories and has it finish one of them: the program in README.md.
// Run time: a second.
// expected last line: <bos> the owl slept and dreamt of mice
#include <iostream>

#include <storylm/storylm.hpp>

int main() {
  using namespace storylm;
  const char* const words[] = {"<unk>", "<bos>", "<eos>", "<pad>", "the", "cat", "owl",    "fox",
                               "sat",   "slept", "ran",   "and",   "in",  "of",  "dreamt", "mice"};
  const TokenLists stories({{4, 5, 8, 12, 4, 5}, {4, 6, 9, 11, 14, 13, 15}, {4, 7, 10}, {4, 5, 10, 11, 10}});
  constexpr TransformerConfig config = {.vocab_size = 16, .d_model = 64, .n_layers = 2, .n_heads = 2, .max_len = 16};
  TransformerLM<config> model;
  StoryLoader loader(stories, {.batch_size = 4, .max_len = 16, .validation_fraction = 0.0, .epochs = 100});
  optim::Adam optimizer(model.parameters());
  train::Step step(model, loader.capacity());
  for (const StepBatch& batch : loader) {
    step.begin(batch, 2e-3);  // the learning rate
    for (const auto& micro : batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
    optimizer.step(step);
  }
  const std::vector<GenerateRequest> requests = {{.prompt = {1, 4, 6}}};  // <bos> the owl
  const auto written = Generator(model).generate(requests, {.sampler = {.temperature = 0.0}});
  for (const token_t id : written.front().ids) std::cout << words[id] << ' ';
  std::cout << '\n';
}
