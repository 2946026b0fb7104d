// SPDX-License-Identifier: MIT
#include <utility>
#include <vector>

#include <storylm/nn/linear.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;

TEST_CASE_TEMPLATE("linear is x W^T + b by the formula, and by op::matmul_rows", Case, test::CpuF32, test::CpuF64) {
  using T = typename Case::value_type;
  test::TrainingPass training;
  for (const bool bias : {true, false}) {
    CAPTURE(bias);
    nn::Linear<T, Cpu> linear({.in = 5, .out = 3, .bias = bias});
    auto store = nn::allocate<T>(linear, training.cpu, nn::Gradients::no);
    test::randomise(linear);
    const auto x = test::random<Case>({training.tokens(), 5}, 1, training.cpu);
    const auto w = linear.weight.to_host();
    std::vector<double> expected;
    for (index_t t = 0; t < training.tokens(); ++t) {
      for (index_t o = 0; o < 3; ++o) {
        double sum = bias ? static_cast<double>(linear.bias->to_host()[static_cast<std::size_t>(o)]) : 0.0;
        for (index_t i = 0; i < 5; ++i) {
          sum += static_cast<double>(x.matrix()(t, i)) * static_cast<double>(w[static_cast<std::size_t>(o * 5 + i)]);
        }
        expected.push_back(sum);
      }
    }
    auto cache = linear.make_cache(training.cpu, training.capacity());
    for (const bool row_invariant : {false, true}) {
      CAPTURE(row_invariant);
      training.pass.row_invariant = row_invariant;
      const auto y = test::rows_to_host(linear.forward(x.matrix(), training.pass, cache), training.cpu);
      CHECK(test::relative_difference(y, expected) <= Case::tolerance);
    }
  }
}

TEST_CASE_TEMPLATE("linear: input and parameters by differences", Case, test::CpuF32, test::CpuF64) {
  using T = typename Case::value_type;
  const test::TrainingPass training;
  for (const bool bias : {true, false}) {
    CAPTURE(bias);
    nn::Linear<T, Cpu> linear({.in = 5, .out = 3, .bias = bias});
    auto store = nn::allocate<T>(linear, training.cpu, nn::Gradients::yes);
    test::randomise(linear);
    test::check_gradients<Case>(linear, store, test::random<Case>({training.tokens(), 5}, 1, training.cpu),
                                training.pass);
  }
}

TEST_CASE("dx may be none, and may be plus itself") {
  using Case = test::CpuF64;
  const test::TrainingPass training;
  nn::Linear<double, Cpu> linear({.in = 5, .out = 3});
  auto store = nn::allocate<double>(linear, training.cpu, nn::Gradients::yes);
  test::randomise(linear);
  const auto x = test::random<Case>({training.tokens(), 5}, 1, training.cpu);
  auto dy = test::random<Case>({training.tokens(), 3}, 2, training.cpu);
  const auto plus = test::random<Case>({training.tokens(), 5}, 3, training.cpu);
  auto cache = linear.make_cache(training.cpu, training.capacity());

  Tensor<double, Cpu> apart({training.tokens(), 5}, training.cpu);
  linear.backward(x.matrix(), dy.matrix(), apart.matrix(), training.pass, cache, plus.matrix());
  const auto gradients = test::gradients_of(linear);
  auto in_place = plus.clone();
  store.zero_gradients();
  linear.backward(x.matrix(), dy.matrix(), in_place.matrix(), training.pass, cache, std::as_const(in_place).matrix());
  CHECK(test::relative_difference(in_place.to_host(), apart.to_host()) <= Case::tolerance);
  store.zero_gradients();
  linear.backward(x.matrix(), dy.matrix(), {}, training.pass, cache);
  CHECK(test::gradients_of(linear) == gradients);
}

TEST_CASE("linear: a batch without tokens changes nothing") {
  const test::TrainingPass training({0, 0});
  nn::Linear<double, Cpu> linear({.in = 5, .out = 3});
  auto store = nn::allocate<double>(linear, training.cpu, nn::Gradients::yes);
  test::randomise(linear);
  auto cache = linear.make_cache(training.cpu, training.capacity());
  const Tensor<double, Cpu> x({0, 5}, training.cpu);
  Tensor<double, Cpu> dy({0, 3}, training.cpu);
  Tensor<double, Cpu> dx({0, 5}, training.cpu);
  CHECK(linear.forward(x.matrix(), training.pass, cache).rows == 0);
  linear.backward(x.matrix(), dy.matrix(), dx.matrix(), training.pass, cache);
  for (const auto& [name, values] : test::gradients_of(linear)) CHECK(values == std::vector<double>(values.size()));
}

TEST_CASE("linear: a row of another width is refused") {
  const test::TrainingPass training;
  nn::Linear<double, Cpu> linear({.in = 5, .out = 3});
  auto store = nn::allocate<double>(linear, training.cpu, nn::Gradients::no);
  auto cache = linear.make_cache(training.cpu, training.capacity());
  const Tensor<double, Cpu> x({training.tokens(), 4}, training.cpu);
  CHECK_THROWS_WITH_AS(static_cast<void>(linear.forward(x.matrix(), training.pass, cache)),
                       "[matmul] inner dimensions differ: op(a) is (10, 4), op(b) is (5, 3)", ShapeError);
}

TEST_CASE("linear: without nn::allocate there is no forward, without gradients no backward") {
  const test::TrainingPass training;
  nn::Linear<double, Cpu> linear({.in = 5, .out = 3});
  auto cache = linear.make_cache(training.cpu, training.capacity());
  const Tensor<double, Cpu> x({training.tokens(), 5}, training.cpu);
  CHECK_THROWS_WITH_AS(static_cast<void>(linear.forward(x.matrix(), training.pass, cache)),
                       "[Parameter::value] nn::allocate has not given it memory", ShapeError);
  auto store = nn::allocate<double>(linear, training.cpu, nn::Gradients::no);
  static_cast<void>(linear.forward(x.matrix(), training.pass, cache));
  Tensor<double, Cpu> dy({training.tokens(), 3}, training.cpu);
  CHECK_THROWS_WITH_AS(linear.backward(x.matrix(), dy.matrix(), {}, training.pass, cache),
                       "[Parameter::gradient] allocated without gradients", ShapeError);
}

}  // namespace
