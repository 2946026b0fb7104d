// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief A run that stops and goes on, in new objects from a file, is in every bit the run that never stopped.
#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/data/loader.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/schedules.hpp>
#include <storylm/train/history.hpp>
#include <storylm/train/run_state.hpp>
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

namespace {

using Model = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// What a run is told; the same for the whole run, except for what does not matter.
struct Settings {
  index_t batch_size = 8;
  index_t tokens_at_once = 40;  // several micro-batches a step
  double lr = 3e-3;
  std::uint64_t seed = 5;
  std::uint64_t data_seed = 6;
  int threads = 1;
};

/// A training loop as a user writes it: dropout, micro-batches, clipping, Adam, plateau, validation every third step.
class Run {
 public:
  explicit Run(const Settings& settings)
      : device_({.threads = settings.threads}),
        model_(test::small_config, device_, {.dropout = 0.1, .seed = settings.seed}),
        adam_(model_.parameters()),
        plateau_({.lr = settings.lr, .factor = 0.5, .patience = 1, .threshold = 0.1}),
        loader_(test::random_stories(60, settings.data_seed), {.batch_size = settings.batch_size,
                                                               .max_len = 16,
                                                               .seed = settings.seed,
                                                               .capacity = {.tokens = settings.tokens_at_once}}),
        step_(model_, loader_.capacity(), settings.seed),
        state_(model_) {
    state_.keep("optimizer", adam_);
    state_.keep("schedule", plateau_);
    state_.keep("loader", loader_);
    state_.keep("step", step_);
    state_.keep("history", history_);
    state_.expect("batch_size", std::to_string(settings.batch_size));
    state_.expect("seed", std::to_string(settings.seed));
    state_.set_tokenizer_hash(settings.data_seed);
  }

  void train(int steps) {
    for (int i = 0; i < steps; ++i) {
      const StepBatch& batch = loader_.next();
      most_micro_batches = std::max(most_micro_batches, batch.size());
      step_.begin(batch, plateau_.lr());
      for (const auto& micro : batch) {
        model_.forward(micro, step_);
        model_.backward(micro, step_);
      }
      optim::clip_grad_norm(model_.parameters(), 1.0, step_);
      adam_.step(step_);
      const double loss = step_.result().loss;
      history_.add_loss(loss);
      if (step_.steps() % 3 != 0) continue;
      history_.add_validation(static_cast<std::int64_t>(step_.steps()), loss);
      plateau_.step(loss);
    }
  }
  void save(const std::filesystem::path& path) const { state_.save(path); }
  void load(const std::filesystem::path& path) { state_.load(path); }

  /// Weights, moments, t, rate, cursor, counters, loss lists: all bits.
  [[nodiscard]] std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> all;
    nn::for_each_parameter(model_, [&](const std::string& name, const auto& p) {
      const auto values = p.to_host();
      all["model." + name] =
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values.front()));
    });
    all.merge(state_bytes(adam_, "optimizer."));
    all.merge(state_bytes(plateau_, "schedule."));
    all.merge(state_bytes(loader_, "loader."));
    all.merge(state_bytes(step_, "step."));
    all.merge(state_bytes(history_, "history."));
    return all;
  }
  [[nodiscard]] const train::History& history() const { return history_; }
  [[nodiscard]] const StoryLoader<TokenLists>& loader() const { return loader_; }
  [[nodiscard]] double lr() const { return plateau_.lr(); }

  std::size_t most_micro_batches = 0;

 private:
  Cpu device_;
  Model model_;
  optim::Adam<float, Cpu> adam_;
  optim::ReduceOnPlateau plateau_;
  StoryLoader<TokenLists> loader_;
  train::Step<Model> step_;
  train::History history_;
  train::RunState state_;
};

/// Names of what differs.
std::string differing(const Run& a, const Run& b) {
  const auto left = a.everything();
  const auto right = b.everything();
  std::string names;
  if (left.size() != right.size()) names = "(another number of members) ";
  for (const auto& [name, bytes] : left) {
    const auto found = right.find(name);
    if (found == right.end() || found->second != bytes) names += name + ' ';
  }
  return names;
}

}  // namespace

