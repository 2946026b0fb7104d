// SPDX-License-Identifier: MIT
// A run that stops and goes on in new objects, from a file, ends with the bits of one that never stopped: kill it, too.
// Run time: a second.
// LINK: io
// expected last line: the weights are equal bit for bit: yes
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

// A loop's objects. What depends on the past is kept in the state; what is an option comes from the program.
struct Run {
  using Model = TransformerLM<presets::story_tiny>;
  Model model{Cpu{}, {.dropout = 0.1}};
  optim::Adam<float, Cpu> optimizer{model.parameters()};
  optim::ReduceOnPlateau schedule{{.lr = 1e-3, .patience = 0}};
  StoryLoader<TokenLists> loader;
  train::Step<Model> step{model, loader.capacity()};
  train::History history;
  train::RunState state{model};

  explicit Run(const TokenLists& stories) : loader(stories, {.batch_size = 8, .max_len = 16}) {
    state.keep("optimizer", optimizer);  // moments, number of steps
    state.keep("schedule", schedule);    // learning rate, best metric, bad ones since
    state.keep("loader", loader);        // epoch and story
    state.keep("step", step);            // the counter that dropout masks depend on
    state.keep("history", history);      // lists of losses
  }
  void take_step() {
    const StepBatch& batch = loader.next();
    step.begin(batch, schedule.lr());
    for (const auto& micro : batch) model.forward(micro, step), model.backward(micro, step);
    optim::clip_grad_norm(model.parameters(), 1.0, step);
    optimizer.step(step);
    history.add_loss(step.result().loss);
    schedule.step(history.losses().back());
  }
};

int main() {
  std::vector<std::vector<token_t>> lists;
  for (token_t i = 0; i < 50; ++i) lists.push_back({4 + i % 28, 4 + i % 5, 4 + i % 7, 4 + i % 11});
  const TokenLists stories(std::move(lists));
  Run whole(stories);
  while (whole.step.steps() < 20) whole.take_step();
  const std::filesystem::path file = "half_way.safetensors";
  for (const auto stop : {9U, 20U}) {
    Run run(stories);  // new objects, as in a new process
    if (exists(file)) run.state.load(file);
    std::cout << "goes on after step " << run.step.steps() << " in epoch " << run.loader.epoch() << '\n';
    for (; run.step.steps() < stop; run.state.save(file)) run.take_step();  // complete or not at all
    if (stop < 20) continue;
    remove(file);
    const ArenaView<float> a = whole.model.parameters().arena(), b = run.model.parameters().arena();
    const bool equal = std::equal(a.values, a.values + a.size, b.values);
    std::cout << "the weights are equal bit for bit: " << (equal ? "yes" : "no") << '\n';
  }
}
