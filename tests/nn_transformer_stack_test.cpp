// SPDX-License-Identifier: MIT
// The whole model in double: gradients by differences for each family, that they depend neither on packing,
// micro-batches nor spare memory, and what forward and backward refuse.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/train/step.hpp>

#include "stack_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;
using test::for_each_family;

template <class Model>
void check_same_gradients(Model& model, const decltype(test::gradients_of(std::declval<Model&>()))& expected) {
  const auto gradients = test::gradients_of(model);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(test::relative_difference(gradients[i].second, expected[i].second) <= Case::tolerance);
  }
}

TEST_CASE("every family: the loss's gradient by differences, for every parameter") {
  for (const double dropout : {0.0, 0.1}) {
    CAPTURE(dropout);
    for_each_family({.dropout = dropout, .rope_theta = 100.0}, [&](auto& model) {
      test::TrainingPass training({1, 0, 8, 2}, 13);
      training.state.inverse_targets = 1.0 / static_cast<double>(training.batch.target_count());
      auto cache = model.make_training_cache(training.capacity());
      const auto loss = [&] {
        training.state.loss_sum = 0.0;
        model.forward(training.pass, cache);
        return training.state.loss_sum * training.state.inverse_targets;
      };
      CHECK(loss() > 0.5);
      model.backward(training.pass, cache);
      test::check_parameter_differences<Case>(model, loss, 3);
    });
  }
}

/// Gives `to` the values of `from`, which has the same parameters.
template <class M>
void copy_parameters(M& to, const M& from) {
  std::vector<std::vector<double>> values;
  nn::for_each_parameter(from, [&](const std::string&, const auto& p) { values.push_back(p.to_host()); });
  std::size_t at = 0;
  nn::for_each_parameter(to, [&](const std::string&, auto& p) { p.assign(values[at++]); });
}

TEST_CASE("a stack is its parts with the config's options, every use of dropout at its own site") {
  constexpr double dropout = 0.1, eps = 1e-3, theta = 100.0;
  for_each_family({.dropout = dropout, .norm_eps = eps, .rope_theta = theta}, [&](auto& model) {
    using Model = std::remove_reference_t<decltype(model)>;
    const bool llama = std::is_same_v<Model, test::Llama>;
    const bool pre_norm = model.shape().pre_norm;
    const bool gpt2 = pre_norm && !llama;
    const test::TrainingPass training({1, 8, 2}, 13);
    const Cpu& cpu = training.cpu;
    auto cache = model.make_training_cache(training.capacity());
    const auto hidden = test::rows_to_host(model.hidden(training.pass, cache), cpu);

    nn::Embedding<double, Cpu> embedding({.vocab_size = 13,
                                          .width = 8,
                                          .max_len = 8,
                                          .positions = gpt2    ? nn::AddedPositions::learned
                                                       : llama ? nn::AddedPositions::none
                                                               : nn::AddedPositions::sinusoidal,
                                          .scale = !pre_norm,
                                          .dropout = dropout},
                                         cpu);
    auto embedding_store = nn::allocate<double>(embedding, cpu, nn::Gradients::no);
    copy_parameters(embedding, model.embedding);
    auto embedding_cache = embedding.make_cache(cpu, training.capacity());
    nn::ResidualStream<const double> stream{embedding.forward(training.pass, embedding_cache), {}, {}};
    std::vector<typename Model::BlockLayer::Cache> caches(2);
    for (std::uint32_t b = 0; b < 2; ++b) {
      typename Model::BlockLayer block(
          {.attention = {.width = 8,
                         .spec = llama ? AttentionSpec{.heads = 4, .kv_heads = 2, .head_dim = 4, .window = 4}
                                       : AttentionSpec{.heads = 2, .kv_heads = 2, .head_dim = 4},
                         .qkv_bias = !llama,
                         .out_bias = !llama,
                         .rope = llama ? std::optional<nn::RopeOptions>({.theta = theta}) : std::nullopt,
                         .dropout = {dropout, 1 + 4 * b}},
           .feed_forward = {.width = 8,
                            .hidden = 12,
                            .bias = !llama,
                            .activation = gpt2 ? Activation::gelu_tanh : Activation::relu,
                            .dropout = {dropout, 3 + 4 * b}},
           .norm = {.width = 8, .eps = eps},
           .pre_norm = pre_norm,
           .attention_branch = {dropout, 2 + 4 * b},
           .feed_forward_branch = {dropout, 4 + 4 * b}});
      auto store = nn::allocate<double>(block, cpu, nn::Gradients::no);
      copy_parameters(block, model.blocks[b]);
      caches[b] = block.make_cache(cpu, training.capacity());
      stream = block.forward(stream, training.pass, caches[b]);
    }
    auto norm_cache = model.norm.make_cache(cpu, training.capacity());
    CHECK(test::rows_to_host(model.norm.forward(stream, training.pass, norm_cache), cpu) == hidden);
  });
}

