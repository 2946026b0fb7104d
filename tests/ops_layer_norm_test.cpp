// SPDX-License-Identifier: MIT
/// @file
/// @brief layer_norm against its formula, its gradients against differences.
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>

#include <storylm/ops/layer_norm.hpp>

#include "norm_support.hpp"

using namespace row_ops_test;

namespace {

struct Adapter {
  static constexpr bool centred = true;

  template <class T>
  static void run(const Cpu& device, NormProblem<T>& p, const DropoutSpec& dropout) {
    ops::layer_norm(device, p.y.view(), p.sum_view(), p.stats.view(), p.residual.view(), p.branch_view(),
                    p.weight.view(), p.bias.view(), norm_eps, dropout, p.batch->view());
  }
  template <class T>
  static void backward(const Cpu& device, NormProblem<T>& p, const DropoutSpec& dropout,
                       std::type_identity_t<MatrixView<const T>> plus) {
    backward_into(device, p, dropout, plus, p.dsum.view());
  }
  template <class T>
  static void backward_into(const Cpu& device, NormProblem<T>& p, const DropoutSpec& dropout,
                            std::type_identity_t<MatrixView<const T>> plus, MatrixView<T> dsum) {
    ops::layer_norm_backward(device, dsum, p.dbranch_view(), p.dweight.view(), p.dbias.view(), p.dy.view(),
                             p.input().view(), std::as_const(p.stats).view(), p.weight.view(), plus, dropout,
                             p.batch->view());
  }
};

}  // namespace

TEST_CASE_TEMPLATE("layer_norm is its formula at every width", T, float, double, bf16, half) {
  test_norm_values<Adapter, T>();
}

TEST_CASE("layer_norm_backward is the derivative") { test_norm_gradients<Adapter>(); }

TEST_CASE("layer_norm_backward adds plus, and works over dy and over plus") { test_norm_aliases<Adapter>(); }

TEST_CASE_TEMPLATE("layer_norm: the same bits with any number of threads and at any alignment, and no allocation", T,
                   float, bf16) {
  test_norm_bits<Adapter, T>();
}

TEST_CASE("layer_norm without a bias, and with the mean far from zero") {
  const Cpu device;
  RandomStream random(5);
  NormProblem<float> p(3, 512, false, random);
  for (index_t c = 0; c < 512; ++c) p.residual.at(1, c) += 1000.0F;
  ops::layer_norm(device, p.y.view(), {}, p.stats.view(), p.residual.view(), {}, p.weight.view(), {}, norm_eps);
  double mean = 0.0;
  for (index_t c = 0; c < 512; ++c) mean += static_cast<double>(p.residual.at(1, c)) / 512.0;
  double variance = 0.0;
  for (index_t c = 0; c < 512; ++c) variance += std::pow(static_cast<double>(p.residual.at(1, c)) - mean, 2) / 512.0;
  CHECK(static_cast<double>(p.stats.at(1, 1)) == doctest::Approx(1.0 / std::sqrt(variance + norm_eps)).epsilon(1e-5));

  const auto before = p.dbias;
  ops::layer_norm_backward(device, p.dsum.view(), {}, p.dweight.view(), {}, p.dy.view(), p.residual.view(),
                           std::as_const(p.stats).view(), p.weight.view(), {});
  CHECK(same_bits(p.dbias, before));
  CHECK(difference(p.dsum, p.dsum) == 0.0);  // no NaN left of the poison
}

TEST_CASE("layer_norm says which argument is wrong") {
  const Cpu device;
  RandomStream random(6);
  NormProblem<float> p(2, 32, true, random);
  const Grid<float> weight(1, 31);
  const auto run = [&](MatrixView<float> sum, MatrixView<const float> w, const PackedView& batch) {
    return error_of([&] {
      ops::layer_norm(device, p.y.view(), sum, p.stats.view(), p.residual.view(), p.branch.view(), w, p.bias.view(),
                      norm_eps, dropouts()[1], batch);
    });
  };
  CHECK(run(p.sum.view(), weight.view(), p.batch->view()) == "[layer_norm] weight has 31 elements, expected 32");
  CHECK(run({}, p.weight.view(), p.batch->view()) == "[layer_norm] sum is (0, 0), expected (2, 32)");
  CHECK(run(p.sum.view(), p.weight.view(), {}) == "[layer_norm] the batch has 0 tokens, expected 2");
  CHECK(run(p.sum.view(), p.weight.view(), p.batch->view()) == "no error");
}
