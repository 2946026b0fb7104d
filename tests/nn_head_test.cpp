// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <storylm/nn/head.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;
using Head = nn::Head<double, Cpu>;

constexpr index_t vocab_size = 11;
constexpr index_t width = 5;

/// A weight that belongs to someone else, as a tied head's does.
struct Owner {
  using Element = double;
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("weight", self.weight);
  }
  nn::Parameter<double, Cpu> weight{{vocab_size, width}};
};

TEST_CASE("head: loss by its formula; hidden states, weight and bias by differences; a tied weight too") {
  test::TrainingPass training({1, 0, 7, 2}, vocab_size);
  training.state.inverse_targets = 1.0 / static_cast<double>(training.batch.target_count());
  training.state.loss_scale = 4.0;  // what half precision asks for; taken out by clipping
  for (const bool tied : {false, true}) {
    for (const bool bias : {true, false}) {
      CAPTURE(tied);
      CAPTURE(bias);
      Head head({.width = width, .vocab_size = vocab_size, .bias = bias, .tied = tied});
      Owner owner;
      auto head_store = nn::allocate<double>(head, training.cpu, nn::Gradients::yes);
      auto owner_store = nn::allocate<double>(owner, training.cpu, nn::Gradients::yes);
      test::randomise(head);
      test::randomise(owner);
      CHECK(head.weight.has_value() == !tied);
      CHECK(nn::parameter_count(head) == (tied ? 0 : vocab_size * width) + (bias ? vocab_size : 0));
      const auto& weight = tied ? owner.weight : *head.weight;
      auto hidden = test::random<Case>({training.tokens(), width}, 1, training.cpu);
      auto cache = head.make_cache(training.cpu, training.capacity());

      double expected = 0.0;
      for (index_t t = 0; t < training.tokens(); ++t) {
        if (training.pass.batch.targets[t] < 0) continue;
        std::vector<double> logits;
        double exponentials = 0.0;
        for (index_t v = 0; v < vocab_size; ++v) {
          double logit = bias ? head.bias->value()(0, v) : 0.0;
          for (index_t c = 0; c < width; ++c) logit += hidden.matrix()(t, c) * weight.value()(v, c);
          logits.push_back(logit);
          exponentials += std::exp(logit);
        }
        expected += std::log(exponentials) - logits[static_cast<std::size_t>(training.pass.batch.targets[t])];
      }
      const auto loss = [&](Head::Cache* into) {
        double total = 0.0;
        head.loss(std::as_const(hidden).matrix(), weight.value(), &total, training.pass, into);
        return total;
      };
      CHECK(std::abs(loss(nullptr) - expected) <= Case::tolerance * expected);
      CHECK(loss(&cache) == loss(nullptr));
      double twice = expected;  // it adds
      head.loss(std::as_const(hidden).matrix(), weight.value(), &twice, training.pass, nullptr);
      CHECK(std::abs(twice - 2 * expected) <= Case::tolerance * expected);

      const auto dhidden =
          test::rows_to_host(head.backward(training.tokens(), weight.gradient(), training.pass, cache), training.cpu);
      const auto mean = [&] { return 4.0 * loss(nullptr) * training.state.inverse_targets; };
      test::check_tensor_differences<Case>("hidden", hidden, dhidden, mean);
      test::check_parameter_differences<Case>(head, mean);
      if (tied) test::check_parameter_differences<Case>(owner, mean);
      const auto once = weight.gradient_to_host();
      static_cast<void>(loss(&cache));
      static_cast<void>(head.backward(training.tokens(), weight.gradient(), training.pass, cache));  // adds
      auto sum = once;
      for (auto& g : sum) g *= 2;
      CHECK(test::relative_difference(weight.gradient_to_host(), sum) <= Case::tolerance);
    }
  }
}

TEST_CASE("rows beyond the chunk of 1,024: the same as in pieces") {
  constexpr index_t rows = 2 * 1024 + 100;
  Head head({.width = 3, .vocab_size = 7});
  const Cpu cpu;
  auto store = nn::allocate<double>(head, cpu, nn::Gradients::yes);
  test::randomise(head);
  const auto hidden = test::random<Case>({rows, 3}, 1, cpu);
  const Packed<Cpu> batch = test::packed({rows}, 7);
  StepState state;
  const auto pass_over = [&](index_t first, index_t count) {
    Pass<Cpu> pass{.device = cpu, .batch = batch.view(), .state = &state, .training = true};
    pass.batch.tokens = count;
    pass.batch.targets += first;
    return pass;
  };
  const auto run = [&](index_t piece) {
    store.zero_gradients();
    double total = 0.0;
    std::vector<double> dhidden;
    for (index_t first = 0; first < rows; first += piece) {
      const index_t count = std::min(piece, rows - first);
      const auto pass = pass_over(first, count);
      auto cache = head.make_cache(cpu, {.tokens = count, .sequences = 1, .longest = count});
      head.loss(hidden.matrix().slice_rows(first, count), head.weight->value(), &total, pass, &cache);
      const auto d = test::rows_to_host(head.backward(count, head.weight->gradient(), pass, cache), cpu);
      dhidden.insert(dhidden.end(), d.begin(), d.end());
    }
    return std::tuple{total, dhidden, test::gradients_of(head)};
  };
  const auto [total, dhidden, gradients] = run(rows);
  const auto [expected_total, expected_dhidden, expected_gradients] = run(100);
  CHECK(std::abs(total - expected_total) <= Case::tolerance * expected_total);
  CHECK(test::relative_difference(dhidden, expected_dhidden) <= Case::tolerance);
  for (std::size_t i = 0; i < gradients.size(); ++i)
    CHECK(test::relative_difference(gradients[i].second, expected_gradients[i].second) <= Case::tolerance);
}

