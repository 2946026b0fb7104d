// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief What is a spike and what is not, that windows are state, and that a loop which skips spikes resumes exactly.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/data/loader.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/run_state.hpp>
#include <storylm/train/spike_guard.hpp>
#include <storylm/train/step.hpp>

#include "io_model_support.hpp"
#include "io_support.hpp"
#include "optim_support.hpp"
#include "stories_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::state_bytes;
using test::TemporaryFolder;
using train::SpikeGuard;
using train::StepResult;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

/// Has seen losses 2, 4, 4, 4, 5, 5, 7, 9: mean 5, variance 32 / 7; and norms ten times that.
SpikeGuard after_eight(double threshold) {
  SpikeGuard guard({.threshold = threshold, .window = 8});
  for (const double x : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) {
    CHECK(guard.scores({.loss = 1e6, .grad_norm = 1e6}).loss == 0.0);  // nothing to compare with yet
    CHECK(guard.admit({.loss = x, .grad_norm = 10.0 * x}));
  }
  return guard;
}

}  // namespace

TEST_CASE("a score is standard deviations above the mean of the window") {
  const SpikeGuard guard = after_eight(3.0);
  const double deviation = std::sqrt(32.0 / 7.0);
  const train::SpikeScores scores = guard.scores({.loss = 11.0, .grad_norm = 20.0});
  CHECK(scores.loss == doctest::Approx(6.0 / deviation).epsilon(1e-14));
  CHECK(scores.grad_norm == doctest::Approx(-3.0 / deviation).epsilon(1e-14));
}

TEST_CASE("a spike of either is not admitted and not remembered; a fall is no spike") {
  const double deviation = std::sqrt(32.0 / 7.0);
  SpikeGuard guard = after_eight(3.0);
  const auto before = state_bytes(guard);
  const double bound = 5.0 + 3.0 * deviation;
  CHECK_FALSE(guard.admit({.loss = bound + 1e-6, .grad_norm = 50.0}));
  CHECK_FALSE(guard.admit({.loss = 5.0, .grad_norm = 10.0 * bound + 1e-5}));
  CHECK_FALSE(guard.admit({.loss = infinity, .grad_norm = 50.0}));
  CHECK_FALSE(guard.admit({.loss = no_number, .grad_norm = 50.0}));
  CHECK_FALSE(guard.admit({.loss = 5.0, .grad_norm = no_number}));
  CHECK_FALSE(guard.admit({.loss = 5.0, .grad_norm = 50.0, .skipped = true}));
  CHECK(state_bytes(guard) == before);
  CHECK(SpikeGuard(guard).admit({.loss = bound - 1e-6, .grad_norm = 10.0 * bound - 1e-5}));
  CHECK(guard.admit({.loss = -1e6, .grad_norm = 0.0}));
  CHECK(state_bytes(guard) != before);
}

TEST_CASE("the oldest step leaves the window, and numbers without any scatter are no trap") {
  SpikeGuard guard = after_eight(3.0);
  for (int i = 0; i < 8; ++i) CHECK(guard.admit({.loss = 5.0, .grad_norm = 50.0}));
  CHECK(guard.scores({.loss = 5.0, .grad_norm = 50.0}).loss == 0.0);
  CHECK(guard.admit({.loss = 5.0 + 1e-6, .grad_norm = 50.0}));
  CHECK_FALSE(guard.admit({.loss = 5.1, .grad_norm = 50.0}));
}

TEST_CASE("off by default; options that make no sense are refused") {
  SpikeGuard guard;
  CHECK_FALSE(guard.on());
  const auto before = state_bytes(guard);
  for (int i = 0; i < 300; ++i) CHECK(guard.admit({.loss = i == 299 ? 1e9 : 1.0, .grad_norm = 1.0}));
  CHECK(state_bytes(guard) == before);
  CHECK(contains(error_of<ArgumentError>([] { SpikeGuard bad({.threshold = -1.0}); }), "must not be negative: -1"));
  CHECK(contains(error_of<ArgumentError>([] { SpikeGuard bad({.threshold = no_number}); }), "negative: nan"));
  CHECK(contains(error_of<ArgumentError>([] { SpikeGuard bad({.window = 1}); }), "must be in [2, 1000000]: 1"));
}

TEST_CASE("skipped steps are counted, altogether and in a row") {
  train::SkippedSteps skipped;
  for (const bool was : {true, false, true, true, true}) skipped.add(was);
  CHECK(skipped.total() == 4);
  CHECK(skipped.in_a_row() == 3);
  skipped.add(false);
  CHECK(skipped.total() == 4);
  CHECK(skipped.in_a_row() == 0);
}

namespace {

using Model = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// A loop whose guard is so strict that it skips some steps of any run.
struct Run {
  Model model{test::small_config, Cpu({.threads = 1}), {.dropout = 0.1}};
  optim::Adam<float, Cpu> adam{model.parameters()};
  StoryLoader<TokenLists> loader{test::random_stories(60, 6), {.batch_size = 8, .max_len = 16}};
  train::Step<Model> step{model, loader.capacity()};
  SpikeGuard guard{{.threshold = 1.0, .window = 5}};
  train::SkippedSteps skipped;
  train::RunState state{model};
  std::string told;

  Run() {
    state.keep("optimizer", adam);
    state.keep("loader", loader);
    state.keep("step", step);
    state.keep("guard", guard);
    state.keep("skipped", skipped);
  }
  void train(int steps) {
    for (int i = 0; i < steps; ++i) {
      const StepBatch& batch = loader.next();
      step.begin(batch, 1e-3);
      for (const auto& micro : batch) {
        model.forward(micro, step);
        model.backward(micro, step);
      }
      optim::clip_grad_norm(model.parameters(), 1.0, step);
      if (!guard.admit(step.result())) step.skip();
      const auto before = model.head.weight->to_host();
      adam.step(step);
      const bool was_skipped = step.result().skipped;
      CHECK((model.head.weight->to_host() == before) == was_skipped);
      skipped.add(was_skipped);
      told += was_skipped ? 's' : '.';
    }
  }
};

}  // namespace

TEST_CASE("a loop skips what the guard does not admit; stopped anywhere it goes on with the same judgement") {
  const TemporaryFolder folder;
  Run straight;
  straight.train(30);
  MESSAGE(straight.told);
  CHECK(straight.told.substr(0, 5) == ".....");  // the window is not full
  CHECK(straight.skipped.total() >= 2);
  CHECK(straight.skipped.total() <= 20);
  CHECK(straight.adam.steps() == 30 - straight.skipped.total());
  std::string told;
  for (int part = 0; part < 10; ++part) {
    Run run;
    if (part > 0) run.state.load(folder / "run");
    run.train(3);
    run.state.save(folder / "run");
    told += run.told;
  }
  straight.state.save(folder / "straight");
  CHECK(told == straight.told);
  CHECK(test::read_bytes(folder / "run") == test::read_bytes(folder / "straight"));
}
