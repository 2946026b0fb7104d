// SPDX-License-Identifier: MIT
/// @file
/// @brief Mean loss over batches: against logits and logarithms written out, however the batches are cut.
#include <cmath>
#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/evaluate/loss.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "io_support.hpp"
#include "stories_support.hpp"
#include "support.hpp"

using namespace storylm;

namespace {

using Model = nn::TransformerStack<double, Cpu, nn::LayerNorm, nn::Mlp>;
using Meter = evaluate::LossMeter<Model>;

StoryLoader<TokenLists> loader_with(index_t batch_size, index_t tokens_at_once) {
  return StoryLoader(
      test::random_stories(30, 4),
      {.batch_size = batch_size, .max_len = 16, .validation_fraction = 0.0, .capacity = {.tokens = tokens_at_once}});
}
/// Of one epoch.
Meter measured(const Model& model, index_t batch_size, index_t tokens_at_once) {
  auto loader = loader_with(batch_size, tokens_at_once);
  Meter meter(model, loader.capacity());
  for (index_t i = 0; i < loader.batches_per_epoch(); ++i)
    for (const auto& micro : loader.next()) meter.add(micro);
  return meter;
}

/// Sum of -log softmax(logits)[target], as the definition says.
double loss_sum(const Model& model, const Packed<Cpu>& batch) {
  auto cache = model.make_inference_cache(batch.capacity());
  const Pass<Cpu> pass{.device = model.device(), .batch = batch.view()};
  Tensor<double, Cpu> logits({batch.tokens(), model.shape().vocab_size}, model.device());
  model.logits(model.hidden(pass, cache), logits.matrix(), pass);
  double sum = 0.0;
  for (index_t t = 0; t < batch.tokens(); ++t) {
    const token_t target = pass.batch.targets[t];
    if (target < 0) continue;
    double exponentials = 0.0;
    for (index_t v = 0; v < model.shape().vocab_size; ++v) exponentials += std::exp(logits.matrix()(t, v));
    sum += std::log(exponentials) - logits.matrix()(t, target);
  }
  return sum;
}

}  // namespace

TEST_CASE("the mean over all target tokens, however stories are batched and cut") {
  const Model model(test::small_config, Cpu{});
  auto loader = loader_with(30, 0);
  const StepBatch& all = loader.next();
  REQUIRE(all.size() == 1);
  const double expected = loss_sum(model, all[0]) / static_cast<double>(all.targets());
  CHECK(expected > 2.0);
  for (const auto& sizes : {std::pair<index_t, index_t>{30, 0}, {7, 0}, {1, 0}, {30, 15}, {11, 40}}) {
    const auto batch_size = sizes.first;  // clang 14 captures no structured bindings
    const auto tokens = sizes.second;
    CAPTURE(batch_size);
    CAPTURE(tokens);
    const Meter meter = measured(model, batch_size, tokens);
    CHECK(meter.targets() == all.targets());
    CHECK(std::abs(meter.mean() - expected) <= 1e-13 * expected);
    CHECK(meter.perplexity() == std::exp(meter.mean()));
  }
}

TEST_CASE("positions without a target do not count") {
  const Model model(test::small_config, Cpu{});
  Packed<Cpu> batch({.tokens = 16, .sequences = 2, .longest = 8}, Cpu{});
  batch.append(std::vector<token_t>{1, 5, 6, 7}, std::vector<token_t>{5, no_target, 7, no_target}, 0);
  batch.append(std::vector<token_t>{1, 9}, {}, 1);
  Meter meter(model, batch.capacity());
  meter.add(batch);
  CHECK(meter.targets() == 2);
  CHECK(meter.mean() == doctest::Approx(loss_sum(model, batch) / 2.0).epsilon(1e-12));
}

TEST_CASE("no targets: there is no mean") {
  const Model model(test::small_config, Cpu{});
  Packed<Cpu> batch({.tokens = 16, .sequences = 2, .longest = 8}, Cpu{});
  Meter meter(model, batch.capacity());
  CHECK(std::isnan(meter.mean()));
  CHECK(std::isnan(meter.perplexity()));
  batch.append(std::vector<token_t>{1, 5, 6}, {}, 0);
  meter.add(batch);
  CHECK(meter.targets() == 0);
  CHECK(std::isnan(meter.mean()));
  batch.clear();
  meter.add(batch);
  CHECK(std::isnan(meter.mean()));
}

TEST_CASE("reset begins anew; dropout is off; a batch that is too large is refused") {
  const Model model(test::small_config, Cpu{});
  const Model dropping(test::small_config, Cpu{}, {.dropout = 0.5});
  CHECK(measured(model, 7, 0).mean() == measured(dropping, 7, 0).mean());
  auto loader = loader_with(7, 0);
  Meter meter(model, loader.capacity());
  meter.add(loader.next()[0]);
  const double first = meter.mean();
  meter.reset();
  CHECK(meter.targets() == 0);
  CHECK(std::isnan(meter.mean()));
  loader.rewind();
  meter.add(loader.next()[0]);
  CHECK(meter.mean() == first);
  Meter small(model, {.tokens = 4, .sequences = 1, .longest = 4});
  CHECK(
      test::contains(test::error_of<ShapeError>([&] { small.add(loader.next()[0]); }), "the cache is made for 4 in 1"));
  CHECK(small.targets() == 0);
}
