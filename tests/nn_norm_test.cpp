// SPDX-License-Identifier: MIT
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <storylm/nn/layer_norm.hpp>
#include <storylm/nn/rms_norm.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;

constexpr index_t width = 12;

/// A norm over residual and maybe branch, its loss <w, y>, and one backward.
template <class Case, class Norm>
struct Setting {
  using T = typename Case::value_type;

  Setting(const test::TrainingPass& t, bool with_branch, double dropout, bool bias = true)
      : training(t),
        norm({.width = width, .bias = bias}),
        store(nn::allocate<T>(norm, t.cpu, nn::Gradients::yes)),
        cache(norm.make_cache(t.cpu, t.capacity())),
        residual(test::random<Case>({t.tokens(), width}, 1, t.cpu)),
        branch(test::random<Case>({t.tokens(), width}, 2, t.cpu)),
        dy(test::random<Case>({t.tokens(), width}, 4, t.cpu)),
        dresidual({t.tokens(), width}, t.cpu),
        dbranch({t.tokens(), width}, t.cpu),
        branched(with_branch),
        drop{dropout, 6} {
    test::randomise(norm);
  }

  [[nodiscard]] nn::ResidualStream<const T> stream() const {
    return {residual.matrix(), branched ? branch.matrix() : MatrixView<const T>{}, drop};
  }
  std::vector<T> forward() { return test::rows_to_host(norm.forward(stream(), training.pass, cache), training.cpu); }
  double loss() { return test::weighted_sum(forward(), dy.to_host()); }
  void backward(MatrixView<const T> plus = {}) {
    norm.backward(stream(), std::as_const(dy).matrix(),
                  {dresidual.matrix(), branched ? dbranch.matrix() : MatrixView<T>{}, {}}, training.pass, cache, plus);
  }

  const test::TrainingPass& training;
  Norm norm;
  nn::ParameterStore<T, Cpu> store;
  typename Norm::Cache cache;
  Tensor<T, Cpu> residual, branch, dy, dresidual, dbranch;  // (tokens, width)
  bool branched;
  nn::Dropout drop;
};

template <class Case, template <class, class> class Norm>
void check_norm() {
  using T = typename Case::value_type;
  const test::TrainingPass training;
  for (const bool with_branch : {false, true}) {
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(with_branch);
      CAPTURE(dropout);
      Setting<Case, Norm<T, Cpu>> s(training, with_branch, dropout);
      static_cast<void>(s.forward());
      s.backward();
      const auto dresidual = s.dresidual.to_host();
      const auto dbranch = s.dbranch.to_host();
      const auto gradients = test::gradients_of(s.norm);
      const auto loss = [&] { return s.loss(); };
      test::check_tensor_differences<Case>("residual", s.residual, dresidual, loss);
      if (with_branch) {
        test::check_tensor_differences<Case>("branch", s.branch, dbranch, loss);
        CHECK(test::relative_difference(dbranch, test::dropped(dresidual, width, s.drop, training.pass)) <=
              Case::tolerance);
      }
      test::check_parameter_differences<Case>(s.norm, loss);

      // plus is added to the residual's gradient before the branch's is made of it; parameters' gradients are added to
      const auto plus = test::random<Case>({training.tokens(), width}, 8, training.cpu);
      s.dresidual = plus.clone();
      static_cast<void>(s.forward());
      s.backward(std::as_const(s.dresidual).matrix());
      auto expected = plus.to_host();
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += dresidual[i];
      CHECK(test::relative_difference(s.dresidual.to_host(), expected) <= Case::tolerance);
      if (with_branch) {
        CHECK(test::relative_difference(s.dbranch.to_host(), test::dropped(expected, width, s.drop, training.pass)) <=
              Case::tolerance);
      }
      const auto twice = test::gradients_of(s.norm);
      for (std::size_t i = 0; i < twice.size(); ++i) {
        auto sum = gradients[i].second;
        for (auto& g : sum) g *= 2;
        CHECK(test::relative_difference(twice[i].second, sum) <= Case::tolerance);
      }
    }
  }
}

