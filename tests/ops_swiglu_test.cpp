// SPDX-License-Identifier: MIT
/// @file
/// @brief SwiGLU against its formula, with masks by definition.
#include <cmath>

#include <doctest/doctest.h>

#include <storylm/ops/swiglu.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

/// Backward in T, in place, against backward in double on the same values.
template <class T>
void check_backward(const DropoutSpec& dropout, const PackedView& batch, const Grid<double>& x,
                    const Grid<double>& dy) {
  auto dx = x.as<T>();
  const auto gradient = dy.as<T>();
  Grid<double> expected(x.rows(), x.cols());
  ops::swiglu_backward(Cpu(), expected.view(), gradient.template as<double>().view(), dx.template as<double>().view(),
                       dropout, batch);
  ops::swiglu_backward(Cpu(), dx.view(), gradient.view(), dx.view(), dropout, batch);
  CHECK(difference(dx, expected) < tolerance<T>);
}

}  // namespace

TEST_CASE_TEMPLATE("swiglu is silu(gate) * up behind a mask at every width", T, float, double, bf16, half) {
  const Cpu device;
  RandomStream random(1);
  for (const DropoutSpec& dropout : dropouts()) {
    for (const index_t width : widths) {
      for (const index_t rows : {0, 1, 5}) {
        CAPTURE(width);
        const auto batch = make_batch(rows, 9, random, device);
        const Grid<T> x(rows, 2 * width, random, 2.0);
        Grid<T> y(rows, width);
        ops::swiglu(device, y.view(), x.view(), dropout, batch.view());
        Grid<double> expected(rows, width);
        for (index_t r = 0; r < rows; ++r) {
          for (index_t c = 0; c < width; ++c) {
            const auto gate = to_double(x.at(r, c));
            expected.at(r, c) = gate / (1.0 + std::exp(-gate)) * to_double(x.at(r, width + c)) *
                                dropout_factor(dropout, batch.view(), r, c);
          }
        }
        CHECK(difference(y, expected) < tolerance<T>);
        CHECK(y.gaps_untouched());
      }
    }
  }
}

TEST_CASE("swiglu_backward is the derivative, in place too, and in other dtypes") {
  const Cpu device;
  RandomStream random(2);
  for (const DropoutSpec& dropout : dropouts()) {
    for (const index_t width : {1, 33, 300}) {
      CAPTURE(width);
      const auto batch = make_batch(5, 9, random, device);
      Grid<double> x(5, 2 * width, random, 2.0);
      const Grid<double> dy(5, width, random);
      Grid<double> y(5, width);
      Grid<double> dx(5, 2 * width);
      ops::swiglu_backward(device, dx.view(), dy.view(), x.view(), dropout, batch.view());
      CHECK(dx.gaps_untouched());
      check_gradient(x, dx, [&] {
        ops::swiglu(device, y.view(), x.view(), dropout, batch.view());
        return weighted_sum(dy, y);
      });

      check_backward<float>(dropout, batch.view(), x, dy);
      check_backward<bf16>(dropout, batch.view(), x, dy);
      check_backward<half>(dropout, batch.view(), x, dy);
      ops::swiglu_backward(device, x.view(), dy.view(), x.view(), dropout, batch.view());
      CHECK(same_bits(x, dx));
    }
  }
}

TEST_CASE("swiglu: the same bits with any number of threads, and no allocation") {
  RandomStream random(3);
  const auto batch = make_batch(300, 9, random, Cpu());
  const Grid<float> x(300, 200, random);
  const Grid<float> dy(300, 100, random);
  const DropoutSpec dropout = dropouts()[1];
  std::vector<Grid<float>> y(3, Grid<float>(300, 100));
  std::vector<Grid<float>> dx(3, Grid<float>(300, 200));
  for (std::size_t i = 0; i < 3; ++i) {
    const Cpu device({.threads = static_cast<int>(i) + 1});
    CHECK(second_call_allocations([&] {
            ops::swiglu(device, y[i].view(), x.view(), dropout, batch.view());
            ops::swiglu_backward(device, dx[i].view(), dy.view(), x.view(), dropout, batch.view());
          }) == 0);
  }
  for (const std::size_t i : {1U, 2U}) {
    CHECK(same_bits(y[i], y[0]));
    CHECK(same_bits(dx[i], dx[0]));
  }
}

TEST_CASE("swiglu says which shape is wrong") {
  Grid<float> y(2, 32);
  CHECK(error_of([&] { ops::swiglu(Cpu(), y.view(), y.view()); }) == "[swiglu] gate_up is (2, 32), expected (2, 64)");
  CHECK(error_of([&] { ops::swiglu_backward(Cpu(), y.view(), y.view(), Grid<float>(2, 64).view()); }) ==
        "[swiglu_backward] dgate_up is (2, 32), expected (2, 64)");
}
