// SPDX-License-Identifier: MIT
// LINK: io
// TIMEOUT: 300
// Whole models in bf16 on the CPU: against PyTorch's files, against the same model in double, and against themselves.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "family_configs.hpp"
#include "model_reference_support.hpp"
#include "support.hpp"

using namespace storylm;

namespace {

/// Several heads, tiles and pieces of work.
constexpr TransformerConfig widened(const TransformerConfig& config, int heads) {
  return test::resized(
      config,
      {.vocab_size = 101, .d_model = 96, .d_ff = 160, .n_heads = heads, .max_len = 70, .head_dim = 24, .window = 40});
}
const std::pair<std::string, TransformerConfig> families[] = {{"seed", widened(test::seed_config, 4)},
                                                              {"gpt2", widened(test::gpt2_config, 2)},
                                                              {"llama", widened(test::llama_config, 4)}};

/// What some steps came to.
struct Run {
  std::vector<double> losses;
  std::vector<std::pair<std::string, std::vector<double>>> gradients;  // of the first step
  std::vector<std::pair<std::string, std::vector<double>>> weights;    // masters after the last
};

template <class T>
Run run_training(const TransformerConfig& config, double dropout, int steps, int threads) {
  Run run;
  const Cpu device({.threads = threads});
  nn::with_stack_type<T, Cpu>(config, [&]<class Stack>(std::type_identity<Stack>) {
    Stack model(config, device, {.dropout = dropout, .seed = 3});
    // Of the same weights as in bf16, so that only the computation differs.
    nn::for_each_parameter(model, [](const std::string&, auto& p) {
      auto values = p.to_host();
      for (auto& v : values) v = static_cast<float>(bf16(static_cast<float>(v)));
      p.assign(values);
    });
    const Packed<Cpu> batch = test::packed({64, 1, 70, 33, 65, 17}, config.vocab_size, 5);
    train::Step<Stack> step(model, batch.capacity(), 99);
    optim::Adam adam(model.parameters());
    const auto read = [](const auto& values) { return std::vector<double>(values.begin(), values.end()); };
    for (int i = 0; i < steps; ++i) {
      step.begin(batch.target_count(), 1e-3);
      model.forward(batch, step);
      model.backward(batch, step);
      if (i == 0) {
        nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
          run.gradients.emplace_back(name, test::without_keys(name, read(p.gradient_to_host())));
        });
      }
      optim::clip_grad_norm(model.parameters(), 1.0, step);
      adam.step(step);
      run.losses.push_back(step.result().loss);
    }
    nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
      run.weights.emplace_back(name, read(p.to_host()));
      if constexpr (sizeof(T) == 2) {
        const auto masters = p.to_host();
        std::size_t unequal = 0;
        for (std::size_t k = 0; k < masters.size(); ++k) unequal += p.value().data[k] == T(masters[k]) ? 0 : 1;
        CAPTURE(name);
        CHECK(unequal == 0);  // a value is its master, rounded
      }
    });
  });
  return run;
}

}  // namespace

// bf16 has 8 bits: a rounding is up to 0.4 %, and a result has a dozen of them.
TEST_CASE("models agree with PyTorch in bfloat16, as far as it goes") {
  for (const auto& name : test::reference_models) {
    test::compare_with_pytorch<bf16>(name, "", Cpu{},
                                     {.logits = 2e-2, .gradient = 2.5e-1, .training = 3e-2, .zero = 3e-3});
  }
}

TEST_CASE("losses and gradients are those in double but for bfloat16's roundings, dropout's masks among them") {
  for (const auto& [name, config] : families) {
    CAPTURE(name);
    // A ReLU that a rounding of half a per cent switches is one of two hundred; their root is 7 %.
    const double bound = config.feed_forward == FeedForwardKind::relu ? 8e-2 : 3e-2;
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(dropout);
      const Run ours = run_training<bf16>(config, dropout, 1, 2);
      const Run truth = run_training<double>(config, dropout, 1, 2);
      CHECK(std::abs(ours.losses[0] - truth.losses[0]) <= 2e-3 * truth.losses[0]);
      for (std::size_t i = 0; i < truth.gradients.size(); ++i) {
        CAPTURE(truth.gradients[i].first);
        CHECK(test::model_difference(ours.gradients[i].second, truth.gradients[i].second, true) <= bound);
      }
    }
  }
}

TEST_CASE("a run in bfloat16 is the same bit for bit with 1, 2 and 3 threads") {
  for (const auto& [name, config] : families) {
    CAPTURE(name);
    const Run one = run_training<bf16>(config, 0.1, 3, 1);
    CHECK(one.losses[2] < one.losses[0]);
    for (const int threads : {2, 3}) {
      const Run other = run_training<bf16>(config, 0.1, 3, threads);
      CHECK(other.losses == one.losses);
      CHECK((other.gradients == one.gradients));
      CHECK((other.weights == one.weights));
    }
  }
}
