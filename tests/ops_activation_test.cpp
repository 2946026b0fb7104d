// SPDX-License-Identifier: MIT
/// @file
/// @brief ReLU and both GELUs against their formulas, with masks by definition.
#include <cmath>
#include <numbers>

#include <doctest/doctest.h>

#include <storylm/ops/activation.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

const std::vector<Activation> functions = {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf};

double formula(Activation function, double x) {
  switch (function) {
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu_tanh:
      return x / 2.0 * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return x / 2.0 * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return 0.0;
}

}  // namespace

TEST_CASE_TEMPLATE("activation is its formula behind a mask at every width", T, float, double) {
  const Cpu device;
  RandomStream random(1);
  for (const Activation function : functions) {
    for (const DropoutSpec& dropout : dropouts()) {
      for (const index_t width : widths) {
        for (const index_t rows : {0, 1, 5}) {
          CAPTURE(width);
          const auto batch = make_batch(rows, 9, random, device);
          const Grid<T> x(rows, width, random, 2.0);
          Grid<T> y(rows, width);
          ops::activation(device, y.view(), x.view(), function, dropout, batch.view());
          Grid<double> expected(rows, width);
          for (index_t r = 0; r < rows; ++r) {
            for (index_t c = 0; c < width; ++c) {
              expected.at(r, c) =
                  formula(function, static_cast<double>(x.at(r, c))) * dropout_factor(dropout, batch.view(), r, c);
            }
          }
          CHECK(difference(y, expected) < tolerance<T>);
          CHECK(y.gaps_untouched());
        }
      }
    }
  }
}

TEST_CASE("activation_backward is the derivative") {
  const Cpu device;
  RandomStream random(2);
  for (const Activation function : functions) {
    for (const DropoutSpec& dropout : dropouts()) {
      for (const index_t width : {1, 33, 300}) {
        CAPTURE(width);
        const auto batch = make_batch(5, 9, random, device);
        Grid<double> x(5, width, random, 2.0);
        const Grid<double> dy(5, width, random);
        Grid<double> y(5, width);
        Grid<double> dx(5, width);
        const auto run = [&] { ops::activation(device, y.view(), x.view(), function, dropout, batch.view()); };
        run();
        ops::activation_backward(device, dx.view(), dy.view(), x.view(), y.view(), function, dropout, batch.view());
        check_gradient(x, dx, [&] {
          run();
          return weighted_sum(dy, y);
        });
        run();

        {  // in place, and in float
          Grid<double> in_place = dy;
          ops::activation_backward(device, in_place.view(), in_place.view(), x.view(), y.view(), function, dropout,
                                   batch.view());
          CHECK(same_bits(in_place, dx));
          auto dx32 = dy.as<float>();
          ops::activation_backward(device, dx32.view(), dx32.view(), x.as<float>().view(), y.as<float>().view(),
                                   function, dropout, batch.view());
          CHECK(difference(dx32, dx) < tolerance<float>);
        }
      }
    }
  }
}

TEST_CASE("ReLU works in place and needs only its output") {
  const Cpu device;
  CHECK_FALSE(ops::activation_needs_input<Cpu, float>(Activation::relu));
  CHECK(ops::activation_needs_input<Cpu, float>(Activation::gelu_tanh));
  CHECK(ops::activation_needs_input<Cpu, double>(Activation::gelu_erf));
  RandomStream random(3);
  const auto batch = make_batch(5, 9, random, device);
  for (const DropoutSpec& dropout : dropouts()) {
    Grid<float> x(5, 100, random);
    Grid<float> y(5, 100);
    Grid<float> dx(5, 100, random);
    ops::activation(device, y.view(), x.view(), Activation::relu, dropout, batch.view());
    ops::activation(device, x.view(), x.view(), Activation::relu, dropout, batch.view());
    CHECK(same_bits(x, y));
    ops::activation_backward(device, dx.view(), dx.view(), {}, y.view(), Activation::relu, dropout, batch.view());
    for (index_t c = 0; c < 100; ++c) {
      if (y.at(3, c) == 0.0F) CHECK(dx.at(3, c) == 0.0F);
    }
  }
}

TEST_CASE("activation: the same bits with any number of threads, and no allocation") {
  RandomStream random(4);
  const auto batch = make_batch(300, 9, random, Cpu());
  const Grid<float> x(300, 100, random);
  const Grid<float> dy(300, 100, random);
  const DropoutSpec dropout = dropouts()[1];
  for (const Activation function : functions) {
    std::vector<Grid<float>> y(3, Grid<float>(300, 100));
    std::vector<Grid<float>> dx = y;
    for (std::size_t i = 0; i < 3; ++i) {
      const Cpu device({.threads = static_cast<int>(i) + 1});
      CHECK(second_call_allocations([&] {
              ops::activation(device, y[i].view(), x.view(), function, dropout, batch.view());
              ops::activation_backward(device, dx[i].view(), dy.view(), x.view(), y[i].view(), function, {}, {});
            }) == 0);
    }
    for (const std::size_t i : {1U, 2U}) {
      CHECK(same_bits(y[i], y[0]));
      CHECK(same_bits(dx[i], dx[0]));
    }
  }
}

TEST_CASE("activation says which shape is wrong") {
  const Cpu device;
  Grid<float> y(2, 32);
  const Grid<float> x(2, 31);
  CHECK(error_of([&] { ops::activation(device, y.view(), x.view(), Activation::relu); }) ==
        "[activation] y is (2, 32), expected (2, 31)");
  CHECK(error_of([&] { ops::activation_backward(device, y.view(), y.view(), x.view(), {}, Activation::gelu_erf); }) ==
        "[activation_backward] x is (2, 31), expected (2, 32)");
  CHECK(error_of([&] { ops::activation(device, y.view(), y.view(), Activation::relu, dropouts()[1], {}); }) ==
        "[activation] the batch has 0 tokens, expected 2");
}
