// SPDX-License-Identifier: MIT
/// @file
/// @brief ReLU and both GELUs against their formulas, with masks by definition.
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

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

/// Backward in T, over dy, against backward in double on the same values.
template <class T>
void check_backward(Activation function, const DropoutSpec& dropout, const PackedView& batch, const Grid<double>& x,
                    const Grid<double>& dy) {
  const Cpu device;
  const auto from = x.as<T>();
  auto dx = dy.as<T>();
  Grid<T> y(x.rows(), x.cols());
  Grid<double> expected(x.rows(), x.cols());
  ops::activation(device, y.view(), from.view(), function, dropout, batch);
  ops::activation_backward(device, expected.view(), dx.template as<double>().view(), from.template as<double>().view(),
                           y.template as<double>().view(), function, dropout, batch);
  ops::activation_backward(device, dx.view(), dx.view(), from.view(), std::as_const(y).view(), function, dropout,
                           batch);
  CHECK(difference(dx, expected) < tolerance<T>);
}

}  // namespace

TEST_CASE_TEMPLATE("activation is its formula behind a mask at every width", T, float, double, bf16, half) {
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
                  formula(function, to_double(x.at(r, c))) * dropout_factor(dropout, batch.view(), r, c);
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

        Grid<double> in_place = dy;
        ops::activation_backward(device, in_place.view(), in_place.view(), x.view(), y.view(), function, dropout,
                                 batch.view());
        CHECK(same_bits(in_place, dx));
        check_backward<float>(function, dropout, batch.view(), x, dy);
        check_backward<bf16>(function, dropout, batch.view(), x, dy);
        check_backward<half>(function, dropout, batch.view(), x, dy);
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
    // Where nothing came out, nothing goes back: not of what is not finite either, and no -0.
    for (index_t c = 0; c < 100; ++c) {
      if (y.at(3, c) == 0.0F)
        dx.at(3, c) = c % 3 == 0 ? -std::numeric_limits<float>::infinity() : c % 3 == 1 ? NAN : -1.0F;
    }
    ops::activation_backward(device, dx.view(), dx.view(), {}, y.view(), Activation::relu, dropout, batch.view());
    int off = 0;
    for (index_t c = 0; c < 100; ++c) {
      if (y.at(3, c) != 0.0F) continue;
      ++off;
      CHECK(dx.at(3, c) == 0.0F);
      CHECK_FALSE(std::signbit(dx.at(3, c)));
    }
    CHECK(off > 30);
  }
}

TEST_CASE("GELUs have slopes far out, where squares are infinite") {
  const Cpu device;
  const double most = std::numeric_limits<float>::max();
  for (const Activation function : {Activation::gelu_tanh, Activation::gelu_erf}) {
    Grid<float> x(1, 2);
    Grid<float> dx(1, 2);
    x.at(0, 0) = static_cast<float>(most);
    x.at(0, 1) = static_cast<float>(-most);
    const Grid<float> dy = [] {
      Grid<float> ones(1, 2);
      ones.at(0, 0) = ones.at(0, 1) = 1.0F;
      return ones;
    }();
    ops::activation_backward(device, dx.view(), dy.view(), x.view(), {}, function);
    CHECK(dx.at(0, 0) == 1.0F);
    CHECK(dx.at(0, 1) == 0.0F);
  }
}

TEST_CASE_TEMPLATE("activation: the same bits with any number of threads, and no allocation", T, float, bf16) {
  RandomStream random(4);
  const auto batch = make_batch(300, 9, random, Cpu());
  const Grid<T> x(300, 100, random);
  const Grid<T> dy(300, 100, random);
  const DropoutSpec dropout = dropouts()[1];
  for (const Activation function : functions) {
    std::vector<Grid<T>> y(3, Grid<T>(300, 100));
    std::vector<Grid<T>> dx = y;
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
