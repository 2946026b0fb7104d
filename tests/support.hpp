// SPDX-License-Identifier: MIT
/// @file
/// @brief The dtype x device axes of the typed tests, random data, packed batches, and the one gradient check.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>

#include "dtype_support.hpp"

namespace storylm::test {

/// One point of the dtype x device grid, with the tolerances that its dtype deserves.
template <FloatDtype T, Device D>
struct On {
  using value_type = T;
  using device_type = D;
  using tensor = Tensor<T, D>;
  /// Of a result against the same in double on the rounded inputs, relative to the largest element: for bf16 and half
  /// a few of their roundings.
  static constexpr double tolerance = std::is_same_v<T, bf16>   ? 1e-2
                                      : std::is_same_v<T, half> ? 1.5e-3
                                      : sizeof(T) == 8          ? 1e-12
                                                                : 2e-5;
  /// Of a gradient against central differences with `step`, relative to 1 + the gradient. Not for bf16 and half, whose
  /// roundings drown differences.
  static constexpr double difference_tolerance = sizeof(T) == 8 ? 1e-6 : 2e-2;
  static constexpr double step = sizeof(T) == 8 ? 1e-5 : 1e-2;
};
using CpuF32 = On<float, Cpu>;
using CpuF64 = On<double, Cpu>;
using CpuBf16 = On<bf16, Cpu>;
using CpuF16 = On<half, Cpu>;

/// Standard normal values.
template <class Case>
std::vector<typename Case::value_type> random_values(index_t size, std::uint64_t seed) {
  RandomStream random(seed, 0, 0x7E57);
  std::vector<typename Case::value_type> values(static_cast<std::size_t>(size));
  for (auto& v : values) v = from_double<typename Case::value_type>(random.normal());
  return values;
}
template <class Case>
typename Case::tensor random(Shape shape, std::uint64_t seed, const typename Case::device_type& device) {
  return Case::tensor::from_host(shape, random_values<Case>(shape.size(), seed), device);
}

/// A batch of sequences of these lengths with random ids below `vocab_size`; targets are the next ids, none at the end.
inline Packed<Cpu> packed(const std::vector<index_t>& lengths, index_t vocab_size, std::uint64_t seed = 1) {
  Capacity capacity{.tokens = 1, .sequences = static_cast<index_t>(lengths.size()), .longest = 1};
  for (const index_t length : lengths) {
    capacity.tokens += length;
    capacity.longest = std::max(capacity.longest, length);
  }
  Packed<Cpu> batch(capacity, Cpu{});
  RandomStream random(seed, 1, 0x7E57);
  std::uint32_t ordinal = 0;
  for (const index_t length : lengths) {
    std::vector<token_t> ids(static_cast<std::size_t>(length));
    for (auto& id : ids) id = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
    std::vector<token_t> targets(ids.size(), no_target);
    if (!ids.empty()) std::copy(ids.begin() + 1, ids.end(), targets.begin());
    batch.append(ids, targets, ordinal++);
  }
  return batch;
}

/// max |a - b| / max |b|: how tensors are compared.
template <class A, class B>
double relative_difference(const A& a, const B& b) {
  REQUIRE(std::size(a) == std::size(b));
  double difference = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < std::size(a); ++i) {
    const double x = to_double(a[i]);
    const double y = to_double(b[i]);
    if (std::isnan(x) != std::isnan(y)) return INFINITY;
    difference = std::max(difference, std::abs(x - y));
    largest = std::max(largest, std::abs(y));
  }
  return largest > 0.0 ? difference / largest : difference;
}

/// sum(w * y): a scalar "loss" whose gradient with respect to y is w.
template <class T>
double weighted_sum(const std::vector<T>& y, const std::vector<T>& w) {
  double sum = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += to_double(y[i]) * to_double(w[i]);
  return sum;
}

/// The rows of a matrix in a device's memory, on the host.
template <class T, Device D>
std::vector<std::remove_const_t<T>> rows_to_host(MatrixView<T> m, const D& device) {
  std::vector<std::remove_const_t<T>> values(static_cast<std::size_t>(m.rows * m.cols));
  for (index_t r = 0; r < m.rows; ++r)
    device.copy_to_host(values.data() + r * m.cols, m.row(r), static_cast<std::size_t>(m.cols) * sizeof(T));
  device.synchronize();
  return values;
}

