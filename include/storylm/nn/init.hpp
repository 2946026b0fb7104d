// SPDX-License-Identifier: MIT
/// @file
/// @brief Initial values, drawn on the host: the same on every device.
#pragma once

#include <cmath>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/nn/parameter.hpp>

namespace storylm::nn {

namespace detail {
template <class T, class D, class F>
void fill(Parameter<T, D>& p, F&& next) {
  std::vector<accumulator_t<T>> values(static_cast<std::size_t>(p.size()));
  for (auto& v : values) v = static_cast<accumulator_t<T>>(next());
  p.assign(values);
}
}  // namespace detail

/// Every value the same.
template <class T, class D>
void init_constant(Parameter<T, D>& p, double value) {
  detail::fill(p, [&] { return value; });
}

/// Uniform in [-bound, bound).
template <class T, class D>
void init_uniform(Parameter<T, D>& p, double bound, RandomStream& random) {
  detail::fill(p, [&] { return bound * (2.0 * random.uniform() - 1.0); });
}

/// Normal with mean 0.
template <class T, class D>
void init_normal(Parameter<T, D>& p, double standard_deviation, RandomStream& random) {
  detail::fill(p, [&] { return standard_deviation * random.normal(); });
}

/// Uniform with bound sqrt(6 / (fan_in + fan_out)), fans being the two extents of a matrix. Glorot and Bengio,
/// AISTATS 2010; torch.nn.init.xavier_uniform_.
template <class T, class D>
void init_xavier_uniform(Parameter<T, D>& p, RandomStream& random) {
  const auto fans = static_cast<double>(p.shape().rows() + p.shape().cols());
  init_uniform(p, std::sqrt(6.0 / fans), random);
}

}  // namespace storylm::nn
