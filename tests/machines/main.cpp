// SPDX-License-Identifier: MIT
// A user's program, compiled without a word about the machine: it trains a small model and writes with it, and prints
// the instruction set, the losses and the tokens. tests/machines_test.py runs it on old and new machines.
// With --elsewhere it also runs what elsewhere.cpp holds, which is compiled for new machines only.
#include <iomanip>
#include <iostream>
#include <string_view>

#include <storylm/storylm.hpp>

double largest_difference_elsewhere();

int main(int argc, char** argv) {
  using namespace storylm;
  const Cpu device;
  std::cout << "instruction set: " << to_string(device.instruction_set()) << '\n' << std::setprecision(9);
  if (argc > 1 && argv[1] == std::string_view("--elsewhere")) {
    std::cout << "elsewhere: " << largest_difference_elsewhere() << '\n';
  }
  const TokenLists stories({{4, 5, 8, 12, 4, 5}, {4, 6, 9, 11, 14, 13, 15}, {4, 7, 10}, {4, 5, 10, 11, 10}});
  constexpr TransformerConfig config = {.vocab_size = 16, .d_model = 32, .n_layers = 1, .n_heads = 2, .max_len = 16};
  TransformerLM<config> model(device, {.dropout = 0.1});
  StoryLoader loader(stories, {.batch_size = 4, .max_len = 16, .validation_fraction = 0.0, .epochs = 30});
  optim::Adam optimizer(model.parameters());
  train::Step step(model, loader.capacity());
  for (const StepBatch& batch : loader) {
    step.begin(batch, 1e-2);
    for (const auto& micro : batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
    optimizer.step(step);
    std::cout << "loss: " << step.result().loss << '\n';
  }
  const std::vector<GenerateRequest> requests = {{.prompt = {1, 4, 6}}};
  const auto written = Generator(model).generate(requests, {.sampler = {.temperature = 0.0}});
  std::cout << "tokens:";
  for (const token_t id : written.front().ids) std::cout << ' ' << id;
  std::cout << '\n';
}
