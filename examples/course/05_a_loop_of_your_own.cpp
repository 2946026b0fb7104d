// SPDX-License-Identifier: MIT
// A training loop with a schedule, gradient accumulation, clipping, weight decay and validation. Nothing is hidden.
// Run time: some seconds.
// expected last line: the validation loss fell to less than half: yes
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

// Stories that count: a letter, then the letters that follow in steps of one, two or three.
std::vector<std::vector<token_t>> counting_stories(std::size_t count) {
  RandomStream random(7);
  std::vector<std::vector<token_t>> stories(count);
  for (auto& story : stories) {
    const auto stride = static_cast<token_t>(1 + random.below(3));
    auto letter = static_cast<token_t>(random.below(26));
    for (auto n = 6 + random.below(10); n > 0; --n, letter = (letter + stride) % 26)
      story.push_back(4 + letter);  // 0 to 3 are UNK, BOS, EOS and PAD
  }
  return stories;
}

int main() {
  constexpr TransformerConfig config = {.vocab_size = 30, .d_model = 64, .n_layers = 2, .n_heads = 2, .max_len = 18};
  constexpr index_t steps = 150;
  TransformerLM<config> model(Cpu{}, {.dropout = 0.05});
  optim::AdamW optimizer(model.parameters(), {.weight_decay = 0.01});
  const optim::Cosine schedule({.lr = 3e-3, .warmup_steps = 10, .total_steps = steps});

  // 64 stories a step, computed at most 300 tokens at a time: the step is that of the whole batch.
  const TokenLists stories(counting_stories(1000));
  const LoaderOptions options = {
      .batch_size = 64, .max_len = 18, .validation_fraction = 0.1, .capacity = {.tokens = 300}};
  StoryLoader loader(stories, options, Split::train), validation(stories, options, Split::validation);
  train::Step step(model, loader.capacity());
  evaluate::LossMeter meter(model, validation.capacity());
  const auto validate = [&] {
    meter.reset();
    validation.rewind();
    for (index_t i = 0; i < validation.batches_per_epoch(); ++i)
      for (const auto& batch : validation.next()) meter.add(batch);
    return meter.mean();
  };

  const double before = validate();
  for (index_t i = 0; i < steps; ++i) {
    const StepBatch& batch = loader.next();
    step.begin(batch, schedule.lr(i));  // zeroes the gradients; the mean will be over batch.targets()
    for (const auto& micro : batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
    optim::clip_grad_norm(model.parameters(), 1.0, step);
    optimizer.step(step);
    if (i % 50 == 0) std::cout << batch.size() << " micro-batches, loss " << step.result().loss << '\n';
  }
  std::cout << "the validation loss fell to less than half: " << (validate() < before / 2 ? "yes" : "no") << '\n';
}