/// Compares `gradient`, element by element, with central differences of `loss()` in `values`; `write(values)` makes the
/// values those that loss() sees. Every `every`-th element is checked.
template <class Case, class Loss, class Write>
void check_differences(const std::string& what, std::vector<typename Case::value_type> values,
                       const std::vector<typename Case::value_type>& gradient, Loss&& loss, Write&& write,
                       std::size_t every = 1) {
  using T = typename Case::value_type;
  static_assert(std::is_same_v<T, accumulator_t<T>>, "differences of bf16 and half are all rounding");
  REQUIRE(values.size() == gradient.size());
  for (std::size_t i = 0; i < values.size(); i += every) {
    CAPTURE(what);
    CAPTURE(i);
    const T kept = values[i];
    const auto loss_at = [&](T value) {
      values[i] = value;
      write(values);
      return loss();
    };
    const double up = loss_at(kept + static_cast<T>(Case::step));
    const double down = loss_at(kept - static_cast<T>(Case::step));
    loss_at(kept);
    const double expected = (up - down) / (2.0 * Case::step);
    CHECK(std::abs(expected - static_cast<double>(gradient[i])) <=
          Case::difference_tolerance * (1.0 + std::abs(expected)));
  }
}

/// Compares a layer's backward with central differences, for its input and every parameter; also that backward adds to
/// the parameters' gradients, and what `plus` does.
/// @param x (tokens, width) for the tokens of pass.batch
template <class Case, class L>
requires nn::Layer<L, typename Case::device_type>
void check_gradients(L& layer, nn::ParameterStore<typename Case::value_type, typename Case::device_type>& store,
                     typename Case::tensor x, const Pass<typename Case::device_type>& pass) {
  using T = typename Case::value_type;
  const auto& device = pass.device;
  auto cache = layer.make_cache(device, {x.shape()[0], std::max<index_t>(pass.batch.sequences, 1), x.shape()[0]});
  const auto forward = [&] { return rows_to_host(layer.forward(std::as_const(x).matrix(), pass, cache), device); };
  const auto y = forward();
  const auto w = random_values<Case>(static_cast<index_t>(y.size()), 7);
  const index_t out = static_cast<index_t>(y.size()) / x.shape()[0];
  const auto loss = [&] { return weighted_sum(forward(), w); };

  const auto backward = [&](bool with_plus) {
    static_cast<void>(forward());
    auto dy = Case::tensor::from_host({x.shape()[0], out}, w, device);
    auto dx = Case::tensor::from_host(x.shape(), std::vector<T>(static_cast<std::size_t>(x.size()), T(NAN)), device);
    auto plus = random<Case>(x.shape(), 8, device);
    layer.backward(std::as_const(x).matrix(), dy.matrix(), dx.matrix(), pass, cache,
                   with_plus ? std::as_const(plus).matrix() : MatrixView<const T>{});
    return dx.to_host();
  };
  store.zero_gradients();
  const auto dx = backward(false);
  std::vector<std::vector<T>> gradients;
  nn::for_each_parameter(layer, [&](const std::string&, auto& p) { gradients.push_back(p.gradient_to_host()); });

  check_differences<Case>("input", x.to_host(), dx, loss, [&](const std::vector<T>& values) {
    device.copy_from_host(x.data(), values.data(), x.bytes());
  });
  std::size_t at = 0;
  nn::for_each_parameter(layer, [&](const std::string& name, auto& p) {
    check_differences<Case>(name, p.to_host(), gradients[at++], loss,
                            [&](const std::vector<T>& values) { p.assign(values); });
  });

  const auto dx_plus = backward(true);  // adds plus to dx, and a second time to the parameters
  const auto plus = random_values<Case>(x.size(), 8);
  std::vector<T> sum(dx.size());
  std::transform(dx.begin(), dx.end(), plus.begin(), sum.begin(), [](T a, T b) { return a + b; });
  CHECK(relative_difference(dx_plus, sum) <= Case::tolerance);
  at = 0;
  nn::for_each_parameter(layer, [&](const std::string& name, auto& p) {
    CAPTURE(name);
    auto twice = gradients[at++];
    for (auto& g : twice) g *= 2;
    CHECK(relative_difference(p.gradient_to_host(), twice) <= Case::tolerance);
  });
}

}  // namespace storylm::test
