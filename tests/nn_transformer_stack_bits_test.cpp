// SPDX-License-Identifier: MIT
// The whole model in float: the same bits with any number of threads, and nothing allocated in a steady step.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/step.hpp>

#include "allocation_counter.hpp"
#include "support.hpp"

namespace {
using namespace storylm;
using Single = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// Wide enough for several pieces of work in every kernel.
constexpr TransformerConfig wide_config = {
    .vocab_size = 600, .d_model = 96, .d_ff = 384, .n_layers = 2, .n_heads = 4, .max_len = 160};

TEST_CASE("one, two or three threads: the same bits of loss, logits, gradients and parameters") {
  const Packed<Cpu> batch = test::packed({160, 37, 1, 0, 150, 90}, 600);
  const auto run = [&](int threads) {
    const Cpu cpu({.threads = threads});
    Single model(wide_config, cpu, {.dropout = 0.1});
    train::Step<Single> step(model, batch.capacity());
    optim::Adam adam(model.parameters());
    double loss = 0.0;
    for (int i = 0; i < 2; ++i) {
      step.begin(batch.target_count(), 1e-2);
      model.forward(batch, step);
      model.backward(batch, step);
      optim::clip_grad_norm(model.parameters(), 0.1, step);
      adam.step(step);
      loss += step.result().loss + step.result().grad_norm;
    }
    std::vector<std::vector<float>> values;
    nn::for_each_parameter(model, [&](const std::string&, auto& p) {
      values.push_back(p.gradient_to_host());
      values.push_back(p.to_host());
    });
    auto cache = model.make_inference_cache(batch.capacity());
    Tensor<float, Cpu> logits({batch.tokens(), 600}, cpu);
    const Pass<Cpu> pass{.device = cpu, .batch = batch.view()};
    model.logits(model.hidden(pass, cache), logits.matrix(), pass);
    values.push_back(logits.to_host());
    return std::pair{loss, values};
  };
  const auto expected = run(1);
  CHECK(std::isfinite(expected.first));
  CHECK((run(2) == expected));
  CHECK((run(3) == expected));
}

TEST_CASE("a steady training step allocates nothing; a shorter batch and an inference pass neither") {
  const Cpu cpu({.threads = 2});
  const Packed<Cpu> batch = test::packed({160, 37, 1, 150}, 600);
  const Packed<Cpu> shorter = test::packed({12, 30}, 600);
  Single model(wide_config, cpu, {.dropout = 0.1});
  train::Step<Single> step(model, batch.capacity());
  optim::Adam adam(model.parameters());
  auto cache = model.make_inference_cache(batch.capacity());
  Tensor<double, Cpu> total({1}, cpu);
  const auto train = [&](const Packed<Cpu>& one) {
    const long before = allocations;
    step.begin(one.target_count(), 1e-3);
    model.forward(one, step);
    model.backward(one, step);
    optim::clip_grad_norm(model.parameters(), 1.0, step);
    adam.step(step);
    const Pass<Cpu> pass{.device = cpu, .batch = one.view()};
    model.loss(model.hidden(pass, cache), total.data(), pass);
    return allocations - before;
  };
  CHECK(train(batch) > 0);  // the first step makes the scratch: the counter counts
  CHECK(train(batch) == 0);
  CHECK(train(shorter) == 0);
  CHECK(train(batch) == 0);
}

}  // namespace