TEST_CASE("twenty steps straight, and with a stop anywhere: every bit is the same") {
  const TemporaryFolder folder;
  const Settings settings;
  Run straight(settings);
  CHECK(straight.loader().batches_per_epoch() == 8);  // 59 stories
  straight.train(20);
  CHECK(straight.most_micro_batches > 1);
  CHECK(straight.loader().epoch() == 2);
  CHECK(straight.history().losses().front() > straight.history().losses().back());
  CHECK(straight.lr() < settings.lr);  // the plateau did something that must not be forgotten

  for (const int stop : {1, 7, 8, 9, 19}) {  // in the middle of an epoch, at its end, right behind it
    CAPTURE(stop);
    {
      Run first(settings);
      first.train(stop);
      first.save(folder / "run");
      CHECK(differing(first, straight) != "");
    }
    Run second(settings);
    second.load(folder / "run");
    second.train(20 - stop);
    CHECK(differing(second, straight) == "");
  }
}

TEST_CASE("a run may stop at every step, and go on with other threads") {
  const TemporaryFolder folder;
  Run straight(Settings{});
  straight.train(6);
  for (int step = 0; step < 6; ++step) {
    Run part(Settings{.threads = 1 + step % 3});
    if (step > 0) part.load(folder / "run");
    part.train(1);
    part.save(folder / "run");
    if (step == 5) CHECK(differing(part, straight) == "");
  }
}

TEST_CASE("saving disturbs nothing, and a state saved and loaded is saved again as the same file") {
  const TemporaryFolder folder;
  Run plain(Settings{});
  Run saving(Settings{});
  for (int i = 0; i < 4; ++i) {
    plain.train(1);
    saving.train(1);
    saving.save(folder / "run");
  }
  CHECK(differing(saving, plain) == "");
  Run loaded(Settings{});
  loaded.load(folder / "run");
  CHECK(differing(loaded, plain) == "");
  loaded.save(folder / "again");
  CHECK(test::read_bytes(folder / "run") == test::read_bytes(folder / "again"));
}

TEST_CASE("other settings are refused, and the run is as it was") {
  const TemporaryFolder folder;
  Run saved(Settings{});
  saved.train(3);
  saved.save(folder / "run");
  const auto refusal = [&](const Settings& settings) {
    Run other(settings);
    other.train(2);
    Run untouched(settings);
    untouched.train(2);
    const std::string message = error_of([&] { other.load(folder / "run"); });
    CHECK(differing(other, untouched) == "");
    return message;
  };
  CHECK(contains(refusal({.batch_size = 9}), "the run began with batch_size 8, now it is 9"));
  CHECK(contains(refusal({.seed = 6}), "the run began with seed 5, now it is 6"));
  CHECK(contains(refusal({.data_seed = 7}), "belongs to the tokenizer"));
}

TEST_CASE("a damaged file changes nothing, and the run goes on as if it had not been tried") {
  const TemporaryFolder folder;
  Run straight(Settings{});
  straight.train(5);
  Run run(Settings{});
  run.train(3);
  run.save(folder / "run");
  const io::SafetensorsFile file(folder / "run");
  for (const char* tensor : {"embedding.weight", "head.bias", "run.optimizer.steps", "run.history.losses"}) {
    const auto& damaged = file.at(tensor);
    test::write_bytes(folder / "damaged", test::read_bytes(folder / "run"));
    const char byte = test::read_bytes(folder / "run")[damaged.begin];
    test::poke(folder / "damaged", damaged.begin, static_cast<char>(byte ^ 64));
    CHECK(contains(error_of([&] { run.load(folder / "damaged"); }), "tensor " + std::string(tensor) + " is damaged"));
  }
  run.train(2);
  CHECK(differing(run, straight) == "");
}