TEST_CASE_TEMPLATE("LayerNorm: residual, branch and parameters by differences", Case, test::CpuF32, test::CpuF64) {
  check_norm<Case, nn::LayerNorm>();
}
TEST_CASE_TEMPLATE("RmsNorm: residual, branch and parameters by differences", Case, test::CpuF32, test::CpuF64) {
  check_norm<Case, nn::RmsNorm>();
}

TEST_CASE("adding the branch inside the norm is adding it before") {
  const test::TrainingPass training;
  for (const double dropout : {0.0, 0.1}) {
    Setting<test::CpuF64, nn::LayerNorm<double, Cpu>> fused(training, true, dropout);
    Setting<test::CpuF64, nn::LayerNorm<double, Cpu>> plain(training, false, 0.0);
    auto sum = test::dropped(fused.branch.to_host(), width, fused.drop, training.pass);
    const auto residual = fused.residual.to_host();
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += residual[i];
    plain.residual = Tensor<double, Cpu>::from_host(plain.residual.shape(), sum, training.cpu);
    CHECK(test::relative_difference(fused.forward(), plain.forward()) <= test::CpuF64::tolerance);
    const auto value = test::rows_to_host(fused.norm.value(fused.stream(), fused.cache), training.cpu);
    CHECK(test::relative_difference(value, sum) <= test::CpuF64::tolerance);
    fused.backward();
    plain.backward();
    CHECK(test::relative_difference(fused.dresidual.to_host(), plain.dresidual.to_host()) <= test::CpuF64::tolerance);
  }
}

TEST_CASE("norms by their formulas; outside of training nothing is dropped") {
  test::TrainingPass training;
  training.pass.training = false;
  Setting<test::CpuF64, nn::LayerNorm<double, Cpu>> layer(training, true, 0.5);
  Setting<test::CpuF64, nn::RmsNorm<double, Cpu>> rms(training, true, 0.5);
  const auto y_layer = layer.forward();
  const auto y_rms = rms.forward();
  std::vector<double> expected_layer, expected_rms;
  for (index_t t = 0; t < training.tokens(); ++t) {
    double mean = 0.0, square = 0.0;
    for (index_t c = 0; c < width; ++c) {
      const double s = layer.residual.matrix()(t, c) + layer.branch.matrix()(t, c);
      mean += s / width;
      square += s * s / width;
    }
    for (index_t c = 0; c < width; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const double s = layer.residual.matrix()(t, c) + layer.branch.matrix()(t, c);
      expected_layer.push_back((s - mean) / std::sqrt(square - mean * mean + 1e-5) * layer.norm.weight.to_host()[at] +
                               layer.norm.bias->to_host()[at]);
      expected_rms.push_back(s / std::sqrt(square + 1e-5) * rms.norm.weight.to_host()[at]);
    }
  }
  CHECK(test::relative_difference(y_layer, expected_layer) <= test::CpuF64::tolerance);
  CHECK(test::relative_difference(y_rms, expected_rms) <= test::CpuF64::tolerance);
}

TEST_CASE("LayerNorm without a bias, RmsNorm never has one; initial values are one and zero") {
  const test::TrainingPass training;
  Setting<test::CpuF64, nn::LayerNorm<double, Cpu>> without(training, true, 0.1, false);
  CHECK_FALSE(without.norm.bias.has_value());
  static_cast<void>(without.forward());
  without.backward();
  test::check_parameter_differences<test::CpuF64>(without.norm, [&] { return without.loss(); });

  nn::RmsNorm<double, Cpu> rms({.width = width, .bias = true});
  CHECK_FALSE(rms.bias.has_value());
  Setting<test::CpuF64, nn::LayerNorm<double, Cpu>> with(training, false, 0.0);
  with.norm.initialise();
  CHECK(with.norm.weight.to_host() == std::vector<double>(width, 1.0));
  CHECK(with.norm.bias->to_host() == std::vector<double>(width, 0.0));
}

TEST_CASE("a negative eps is refused") {
  CHECK_THROWS_WITH_AS((nn::RmsNorm<double, Cpu>({.width = 4, .eps = -1e-5})),
                       "[Norm] eps must not be negative: -1e-05", ArgumentError);
}

}  // namespace
