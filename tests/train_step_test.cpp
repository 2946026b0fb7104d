// SPDX-License-Identifier: MIT
/// @file
/// @brief A training step: fresh state at the beginning, one mean over all micro-batches, masks by step and seed.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/sgd.hpp>
#include <storylm/train/step.hpp>

#include "io_support.hpp"
#include "optim_support.hpp"
#include "stories_support.hpp"
#include "support.hpp"

using namespace storylm;

namespace {

using Model = nn::TransformerStack<double, Cpu, nn::LayerNorm, nn::Mlp>;
static_assert(StepHandle<train::Step<Model>>);

StoryLoader<TokenLists> loader_with(index_t tokens_at_once) {
  return StoryLoader(test::random_stories(40, 1),
                     {.batch_size = 8, .max_len = 16, .seed = 3, .capacity = {.tokens = tokens_at_once}});
}
std::vector<double> gradients(const Model& model) {
  std::vector<double> all;
  nn::for_each_parameter(model, [&](const std::string&, const auto& p) {
    const auto values = p.gradient_to_host();
    all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}

/// What a step came to, and its gradients.
struct Outcome {
  std::size_t micro_batches = 0;
  train::StepResult result;
  std::vector<double> gradients;
};
Outcome run_step(Model& model, index_t tokens_at_once, std::uint64_t seed, int steps = 1) {
  auto loader = loader_with(tokens_at_once);
  train::Step step(model, loader.capacity(), seed);
  const StepBatch& batch = loader.next();
  for (int i = 0; i < steps; ++i) {
    step.begin(batch, 0.1);
    for (const auto& micro : batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
  }
  optim::clip_grad_norm(model.parameters(), 0.0, step);
  return {batch.size(), step.result(), gradients(model)};
}

}  // namespace

TEST_CASE("begin zeroes the gradients and writes everything that changes from step to step") {
  Model model(test::small_config, Cpu{});
  train::Step step(model, {.tokens = 8, .sequences = 1, .longest = 8});
  CHECK(step.steps() == 0);
  step.begin(4, 0.5);
  model.head.bias->gradient().data[0] = 1.0;
  StepState& state = *step.state();
  state = {.step = 77, .lr = 7.0, .loss_scale = 2.0, .clip = 0.1, .grad_norm = 3.0, .loss_sum = 9.0, .skip = 1};
  step.begin(8, 0.25);
  CHECK(step.steps() == 2);
  CHECK(state.step == 1);
  CHECK(state.lr == 0.25);
  CHECK(state.inverse_targets == 0.125);
  CHECK(state.loss_scale == 1.0);
  CHECK(state.clip == 1.0);
  CHECK(state.grad_norm == 0.0);
  CHECK(state.loss_sum == 0.0);
  CHECK(state.skip == 0);
  CHECK(gradients(model) == std::vector<double>(static_cast<std::size_t>(nn::parameter_count(model)), 0.0));
  const auto result = step.result();
  CHECK(result.loss == 0.0);
  CHECK(result.grad_norm == 0.0);
  CHECK(!result.skipped);
}

TEST_CASE("a step without targets is refused and does not count") {
  Model model(test::small_config, Cpu{});
  train::Step step(model, {.tokens = 8, .sequences = 1, .longest = 8});
  for (const index_t targets : {index_t{0}, index_t{-3}})
    CHECK(test::error_of<ArgumentError>([&] { step.begin(targets, 0.5); }) ==
          "[Step::begin] the step has no target tokens: " + std::to_string(targets));
  CHECK(step.steps() == 0);
}

TEST_CASE("loss and gradients are those of the whole batch however it is cut, dropout included") {
  for (const double dropout : {0.0, 0.2}) {
    CAPTURE(dropout);
    Model model(test::small_config, Cpu{}, {.dropout = dropout});
    const Outcome whole = run_step(model, 0, 5);
    CHECK(whole.micro_batches == 1);
    CHECK(whole.result.loss > 2.0);
    CHECK(whole.result.loss < 10.0);
    CHECK(whole.result.grad_norm > 0.0);
    for (const index_t tokens : {index_t{15}, index_t{24}, index_t{40}}) {
      CAPTURE(tokens);
      const Outcome cut = run_step(model, tokens, 5);
      CHECK(cut.micro_batches > 1);
      CHECK(std::abs(cut.result.loss - whole.result.loss) <= 1e-12 * whole.result.loss);
      CHECK(std::abs(cut.result.grad_norm - whole.result.grad_norm) <= 1e-12 * whole.result.grad_norm);
      CHECK(test::relative_difference(cut.gradients, whole.gradients) <= 1e-12);
    }
  }
}

TEST_CASE("dropout's masks change from step to step and with the seed, and with nothing else") {
  Model model(test::small_config, Cpu{}, {.dropout = 0.2});
  const Outcome first = run_step(model, 0, 5);
  CHECK(run_step(model, 0, 5).gradients == first.gradients);
  CHECK(run_step(model, 0, 6).gradients != first.gradients);
  CHECK(run_step(model, 0, 5, 2).gradients != first.gradients);
  Model plain(test::small_config, Cpu{});
  CHECK(run_step(plain, 0, 5, 2).gradients == run_step(plain, 0, 6).gradients);
}

TEST_CASE("the state is the number of steps and the seed: the next masks come from them") {
  Model model(test::small_config, Cpu{}, {.dropout = 0.2});
  auto loader = loader_with(0);
  const StepBatch& batch = loader.next();
  const auto next_gradients = [&](train::Step<Model>& step) {
    step.begin(batch, 0.1);
    model.forward(batch[0], step);
    model.backward(batch[0], step);
    return gradients(model);
  };
  train::Step straight(model, loader.capacity(), 9);
  for (int i = 0; i < 3; ++i) straight.begin(batch, 0.1);
  const auto saved = test::state_bytes(straight);
  CHECK(saved.size() == 2);
  train::Step resumed(model, loader.capacity(), 1);
  train::Step<Model>::visit_state(resumed, [](std::string_view name, auto& member) {
    if (name == "steps") member = 3;
    if (name == "seed") member = 9;
  });
  CHECK(test::state_bytes(resumed) == saved);
  CHECK(next_gradients(resumed) == next_gradients(straight));
  train::Step other(model, loader.capacity(), 9);
  CHECK(next_gradients(other) != next_gradients(straight));
}

TEST_CASE("gradients that are not finite make a skipped step, and the next one is a good one") {
  Model model(test::small_config, Cpu{});
  optim::Sgd sgd(model.parameters());
  auto loader = loader_with(0);
  const StepBatch& batch = loader.next();
  train::Step step(model, loader.capacity());
  const auto take_step = [&](double poison) {
    step.begin(batch, 0.1);
    model.forward(batch[0], step);
    model.backward(batch[0], step);
    model.head.bias->gradient().data[3] += poison;
    optim::clip_grad_norm(model.parameters(), 1.0, step);
    sgd.step(step);
    return step.result();
  };
  const auto before = model.head.weight->to_host();
  const auto bad = take_step(std::numeric_limits<double>::quiet_NaN());
  CHECK(bad.skipped);
  CHECK(std::isnan(bad.grad_norm));
  CHECK(std::isfinite(bad.loss));
  CHECK(model.head.weight->to_host() == before);
  const auto good = take_step(0.0);
  CHECK(!good.skipped);
  CHECK(good.loss == bad.loss);
  CHECK(model.head.weight->to_host() != before);
  CHECK(take_step(0.0).loss < good.loss);
}

TEST_CASE("an optimizer made before its model moves trains the model where it is now") {
  const Cpu cpu;
  Model before({.vocab_size = 64, .d_model = 8, .n_layers = 1, .n_heads = 2, .max_len = 16}, cpu);
  optim::Sgd optimizer(before.parameters());
  Model model(std::move(before));
  auto loader = loader_with(0);
  train::Step step(model, loader.capacity());
  const StepBatch& batch = loader.next();
  std::vector<double> losses;
  for (int i = 0; i < 3; ++i) {
    step.begin(batch, 0.1);
    for (const auto& micro : batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
    optimizer.step(step);
    losses.push_back(step.result().loss);
  }
  CHECK(losses[1] < losses[0]);
  CHECK(losses[2] < losses[1]);
}

TEST_CASE("backward refuses what no training forward has prepared") {
  const Cpu cpu;
  Model model({.vocab_size = 64, .d_model = 8, .n_layers = 1, .n_heads = 2, .max_len = 16}, cpu);
  const Packed<Cpu> batch = test::packed({5, 3}, 64);
  const Packed<Cpu> other = test::packed({5}, 64);
  StepState state;
  const auto pass = [&](const Packed<Cpu>& of, StepState* with) {
    return Pass<Cpu>{.device = cpu, .batch = of.view(), .state = with, .training = true};
  };
  auto inference = model.make_inference_cache(batch.capacity());
  CHECK_THROWS_WITH_AS(model.backward(pass(batch, &state), inference),
                       "[TransformerStack::backward] needs a training cache", ArgumentError);
  auto cache = model.make_training_cache(batch.capacity());
  model.forward(pass(batch, &state), cache);
  CHECK_THROWS_WITH_AS(model.backward(pass(batch, nullptr), cache),
                       "[TransformerStack::backward] needs the StepState of the step", ArgumentError);
  CHECK_THROWS_WITH_AS(model.backward(pass(other, &state), cache),
                       "[TransformerStack::backward] the batch has 5 tokens, forward with this cache had 8",
                       ShapeError);
}