TEST_CASE("losses of tokens: each is that of its row alone, over chunks too; together they are the loss") {
  constexpr index_t rows = 1024 + 100;
  const Cpu cpu;
  Head head({.width = 3, .vocab_size = 7});
  auto store = nn::allocate<double>(head, cpu, nn::Gradients::no);
  test::randomise(head);
  const auto hidden = test::random<Case>({rows, 3}, 1, cpu);
  const Packed<Cpu> batch = test::packed({rows}, 7);  // without a target at the end
  const Pass<Cpu> pass{.device = cpu, .batch = batch.view()};
  const std::span targets(pass.batch.targets, static_cast<std::size_t>(rows));
  std::vector<double> losses(targets.size(), -1.0);
  head.token_losses(hidden.matrix(), head.weight->value(), losses, targets, pass);
  double total = 0.0;
  head.loss(hidden.matrix(), head.weight->value(), &total, pass, nullptr);
  CHECK(std::abs(std::accumulate(losses.begin(), losses.end(), 0.0) - total) <= Case::tolerance * total);
  CHECK(losses.back() == 0.0);
  for (const index_t row : {0, 1023, 1024, 1122}) {
    CAPTURE(row);
    const auto at = static_cast<std::size_t>(row);
    std::vector<double> one(1);
    head.token_losses(hidden.matrix().slice_rows(row, 1), head.weight->value(), one, targets.subspan(at, 1), pass);
    CHECK(one[0] == losses[at]);
    CHECK(one[0] > 0.0);
  }
  head.token_losses(hidden.matrix().slice_rows(0, 0), head.weight->value(), {}, {}, pass);
}

TEST_CASE("positions without a target have no loss and exactly zero gradients") {
  Head head({.width = width, .vocab_size = vocab_size});
  const Cpu cpu;
  auto store = nn::allocate<double>(head, cpu, nn::Gradients::yes);
  test::randomise(head);
  const auto hidden = test::random<Case>({4, width}, 1, cpu);
  Packed<Cpu> batch({.tokens = 4, .sequences = 1, .longest = 4}, cpu);
  batch.append(std::vector<token_t>{1, 2, 3, 4}, {}, 0);
  StepState state;
  const Pass<Cpu> pass{.device = cpu, .batch = batch.view(), .state = &state, .training = true};
  auto cache = head.make_cache(cpu, batch.capacity());
  double total = 0.0;
  head.loss(hidden.matrix(), head.weight->value(), &total, pass, &cache);
  CHECK(total == 0.0);
  CHECK(test::rows_to_host(head.backward(4, head.weight->gradient(), pass, cache), cpu) == std::vector<double>(20));
  for (const auto& [name, values] : test::gradients_of(head)) CHECK(values == std::vector<double>(values.size()));
}

TEST_CASE("logits of some rows, by both products") {
  Head head({.width = width, .vocab_size = vocab_size});
  const Cpu cpu;
  auto store = nn::allocate<double>(head, cpu, nn::Gradients::no);
  test::randomise(head);
  const auto hidden = test::random<Case>({4, width}, 1, cpu);
  for (const bool row_invariant : {false, true}) {
    const Pass<Cpu> pass{.device = cpu, .batch = {}, .row_invariant = row_invariant};
    Tensor<double, Cpu> all({4, vocab_size}, cpu);
    Tensor<double, Cpu> some({2, vocab_size}, cpu);
    head.logits(hidden.matrix(), head.weight->value(), all.matrix(), pass);
    head.logits(hidden.matrix().slice_rows(1, 2), head.weight->value(), some.matrix(), pass);
    for (index_t v = 0; v < vocab_size; ++v) {
      double expected = head.bias->value()(0, v);
      for (index_t c = 0; c < width; ++c) expected += hidden.matrix()(2, c) * head.weight->value()(v, c);
      CHECK(std::abs(all.matrix()(2, v) - expected) < 1e-13);
      CHECK(some.matrix()(1, v) == all.matrix()(2, v));
    }
  }
}

}  // namespace
