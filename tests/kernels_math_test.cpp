// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/kernels/cpu/dispatch.hpp>

namespace {
namespace cpu = storylm::cpu::promised;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// |value - truth| in units of the last place that a float near truth has.
double ulps(float value, double truth) {
  if (static_cast<double>(value) == truth) return 0.0;
  const auto rounded = static_cast<float>(std::fabs(truth));
  if (std::isinf(rounded)) return std::isinf(value) && (value > 0.0F) == (truth > 0.0) ? 0.0 : 1e30;
  const double unit = static_cast<double>(std::nextafter(rounded, infinity)) - static_cast<double>(rounded);
  return std::fabs(static_cast<double>(value) - truth) / unit;
}

/// Largest error over a dense walk of [low, high], the points themselves floats.
template <class F, class G>
double worst(float low, float high, const F& function, const G& truth) {
  constexpr int points = 400000;
  double error = 0.0;
  for (int i = 0; i <= points; ++i) {
    const auto x = static_cast<float>(static_cast<double>(low) + (static_cast<double>(high) - low) * i / points);
    error = std::max(error, ulps(function(x), truth(static_cast<double>(x))));
  }
  return error;
}

/// The same over magnitudes: 400000 points on a logarithmic scale, of both signs.
template <class F, class G>
double worst_by_magnitude(double low, double high, const F& function, const G& truth) {
  constexpr int points = 200000;
  double error = 0.0;
  for (int i = 0; i <= points; ++i) {
    const auto x = static_cast<float>(low * std::pow(high / low, static_cast<double>(i) / points));
    error = std::max(error, ulps(function(x), truth(static_cast<double>(x))));
    error = std::max(error, ulps(function(-x), truth(-static_cast<double>(x))));
  }
  return error;
}

const auto exp_of = [](auto x) { return cpu::exp(x); };
const auto tanh_of = [](auto x) { return cpu::tanh(x); };
const auto erf_of = [](auto x) { return cpu::erf(x); };
const auto sigmoid_of = [](auto x) { return cpu::sigmoid(x); };

/// A value's bits must not depend on where in an array it stands.
template <class F>
void check_same_bits_everywhere(const F& function) {
  std::vector<float> alone;
  std::vector<float> inputs;
  for (int i = 0; i < 40; ++i) inputs.push_back(static_cast<float>(i - 20) * 0.437F + 0.0113F);
  for (const float x : inputs) {
    const volatile float hidden = x;  // keeps the compiler from folding or vectorising this one
    alone.push_back(function(static_cast<float>(hidden)));
  }
  alignas(64) std::array<float, 128> from{};
  alignas(64) std::array<float, 128> to{};
  int different = 0;
  for (std::size_t length = 1; length <= 40; ++length) {
    for (std::size_t offset = 0; offset < 16; ++offset) {
      for (std::size_t i = 0; i < length; ++i) from[offset + i] = inputs[i];
      const float* x = from.data() + offset;
      float* y = to.data() + offset;
      for (std::size_t i = 0; i < length; ++i) y[i] = function(x[i]);
      for (std::size_t i = 0; i < length; ++i) {
        if (std::bit_cast<std::uint32_t>(y[i]) != std::bit_cast<std::uint32_t>(alone[i])) ++different;
      }
    }
  }
  CHECK(different == 0);
}

TEST_CASE("exp in float agrees with the standard library's in double") {
  const auto truth = [](double x) { return std::exp(x); };
  CHECK(worst(-1.0F, 1.0F, exp_of, truth) < 1.0);
  CHECK(worst(-87.0F, 88.7F, exp_of, truth) < 1.0);
  CHECK(worst(-110.0F, -87.0F, exp_of, truth) < 1.0);  // results below the normal range, then 0
  CHECK(worst(88.7F, 100.0F, exp_of, truth) < 1.0);    // and above it
  CHECK(cpu::exp(0.0F) == 1.0F);
  CHECK(cpu::exp(-0.0F) == 1.0F);
  CHECK(cpu::exp(-infinity) == 0.0F);
  CHECK(cpu::exp(-1e30F) == 0.0F);
  CHECK(cpu::exp(infinity) == infinity);
  CHECK(cpu::exp(1e30F) == infinity);
  CHECK(std::isnan(cpu::exp(nan)));
}

TEST_CASE("tanh in float agrees with the standard library's in double") {
  const auto truth = [](double x) { return std::tanh(x); };
  CHECK(worst(-12.0F, 12.0F, tanh_of, truth) < 2.0);
  CHECK(worst_by_magnitude(1e-37, 1e30, tanh_of, truth) < 2.0);
  CHECK(cpu::tanh(infinity) == 1.0F);
  CHECK(cpu::tanh(-infinity) == -1.0F);
  CHECK(cpu::tanh(0.0F) == 0.0F);
  CHECK(std::signbit(cpu::tanh(-0.0F)));
  CHECK(std::isnan(cpu::tanh(nan)));
}

TEST_CASE("erf in float agrees with the standard library's in double") {
  const auto truth = [](double x) { return std::erf(x); };
  CHECK(worst(-5.0F, 5.0F, erf_of, truth) < 2.0);
  CHECK(worst_by_magnitude(1e-37, 1e30, erf_of, truth) < 2.0);
  CHECK(cpu::erf(infinity) == 1.0F);
  CHECK(cpu::erf(-infinity) == -1.0F);
  CHECK(std::signbit(cpu::erf(-0.0F)));
  CHECK(std::isnan(cpu::erf(nan)));
}

TEST_CASE("the logistic function in float agrees with the formula in double") {
  const auto truth = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  CHECK(worst(-87.0F, 87.0F, sigmoid_of, truth) < 3.0);
  CHECK(cpu::sigmoid(0.0F) == 0.5F);
  CHECK(cpu::sigmoid(infinity) == 1.0F);
  CHECK(cpu::sigmoid(-infinity) == 0.0F);
  CHECK(cpu::sigmoid(-100.0F) < 1e-37F);
  CHECK(std::isnan(cpu::sigmoid(nan)));
}

TEST_CASE("doubles go to the standard library") {
  for (const double x : {-30.0, -1.25, -0.0, 0.3, 2.0, 700.0}) {
    CHECK(cpu::exp(x) == std::exp(x));
    CHECK(cpu::tanh(x) == std::tanh(x));
    CHECK(cpu::erf(x) == std::erf(x));
    CHECK(cpu::sigmoid(x) == 1.0 / (1.0 + std::exp(-x)));
  }
  CHECK(cpu::multiply_add(3.0, 4.0, 5.0) == 17.0);
  CHECK(cpu::multiply_add(3.0F, 4.0F, 5.0F) == 17.0F);
}

TEST_CASE("a value has the same bits at every position and alignment of an array") {
  check_same_bits_everywhere(exp_of);
  check_same_bits_everywhere(tanh_of);
  check_same_bits_everywhere(erf_of);
  check_same_bits_everywhere(sigmoid_of);
}

}  // namespace
