// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/feed_forward.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;

constexpr index_t width = 5;
constexpr index_t hidden = 11;

double value(Activation f, double x) {
  switch (f) {
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      break;
  }
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

/// y = x W^T + b, (tokens, out).
std::vector<double> projected(const nn::Linear<double, Cpu>& linear, const std::vector<double>& x) {
  const index_t rows = static_cast<index_t>(x.size()) / linear.in();
  std::vector<double> y;
  for (index_t r = 0; r < rows; ++r) {
    for (index_t o = 0; o < linear.out(); ++o) {
      double sum = linear.bias ? linear.bias->value()(0, o) : 0.0;
      for (index_t i = 0; i < linear.in(); ++i)
        sum += x[static_cast<std::size_t>(r * linear.in() + i)] * linear.weight.value()(o, i);
      y.push_back(sum);
    }
  }
  return y;
}

TEST_CASE("Mlp: by the formula, and by differences; no input lies near ReLU's kink") {
  const test::TrainingPass training;
  for (const Activation f : {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf}) {
    for (const bool bias : {true, false}) {
      for (const double dropout : {0.0, 0.1}) {
        CAPTURE(static_cast<int>(f));
        CAPTURE(bias);
        CAPTURE(dropout);
        const nn::Dropout drop{dropout, 3};
        nn::Mlp<double, Cpu> mlp({.width = width, .hidden = hidden, .bias = bias, .activation = f, .dropout = drop});
        auto store = nn::allocate<double>(mlp, training.cpu, nn::Gradients::yes);
        test::randomise(mlp);
        auto x = test::random<Case>({training.tokens(), width}, 1, training.cpu);

        auto inside = projected(mlp.up, x.to_host());
        for (const double pre : inside) REQUIRE(std::abs(pre) > 1e-3);
        for (double& v : inside) v = value(f, v);
        const auto expected = projected(mlp.down, test::dropped(inside, hidden, drop, training.pass));
        auto cache = mlp.make_cache(training.cpu, training.capacity());
        CHECK(test::relative_difference(test::rows_to_host(mlp.forward(x.matrix(), training.pass, cache), training.cpu),
                                        expected) <= Case::tolerance);
        test::check_gradients<Case>(mlp, store, std::move(x), training.pass);
      }
    }
  }
}

TEST_CASE("SwiGlu: by the formula, gate first, and by differences") {
  const test::TrainingPass training;
  for (const bool bias : {true, false}) {
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(bias);
      CAPTURE(dropout);
      const nn::Dropout drop{dropout, 3};
      nn::SwiGlu<double, Cpu> layer({.width = width, .hidden = hidden, .bias = bias, .dropout = drop});
      auto store = nn::allocate<double>(layer, training.cpu, nn::Gradients::yes);
      test::randomise(layer);
      auto x = test::random<Case>({training.tokens(), width}, 1, training.cpu);

      const auto both = projected(layer.gate_up, x.to_host());
      std::vector<double> inside;
      for (index_t t = 0; t < training.tokens(); ++t) {
        for (index_t c = 0; c < hidden; ++c) {
          const double gate = both[static_cast<std::size_t>(t * 2 * hidden + c)];
          const double up = both[static_cast<std::size_t>(t * 2 * hidden + hidden + c)];
          inside.push_back(gate / (1.0 + std::exp(-gate)) * up);
        }
      }
      const auto expected = projected(layer.down, test::dropped(inside, hidden, drop, training.pass));
      auto cache = layer.make_cache(training.cpu, training.capacity());
      CHECK(test::relative_difference(test::rows_to_host(layer.forward(x.matrix(), training.pass, cache), training.cpu),
                                      expected) <= Case::tolerance);
      test::check_gradients<Case>(layer, store, std::move(x), training.pass);
    }
  }
}

TEST_CASE("ReLU keeps no input: its cache is smaller by that") {
  const test::TrainingPass training;
  const auto cache_of = [&](Activation f) {
    return nn::Mlp<double, Cpu>({.width = width, .hidden = hidden, .activation = f})
        .make_cache(training.cpu, training.capacity());
  };
  CHECK_FALSE(cache_of(Activation::relu).saved);
  CHECK(cache_of(Activation::gelu_tanh).saved);
  CHECK(cache_of(Activation::gelu_erf).saved);
}

}  // namespace
