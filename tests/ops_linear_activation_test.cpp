// SPDX-License-Identifier: MIT
/// @file
/// @brief A linear map with its activation and dropout in one kernel, against the kernels it is made of.
#include <utility>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/ops/linear_activation.hpp>
#include <storylm/ops/matmul.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

const std::vector<Activation> functions = {Activation::relu, Activation::gelu_tanh, Activation::gelu_erf};

struct Sizes {
  index_t tokens, in, width;
};
const std::vector<Sizes> all_sizes = {{0, 5, 7}, {1, 1, 1}, {5, 0, 33}, {29, 17, 100}, {14, 64, 64}, {301, 40, 130}};

/// Forward and backward by the fused kernel on `device`, and what they should be: y, saved (may have no columns), dpre.
template <class T>
struct Results {
  Grid<T> y, saved, dpre;
};

template <class T>
Results<T> fused(const Cpu& device, const Grid<T>& x, const Grid<T>& weight, const std::vector<T>& bias,
                 const Grid<T>& dy, const Grid<T>& next, Activation function, const DropoutSpec& dropout,
                 const PackedView& batch) {
  static_assert(Supports<Cpu, op::linear_activation, T>);
  const index_t width = weight.rows();
  Results<T> r{{x.rows(), width}, {x.rows(), ops::linear_activation_saved<Cpu, T>(function, width)}, {x.rows(), width}};
  ops::linear_activation(device, r.y.view(), r.saved.view(), x.view(), weight.view(),
                         bias.empty() ? nullptr : bias.data(), function, dropout, batch);
  ops::linear_activation_backward(device, r.dpre.view(), dy.view(), next.view(), std::as_const(r.y).view(),
                                  std::as_const(r.saved).view(), function, dropout, batch);
  return r;
}

template <class T>
Results<T> in_parts(const Cpu& device, const Grid<T>& x, const Grid<T>& weight, const std::vector<T>& bias,
                    const Grid<T>& dy, const Grid<T>& next, Activation function, const DropoutSpec& dropout,
                    const PackedView& batch) {
  const index_t width = weight.rows();
  Results<T> r{{x.rows(), width}, {x.rows(), width}, {x.rows(), width}};
  ops::matmul(device, r.saved.view(), x.view(), weight.view(), {.transpose_b = true},
              bias.empty() ? nullptr : bias.data());
  ops::activation(device, r.y.view(), r.saved.view(), function, dropout, batch);
  ops::matmul(device, r.dpre.view(), dy.view(), next.view());
  ops::activation_backward(device, r.dpre.view(), r.dpre.view(), r.saved.view(), std::as_const(r.y).view(), function,
                           dropout, batch);
  return r;
}