/// Stories of a step; story s has ordinal s.
struct Story {
  std::vector<token_t> ids, targets;
};
std::vector<Story> stories(const std::vector<index_t>& lengths) {
  std::vector<Story> all;
  for (const index_t length : lengths) {
    RandomStream random(17, all.size());
    Story story;
    for (index_t i = 0; i <= length; ++i) story.ids.push_back(static_cast<token_t>(random.below(13)));
    story.targets.assign(story.ids.begin() + 1, story.ids.end());
    story.ids.pop_back();
    all.push_back(story);
  }
  return all;
}

TEST_CASE("gradients are of the step's mean, however its stories are packed, with the same masks") {
  const auto all = stories({8, 3, 1, 5, 6});
  const Capacity capacity{.tokens = 23, .sequences = 5, .longest = 8};
  for_each_family({.dropout = 0.1, .rope_theta = 100.0}, [&](auto& model) {
    using Step = train::Step<std::remove_reference_t<decltype(model)>>;
    const auto run = [&](const std::vector<std::vector<std::size_t>>& micro_batches, std::uint64_t seed) {
      Step step(model, capacity, seed);
      step.begin(23, 0.0);
      Packed<Cpu> batch(capacity, Cpu{});
      for (const auto& numbers : micro_batches) {
        batch.clear();
        for (const std::size_t s : numbers) batch.append(all[s].ids, all[s].targets, static_cast<std::uint32_t>(s));
        model.forward(batch, step);
        model.backward(batch, step);
      }
      return step.result().loss;
    };
    const double loss = run({{0, 1, 2, 3, 4}}, 7);
    const auto expected = test::gradients_of(model);
    const std::vector<std::vector<std::size_t>> others[] = {
        {{4, 2, 0, 3, 1}}, {{0, 1}, {2, 3, 4}}, {{3}, {4}, {0}, {2}, {1}}};
    for (const auto& micro_batches : others) {
      CHECK(std::abs(run(micro_batches, 7) - loss) <= Case::tolerance * loss);
      check_same_gradients(model, expected);
    }
    Packed<Cpu> batch(capacity, Cpu{});  // the same without a train::Step
    for (std::uint32_t s = 0; s < 5; ++s) batch.append(all[s].ids, all[s].targets, s);
    StepState state{.inverse_targets = 1.0 / 23.0};
    const Pass<Cpu> pass{.device = model.device(), .batch = batch.view(), .state = &state, .seed = 7, .training = true};
    auto cache = model.make_training_cache(capacity);
    model.parameters().zero_gradients();
    model.forward(pass, cache);
    model.backward(pass, cache);
    CHECK(std::abs(state.loss_sum / 23.0 - loss) <= Case::tolerance * loss);
    check_same_gradients(model, expected);
    CHECK(std::abs(run({{0, 1, 2, 3, 4}}, 8) - loss) > 1e-4 * loss);  // dropout is on: another seed, another loss
  });
}

