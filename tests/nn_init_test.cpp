// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/nn/init.hpp>

namespace {
using namespace storylm;

/// A parameter of its own, bf16 with master.
template <class T>
struct Bound {
  explicit Bound(Shape shape) : parameter(shape), values({shape.size()}, cpu), masters({shape.size()}, cpu) {
    parameter.bind(cpu, values.data(), masters.data(), nullptr);
  }
  Cpu cpu;
  nn::Parameter<T, Cpu> parameter;
  Tensor<T, Cpu> values;
  Tensor<accumulator_t<T>, Cpu> masters;
};

struct Moments {
  double mean = 0.0, variance = 0.0, largest = 0.0;
};
Moments moments(const std::vector<float>& values) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (const float v : values) m.mean += static_cast<double>(v) / n;
  for (const float v : values) {
    m.variance += std::pow(static_cast<double>(v) - m.mean, 2) / n;
    m.largest = std::max(m.largest, std::abs(static_cast<double>(v)));
  }
  return m;
}

// 40,000 draws: the mean of n lies within 5 sigma / sqrt(n), their variance within 5 sqrt(kurtosis - 1) / sqrt(n) of
// sigma^2 (kurtosis: 1.8 uniform, 3 normal), that is 2.3 % and 3.6 %.
constexpr Shape shape = {160, 250};

TEST_CASE("xavier: uniform with bound sqrt(6 / (fan_in + fan_out))") {
  Bound<float> p(shape);
  RandomStream random(1);
  nn::init_xavier_uniform(p.parameter, random);
  const double bound = std::sqrt(6.0 / 410.0);
  const Moments m = moments(p.parameter.to_host());
  CHECK(m.largest <= bound);
  CHECK(m.largest > 0.999 * bound);
  CHECK(std::abs(m.mean) < 5.0 * bound / std::sqrt(3.0) / 200.0);
  CHECK(std::abs(m.variance / (bound * bound / 3.0) - 1.0) < 0.023);
}

TEST_CASE("normal, constant, uniform") {
  Bound<float> p(shape);
  RandomStream random(1);
  nn::init_normal(p.parameter, 0.02, random);
  const Moments m = moments(p.parameter.to_host());
  CHECK(std::abs(m.mean) < 5.0 * 0.02 / 200.0);
  CHECK(std::abs(m.variance / 0.0004 - 1.0) < 0.036);
  CHECK(m.largest > 3.5 * 0.02);

  nn::init_uniform(p.parameter, 0.5, random);
  const Moments u = moments(p.parameter.to_host());
  CHECK(u.largest <= 0.5);
  CHECK(u.largest > 0.4995);
  CHECK(std::abs(u.mean) < 5.0 * 0.5 / std::sqrt(3.0) / 200.0);

  nn::init_constant(p.parameter, 0.25);
  CHECK(p.parameter.to_host() == std::vector<float>(static_cast<std::size_t>(shape.size()), 0.25F));
}

TEST_CASE("the same stream gives the same values, in every dtype; the master is not rounded") {
  const auto drawn = [](auto p, std::uint64_t seed) {
    RandomStream random(seed);
    nn::init_normal(p.parameter, 1.0, random);
    return p.parameter.to_host();
  };
  const auto single = drawn(Bound<float>({7, 5}), 3);
  CHECK(single == drawn(Bound<float>({7, 5}), 3));
  CHECK(single == drawn(Bound<bf16>({7, 5}), 3));
  CHECK(single != drawn(Bound<float>({7, 5}), 4));
  const auto twice = drawn(Bound<double>({7, 5}), 3);
  for (std::size_t i = 0; i < single.size(); ++i) CHECK(static_cast<float>(twice[i]) == single[i]);
}

}  // namespace