/// f(x, weight, bias, dy, weight of what follows, function, dropout, batch) for all of them.
template <class T, class F>
void for_all(const F& f) {
  const Cpu device;
  RandomStream random(1);
  for (const Sizes& size : all_sizes) {
    const auto batch = make_batch(size.tokens, 9, random, device);
    const Grid<T> x(size.tokens, size.in, random);
    const Grid<T> weight(size.width, size.in, random, 0.3);
    const Grid<T> dy(size.tokens, size.in, random);
    const Grid<T> next(size.in, size.width, random, 0.3);
    for (const Activation function : functions) {
      for (const DropoutSpec& dropout : dropouts()) {
        const std::vector<T> bias = dropout.active() ? Grid<T>(1, size.width, random).flat() : std::vector<T>();
        CAPTURE(size.tokens);
        CAPTURE(static_cast<int>(function));
        f(x, weight, bias, dy, next, function, dropout, batch.view());
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("linear_activation and its backward: the bits of matmul, then activation", T, float, double) {
  const Cpu device({.threads = 2});
  for_all<T>([&](const auto& x, const auto& weight, const auto& bias, const auto& dy, const auto& next,
                 Activation function, const DropoutSpec& dropout, const PackedView& batch) {
    const auto one = fused<T>(device, x, weight, bias, dy, next, function, dropout, batch);
    const auto parts = in_parts<T>(device, x, weight, bias, dy, next, function, dropout, batch);
    CHECK(same_bits(one.y, parts.y));
    CHECK(same_bits(one.dpre, parts.dpre));
    if (one.saved.cols() != 0) CHECK(same_bits(one.saved, parts.saved));
    CHECK(one.y.gaps_untouched());
    CHECK(one.saved.gaps_untouched());
    CHECK(one.dpre.gaps_untouched());
  });
}

TEST_CASE_TEMPLATE("linear_activation and its backward in 16 bits, against double on the same values", T, bf16, half) {
  const Cpu device({.threads = 2});
  for_all<T>([&](const auto& x, const auto& weight, const auto& bias, const auto& dy, const auto& next,
                 Activation function, const DropoutSpec& dropout, const PackedView& batch) {
    const auto ours = fused<T>(device, x, weight, bias, dy, next, function, dropout, batch);
    std::vector<double> wide_bias;
    for (const T value : bias) wide_bias.push_back(to_double(value));
    auto exact = in_parts<double>(device, x.template as<double>(), weight.template as<double>(), wide_bias,
                                  dy.template as<double>(), next.template as<double>(), function, dropout, batch);
    CHECK(difference(ours.y, exact.y) < 1.01 * tolerance<T>);  // rounded once
    // Back from what forward has stored, which was rounded.
    ops::matmul(device, exact.dpre.view(), dy.template as<double>().view(), next.template as<double>().view());
    const auto saved = ours.saved.template as<double>();
    const auto y = ours.y.template as<double>();
    ops::activation_backward(device, exact.dpre.view(), exact.dpre.view(),
                             saved.cols() != 0 ? saved.view() : MatrixView<const double>{}, y.view(), function, dropout,
                             batch);
    CHECK(difference(ours.dpre, exact.dpre) < 2.1 * tolerance<T>);  // the product is rounded, too
  });
}

TEST_CASE_TEMPLATE("linear_activation: row_invariant has the bits of matmul_rows", T, float, bf16) {
  const Cpu device({.threads = 2});
  for_all<T>([&](const auto& x, const auto& weight, const auto& bias, const auto& /*dy*/, const auto& /*next*/,
                 Activation function, const DropoutSpec& dropout, const PackedView& batch) {
    const index_t width = weight.rows();
    const T* const added = bias.empty() ? nullptr : bias.data();
    Grid<T> y(x.rows(), width);
    Grid<T> saved(x.rows(), ops::linear_activation_saved<Cpu, T>(function, width));
    ops::linear_activation(device, y.view(), saved.view(), x.view(), weight.view(), added, function, dropout, batch,
                           true);
    Grid<T> expected(x.rows(), width);
    ops::matmul_rows(device, expected.view(), x.view(), weight.view(), added);
    ops::activation(device, expected.view(), expected.view(), function, dropout, batch);
    CHECK(same_bits(y, expected));
  });
}

TEST_CASE("linear_activation: the same bits with 1, 2, 3 and 5 threads") {
  RandomStream random(2);
  const Cpu one({.threads = 1});
  const auto batch = make_batch(90, 9, random, one);
  const Grid<bf16> x(90, 2100, random);
  const Grid<bf16> weight(200, 2100, random, 0.1);
  const Grid<bf16> dy(90, 2100, random);
  const Grid<bf16> next(2100, 200, random, 0.1);
  const DropoutSpec dropout = dropouts()[1];
  const auto expected = fused<bf16>(one, x, weight, {}, dy, next, Activation::gelu_erf, dropout, batch.view());
  for (const int threads : {2, 3, 5}) {
    const Cpu device({.threads = threads});
    const auto ours = fused<bf16>(device, x, weight, {}, dy, next, Activation::gelu_erf, dropout, batch.view());
    CHECK(same_bits(ours.y, expected.y));
    CHECK(same_bits(ours.saved, expected.saved));
    CHECK(same_bits(ours.dpre, expected.dpre));
  }
}

TEST_CASE("linear_activation: no matrix lies over another") {
  const Cpu device;
  RandomStream random(3);
  Grid<float> x(4, 6, random);
  Grid<float> weight(8, 6, random);
  Grid<float> next(6, 8, random);
  Grid<float> y(4, 8);
  Grid<float> saved(4, 8);
  const auto forward = [&](MatrixView<float> out, Activation function) {
    ops::linear_activation(device, out, saved.view(), x.view(), weight.view(), nullptr, function, {}, {});
  };
  const auto backward = [&](MatrixView<float> dpre, Activation function) {
    ops::linear_activation_backward(device, dpre, x.view(), next.view(), y.view(), saved.view(), function, {}, {});
  };
  CHECK(error_of([&] { forward(saved.view(), Activation::gelu_erf); }) ==
        "[linear_activation] y (4, 8) overlaps saved");
  CHECK(error_of([&] { backward(saved.view(), Activation::gelu_erf); }) ==
        "[linear_activation_backward] dpre (4, 8) overlaps saved");
  CHECK(error_of([&] { backward(y.view(), Activation::relu); }) ==
        "[linear_activation_backward] dpre (4, 8) overlaps y");
}
