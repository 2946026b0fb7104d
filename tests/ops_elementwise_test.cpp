// SPDX-License-Identifier: MIT
/// @file
/// @brief sum, scale_to_mean, add and gather_rows against plain loops.
#include <cstdint>
#include <utility>

#include <doctest/doctest.h>

#include <storylm/ops/elementwise.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

template <class T>
std::vector<T> random_values(index_t n, RandomStream& random) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = from_double<T>(random.normal());
  return values;
}

}  // namespace

TEST_CASE_TEMPLATE("sum adds to the total, in double, the same with any number of threads", T, float, double, bf16,
                   half) {
  RandomStream random(1);
  for (const index_t n : {0, 1, 15, 16, 17, 1000, 40001}) {
    auto values = random_values<T>(n, random);
    if (n > 16 && sizeof(T) > 2) values[3] = from_double<T>(1e7);  // in float, the rest would lose its digits beside it
    long double expected = 0.25L;
    for (const T value : values) expected += static_cast<long double>(to_double(value));
    double first = 0.0;
    for (const int threads : {1, 2, 3}) {
      const Cpu device({.threads = threads});
      double total = 0.25;
      ops::sum(device, &total, std::span<const T>(values));
      CHECK(total == doctest::Approx(static_cast<double>(expected)).epsilon(1e-13));
      if (threads == 1) first = total;
      CHECK(total == first);
      CHECK(second_call_allocations([&] { ops::sum(device, &total, std::span(values)); }) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("scale_to_mean multiplies by inverse_targets * loss_scale", Pair, std::pair<float, float>,
                   std::pair<double, double>, std::pair<bf16, bf16>, std::pair<bf16, float>, std::pair<float, bf16>,
                   std::pair<half, half>) {
  using X = typename Pair::first_type;
  using Y = typename Pair::second_type;
  RandomStream random(2);
  const StepState state{.inverse_targets = 0.25, .loss_scale = 8.0};
  for (const index_t n : {0, 1, 33, 40001}) {
    for (const int threads : {1, 3}) {
      const Cpu device({.threads = threads});
      auto x = random_values<X>(n, random);
      const auto start = random_values<Y>(n, random);
      auto y = start;
      ops::scale_to_mean(device, std::span(y), std::span<const X>(x), &state, true);
      bool right = true;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto sum = static_cast<accumulator_t<Y>>(start[i]) + 2 * static_cast<accumulator_t<X>>(x[i]);
        right = right && y[i] == Y(sum);
      }
      CHECK(right);
      ops::scale_to_mean(device, std::span(y), std::span(x), &state, false);
      auto in_place = x;
      ops::scale_to_mean(device, std::span(in_place), std::span(in_place), &state, false);
      for (std::size_t i = 0; i < x.size(); ++i) right = right && y[i] == from_double<Y>(2.0 * to_double(x[i]));
      for (std::size_t i = 0; i < x.size(); ++i) right = right && in_place[i] == from_double<X>(2.0 * to_double(x[i]));
      CHECK(right);
    }
  }
  std::vector<X> y(3);
  CHECK(error_of([&] { ops::scale_to_mean(Cpu(), std::span(y), std::span(y).first(2), &state, false); }) ==
        "[scale_to_mean] y has 3 elements, expected 2");
}

TEST_CASE_TEMPLATE("add adds rows of any stride", T, float, double, bf16, half) {
  RandomStream random(3);
  for (const index_t width : widths) {
    for (const index_t rows : {0, 1, 40}) {
      const Cpu device({.threads = 2});
      Grid<T> y(rows, width, random);
      const Grid<T> x(rows, width, random);
      Grid<T> expected = y;
      for (index_t r = 0; r < rows; ++r) {
        for (index_t c = 0; c < width; ++c)
          expected.at(r, c) = from_double<T>(to_double(y.at(r, c)) + to_double(x.at(r, c)));
      }
      ops::add(device, y.view(), x.view());
      CHECK(same_bits(y, expected));
      CHECK(y.gaps_untouched());
    }
  }
  Grid<T> y(2, 3);
  CHECK(error_of([&] { ops::add(Cpu(), y.view(), Grid<T>(2, 4).view()); }) == "[add] x is (2, 4), expected (2, 3)");
}

TEST_CASE_TEMPLATE("gather_rows copies rows in any order, repeated too", T, float, double, bf16, half) {
  RandomStream random(4);
  const Cpu device({.threads = 2});
  for (const index_t width : widths) {
    const Grid<T> x(6, width, random);
    const std::vector<std::int32_t> rows = {5, 0, 0, 3, 5};
    Grid<T> y(5, width);
    ops::gather_rows(device, y.view(), x.view(), rows);
    bool right = true;
    for (index_t r = 0; r < 5; ++r) {
      for (index_t c = 0; c < width; ++c) right = right && y.at(r, c) == x.at(rows[static_cast<std::size_t>(r)], c);
    }
    CHECK(right);
    CHECK(y.gaps_untouched());
    ops::gather_rows(device, Grid<T>(0, width).view(), x.view(), {});
  }
  const Grid<T> x(6, 3, random);
  Grid<T> y(2, 3);
  CHECK(error_of([&] {
          ops::gather_rows(device, y.view(), x.view(), std::vector<std::int32_t>{0, 6});
        }) == "[gather_rows] row 1 is 6, expected less than 6 and not negative");
  CHECK(error_of([&] { ops::gather_rows(device, y.view(), x.view(), std::vector<std::int32_t>{0}); }) ==
        "[gather_rows] y is (2, 3), expected (1, 3)");
}
