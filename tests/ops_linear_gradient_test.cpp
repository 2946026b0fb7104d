// SPDX-License-Identifier: MIT
/// @file
/// @brief Gradients of weight and bias in one product, against the product and sums in double.
#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/ops/linear_gradient.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

TEST_CASE_TEMPLATE("linear_gradient adds dy^T x, bit for bit as matmul does, and the sums of dy's columns", T, float,
                   double, bf16, half) {
  using A = accumulator_t<T>;
  static_assert(Supports<Cpu, op::linear_gradient, T, A>);
  RandomStream random(1);
  const Cpu device({.threads = 2});
  struct Sizes {
    index_t tokens, out, in;
  };
  for (const Sizes& size :
       {Sizes{0, 5, 7}, Sizes{1, 1, 1}, Sizes{5, 33, 0}, Sizes{29, 17, 100}, Sizes{77, 100, 31}, Sizes{2500, 30, 20}}) {
    CAPTURE(size.tokens);
    CAPTURE(size.out);
    const Grid<T> dy(size.tokens, size.out, random);
    const Grid<T> x(size.tokens, size.in, random);
    const Grid<A> before(size.out, size.in, random);
    const std::vector<A> bias_before = Grid<A>(1, size.out, random).flat();

    Grid<A> dweight = before;
    std::vector<A> dbias = bias_before;
    ops::linear_gradient(device, dweight.view(), dbias.data(), dy.view(), x.view());

    Grid<A> product = before;
    ops::matmul(device, product.view(), dy.view(), x.view(), {.transpose_a = true, .accumulate = true});
    CHECK(same_bits(dweight, product));
    CHECK(dweight.gaps_untouched());
    std::vector<double> sums(bias_before.begin(), bias_before.end());
    for (index_t r = 0; r < size.tokens; ++r) {
      for (index_t c = 0; c < size.out; ++c) sums[static_cast<std::size_t>(c)] += to_double(dy.at(r, c));
    }
    CHECK(difference(dbias, sums) < 1e-6);

    Grid<A> without_bias = before;
    ops::linear_gradient(device, without_bias.view(), nullptr, dy.view(), x.view());
    CHECK(same_bits(without_bias, product));
  }
}

TEST_CASE_TEMPLATE("linear_gradient: the same bits with 1, 2, 3 and 5 threads", T, float, bf16) {
  RandomStream random(2);
  const Grid<T> dy(700, 50, random);
  const Grid<T> x(700, 300, random);
  const auto run = [&](int threads, Grid<float>& dweight, std::vector<float>& dbias) {
    ops::linear_gradient(Cpu({.threads = threads}), dweight.view(), dbias.data(), dy.view(), x.view());
  };
  const Grid<float> start(50, 300, random);
  Grid<float> expected = start;
  std::vector<float> expected_bias(50, 1.0F);
  run(1, expected, expected_bias);
  for (const int threads : {2, 3, 5}) {
    Grid<float> dweight = start;
    std::vector<float> dbias(50, 1.0F);
    run(threads, dweight, dbias);
    CHECK(same_bits(dweight, expected));
    CHECK(same_bits(dbias, expected_bias));
  }
}