/// Calls f with every tensor that a cache holds.
template <class Cache, class F>
void for_each_tensor(Cache& cache, F&& f) {
  const auto norm = [&](auto& c) {
    f(c.y);
    f(c.sum);
    f(c.stats);
  };
  f(cache.embedding.y);
  for (auto& block : cache.blocks) {
    norm(block.norm1);
    norm(block.norm2);
    f(block.attention.qkv);
    f(block.attention.mixed);
    f(block.attention.lse);
    f(block.attention.y);
    if constexpr (requires { block.feed_forward.saved; }) {
      if (block.feed_forward.saved) f(block.feed_forward.saved);
    } else {
      f(block.feed_forward.gate_up);
    }
    f(block.feed_forward.hidden);
    f(block.feed_forward.y);
  }
  norm(cache.norm);
  f(cache.head.dhidden);
  f(cache.head.dweight);
  if (cache.head.dbias) f(cache.head.dbias);
}

TEST_CASE("memory to spare, full of NaN and ids that do not exist, changes no bit") {
  for_each_family({.dropout = 0.1, .rope_theta = 100.0}, [&](auto& model) {
    const auto run = [&](const Capacity& capacity) {
      Packed<Cpu> batch(capacity, Cpu{});
      for (std::uint32_t s = 0; static_cast<index_t>(s) < capacity.sequences; ++s) {
        const std::vector<token_t> unreal(static_cast<std::size_t>(capacity.tokens / capacity.sequences), 1'000'000);
        batch.append(unreal, unreal, 1'000 + s);
      }
      batch.clear();
      const auto all = stories({8, 1, 4});
      for (std::uint32_t s = 0; s < 3; ++s) batch.append(all[s].ids, all[s].targets, s);
      StepState state{.step = 3, .inverse_targets = 1.0 / 13.0};
      const Pass<Cpu> pass{
          .device = model.device(), .batch = batch.view(), .state = &state, .seed = 5, .training = true};
      auto cache = model.make_training_cache(capacity);
      for_each_tensor(cache, [](auto& tensor) {
        std::fill_n(tensor.data(), tensor.size(), std::numeric_limits<double>::quiet_NaN());
      });
      model.parameters().zero_gradients();
      model.forward(pass, cache);
      model.backward(pass, cache);
      return std::pair{state.loss_sum, test::gradients_of(model)};
    };
    const auto exact = run({.tokens = 13, .sequences = 3, .longest = 8});
    CHECK(std::isfinite(exact.first));
    CHECK(run({.tokens = 40, .sequences = 8, .longest = 8}) == exact);
  });
}

TEST_CASE("an empty batch has no loss and no gradients") {
  for_each_family({.dropout = 0.1}, [&](auto& model) {
    for (const std::vector<index_t>& lengths : {std::vector<index_t>{}, std::vector<index_t>{0, 0}}) {
      const Capacity capacity{.tokens = 4, .sequences = 2, .longest = 4};
      Packed<Cpu> batch(capacity, Cpu{});
      for (std::size_t s = 0; s < lengths.size(); ++s) batch.append({}, {}, static_cast<std::uint32_t>(s));
      StepState state;
      const Pass<Cpu> pass{.device = model.device(), .batch = batch.view(), .state = &state, .training = true};
      auto cache = model.make_training_cache(capacity);
      model.parameters().zero_gradients();
      model.forward(pass, cache);
      model.backward(pass, cache);
      CHECK(state.loss_sum == 0.0);
      for (const auto& [name, values] : test::gradients_of(model)) CHECK(values == std::vector<double>(values.size()));
    }
  });
}

TEST_CASE("an inference cache, of two blocks for three, gives the hidden states of a training cache, bit for bit") {
  const test::TrainingPass training({1, 8, 2}, 13);
  const auto check = [&](auto model) {
    test::randomise(model, 0.4, 0.1);
    auto small = model.make_inference_cache(training.capacity());
    auto large = model.make_training_cache(training.capacity());
    CHECK(small.blocks.size() == 2);
    CHECK(large.blocks.size() == 3);
    CHECK(test::rows_to_host(model.hidden(training.pass, small), training.cpu) ==
          test::rows_to_host(model.hidden(training.pass, large), training.cpu));
    double total = 0.0;
    model.loss(model.hidden(training.pass, small), &total, training.pass);
    StepState state{.step = training.state.step};
    Pass<Cpu> pass = training.pass;
    pass.state = &state;
    model.forward(pass, large);
    CHECK(total == state.loss_sum);
  };
  TransformerConfig config = test::seed_config;
  config.n_layers = 3;
  check(test::Classic(config, training.cpu, {.dropout = 0.1}));
  config = test::llama_config;
  config.n_layers = 3;
  check(test::Llama(config, training.cpu, {.dropout = 0.1}));
}

TEST_CASE("a model moves with its parameters, and trains on") {
  const Cpu cpu;
  std::vector<test::Classic> models;
  models.emplace_back(test::seed_config, cpu);
  models.emplace_back(test::seed_config, cpu);  // moves the first
  test::TrainingPass training({8}, 13);
  const auto loss = [&](test::Classic& model) {
    training.state.loss_sum = 0.0;
    auto cache = model.make_training_cache(training.capacity());
    model.forward(training.pass, cache);
    model.backward(training.pass, cache);
    return training.state.loss_sum;
  };
  CHECK(loss(models[0]) == loss(models[1]));
  CHECK(test::gradients_of(models[0]) == test::gradients_of(models[1]));
}

TEST_CASE("batches and caches that do not fit are refused") {
  const Cpu cpu;
  test::Classic model(test::seed_config, cpu, {}, nn::Gradients::no);
  StepState state;
  const auto forward = [&](const std::vector<index_t>& lengths, const Capacity& capacity, bool training = true) {
    const Packed<Cpu> batch = test::packed(lengths, 13);
    auto cache = training ? model.make_training_cache(capacity) : model.make_inference_cache(capacity);
    const Pass<Cpu> pass{.device = cpu, .batch = batch.view(), .state = &state, .training = true};
    model.forward(pass, cache);
  };
  const Capacity capacity{.tokens = 8, .sequences = 2, .longest = 8};
  forward({6, 2}, capacity);
  CHECK_THROWS_WITH_AS(forward({6, 3}, capacity),
                       "[TransformerStack] the batch has 9 tokens in 2 sequences, the cache is made for 8 in 2",
                       ShapeError);
  CHECK_THROWS_WITH_AS(forward({2, 2, 2}, capacity),
                       "[TransformerStack] the batch has 6 tokens in 3 sequences, the cache is made for 8 in 2",
                       ShapeError);
  CHECK_THROWS_WITH_AS(forward({6, 2}, {.tokens = 8, .sequences = 2, .longest = 5}),
                       "[TransformerStack] a sequence has 6 tokens, the cache is made for 5", ShapeError);
  CHECK_THROWS_WITH_AS(forward({9}, {.tokens = 9, .sequences = 1, .longest = 9}),
                       "[TransformerStack] a sequence of 9 tokens exceeds max_len 8", ShapeError);
  CHECK_THROWS_WITH_AS(forward({2}, capacity, false), "[TransformerStack::forward] needs a training cache",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(static_cast<void>(model.make_inference_cache({.tokens = 8, .sequences = 0, .longest = 8})),
                       "[make_cache] capacity must be positive: 8 tokens, 0 sequences, the longest of 8",
                       ArgumentError);

  const Packed<Cpu> batch = test::packed({3}, 13);
  auto cache = model.make_training_cache(batch.capacity());
  Pass<Cpu> pass{.device = cpu, .batch = batch.view()};
  CHECK_THROWS_WITH_AS(model.forward(pass, cache), "[TransformerStack::forward] needs a StepState to add the loss to",
                       ArgumentError);
  pass.state = &state;
  model.forward(pass, cache);
  CHECK_THROWS_WITH_AS(model.backward(pass, cache), "[TransformerStack::backward] the model was made without gradients",
                       ArgumentError);
  const nn::KvViews<double> kv(3);
  CHECK_THROWS_WITH_AS(static_cast<void>(model.hidden(pass, cache, kv)),
                       "[TransformerStack] got cached keys and values of 3 blocks, the model has 2", ShapeError);
}

}  // namespace
