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

#include <storylm/core/random.hpp>
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

/// A value's bits must not depend on where in an array or in a vector it stands, nor on whether it is in one.
template <class F>
void check_same_bits_everywhere(const F& function) {
  constexpr auto lanes = static_cast<std::size_t>(cpu::vector_lanes<float>);
  std::vector<float> inputs = {0.0F, -0.0F, 1e-40F, -1e-30F, 103.0F, -103.5F, 88.5F, -88.5F, 1e9F, infinity, -infinity};
  while (inputs.size() < 48) inputs.push_back((static_cast<float>(inputs.size()) - 30.0F) * 0.437F + 0.0113F);
  std::vector<float> alone;
  for (const float x : inputs) {
    const volatile float hidden = x;  // keeps the compiler from folding or vectorising this one
    alone.push_back(function(static_cast<float>(hidden)));
  }
  alignas(64) std::array<float, 128> from{};
  alignas(64) std::array<float, 128> to{};
  int different = 0;
  const auto compare = [&](const float* y, std::size_t length) {
    for (std::size_t i = 0; i < length; ++i) {
      if (std::bit_cast<std::uint32_t>(y[i]) != std::bit_cast<std::uint32_t>(alone[i])) ++different;
    }
  };
  for (std::size_t length = 1; length <= inputs.size(); ++length) {
    for (std::size_t offset = 0; offset < 16; ++offset) {
      std::copy_n(inputs.begin(), length, from.begin() + static_cast<std::ptrdiff_t>(offset));
      const float* x = from.data() + offset;
      float* y = to.data() + offset;
      for (std::size_t i = 0; i < length; ++i) y[i] = function(x[i]);
      compare(y, length);
      cpu::for_each_vector<float>(static_cast<storylm::index_t>(length), [&](storylm::index_t i, auto which) {
        cpu::store_as<float>(y + i, function(cpu::load_as<float>(x + i, which)), which);
      });
      compare(y, length);
    }
  }
  CHECK(different == 0);
  const auto nans = function(cpu::broadcast(nan));
  for (std::size_t l = 0; l < lanes; ++l) CHECK(std::isnan(nans[static_cast<int>(l)]));
}

/// The largest error of a vector's lanes and of the float version, where functions are the same text.
template <class F, class G>
void check_vector_errors(double allowed, const F& function, const G& truth) {
  double error = 0.0;
  constexpr int lanes = cpu::vector_lanes<float>;
  for (int i = 0; i < 200000; i += lanes) {
    cpu::Vector<float> x{};
    for (int l = 0; l < lanes; ++l) x[l] = static_cast<float>(i + l - 100000) * 8e-4F;
    const cpu::Vector<float> y = function(x);
    for (int l = 0; l < lanes; ++l) error = std::max(error, ulps(y[l], truth(static_cast<double>(x[l]))));
  }
  CHECK(error < allowed);
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

TEST_CASE("vectors of floats agree with the standard library in double") {
  check_vector_errors(1.0, exp_of, [](double x) { return std::exp(x); });
  check_vector_errors(2.0, tanh_of, [](double x) { return std::tanh(x); });
  check_vector_errors(2.0, erf_of, [](double x) { return std::erf(x); });
  check_vector_errors(3.0, sigmoid_of, [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
}

TEST_CASE("vectors of doubles go to the standard library") {
  cpu::Vector<double> x{};
  for (int l = 0; l < cpu::vector_lanes<double>; ++l) x[l] = 1.5 * l - 2.25;
  for (int l = 0; l < cpu::vector_lanes<double>; ++l) {
    CHECK(cpu::exp(x)[l] == std::exp(x[l]));
    CHECK(cpu::tanh(x)[l] == std::tanh(x[l]));
    CHECK(cpu::erf(x)[l] == std::erf(x[l]));
    CHECK(cpu::sigmoid(x)[l] == 1.0 / (1.0 + std::exp(-x[l])));
  }
}

TEST_CASE("a value has the same bits at every position of an array and of a vector, and alone") {
  check_same_bits_everywhere(exp_of);
  check_same_bits_everywhere(tanh_of);
  check_same_bits_everywhere(erf_of);
  check_same_bits_everywhere(sigmoid_of);
}

TEST_CASE_TEMPLATE("store_as rounds as the dtype's constructor does, load_as widens as its conversion", T,
                   storylm::bf16, storylm::half) {
  constexpr int lanes = cpu::vector_lanes<float>;
  storylm::RandomStream random(1);
  int different = 0;
  for (int round = 0; round < 20000; ++round) {
    cpu::Vector<float> x{};
    for (int l = 0; l < lanes;
         ++l) {  // any bits at all: also subnormals, infinities and NaNs, ties a fourth of the time
      auto bits = static_cast<std::uint32_t>(random.below(std::uint64_t{1} << 32U));
      if (l % 4 == 0) bits &= 0xFFFF8000U;
      if (round % 2 == 0) bits = (bits & 0x80FFFFFFU) | 0x3F000000U;  // but in every other vector all are near one
      if (l == 5 && round % 8 == 0) bits &= 0x807FFFFFU;              // and then perhaps one subnormal among them
      x[l] = std::bit_cast<float>(bits);
    }
    T stored[lanes];
    cpu::store_as<float>(static_cast<T*>(stored), x);
    const auto again = cpu::load_as<float>(static_cast<const T*>(stored));
    for (int l = 0; l < lanes; ++l) {
      if (stored[l] != T(x[l])) ++different;
      const float lane = again[l];
      const auto wide = static_cast<float>(stored[l]);
      if (std::bit_cast<std::uint32_t>(lane) != std::bit_cast<std::uint32_t>(wide)) ++different;
    }
  }
  CHECK(different == 0);
}

}  // namespace
