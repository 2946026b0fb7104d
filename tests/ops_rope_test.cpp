// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/core/random.hpp>
#include <storylm/ops/rope.hpp>
#include <storylm/tensor/packed.hpp>

#include "allocation_counter.hpp"
#include "dtype_support.hpp"

namespace {
using namespace storylm;
using test::from_double;
using test::to_double;

constexpr AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 22};

template <class T>
std::vector<T> noise(index_t n, std::uint64_t seed) {
  RandomStream random(seed);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = from_double<T>(random.normal());
  return values;
}

/// Sequences of 40, 0 and 7 tokens; the last continues at `far`.
Packed<Cpu> make_batch(index_t far) {
  Packed<Cpu> batch({.tokens = 47, .sequences = 3, .longest = 40}, Cpu({.threads = 1}));
  batch.append(std::vector<token_t>(40), {}, 0U);
  batch.append({}, {}, 1U);
  batch.append(std::vector<token_t>(7), {}, 2U, far);
  return batch;
}

template <class T>
MatrixView<T> view(std::vector<T>& qkv) {
  return {qkv.data(), static_cast<index_t>(qkv.size()) / spec.qkv_width(), spec.qkv_width()};
}

/// The specification; sign = -1 is backward. In float the frequency and the angle are rounded as PyTorch's are
/// (transformers computes 1 / theta ** (arange(0, d, 2).float() / d), then the product with the position, both in
/// float).
template <class T>
std::vector<double> specification(const std::vector<T>& qkv, const PackedView& batch, double theta, RopeLayout layout,
                                  double sign) {
  using A = accumulator_t<T>;
  std::vector<double> out;
  for (const T value : qkv) out.push_back(to_double(value));
  const index_t half = spec.head_dim / 2;
  for (index_t row = 0; row < batch.tokens; ++row) {
    for (index_t head = 0; head < spec.heads + spec.kv_heads; ++head) {
      for (index_t i = 0; i < half; ++i) {
        const A power = std::pow(static_cast<A>(theta), static_cast<A>(2 * i) / static_cast<A>(spec.head_dim));
        const A angle = static_cast<A>(batch.positions[row]) * (A{1} / power);
        const double c = std::cos(static_cast<double>(angle));
        const double s = sign * std::sin(static_cast<double>(angle));
        const index_t begin = row * spec.qkv_width() + head * spec.head_dim;
        const auto first = static_cast<std::size_t>(begin + (layout == RopeLayout::half_split ? i : 2 * i));
        const auto second = static_cast<std::size_t>(begin + (layout == RopeLayout::half_split ? i + half : 2 * i + 1));
        const double a = out[first];
        const double b = out[second];
        out[first] = a * c - b * s;
        out[second] = a * s + b * c;
      }
    }
  }
  return out;
}

template <class A, class B>
double largest_difference(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(to_double(a[i]) - to_double(b[i]));
    largest = e <= largest ? largest : std::isnan(e) ? std::numeric_limits<double>::infinity() : e;
  }
  return largest;
}

TEST_CASE_TEMPLATE("queries and keys are rotated by their positions, values are left alone", T, float, double, bf16,
                   half) {
  const Cpu device({.threads = 2});
  constexpr double largest = 6.0;  // of the values
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 1e-6 + (sizeof(T) == 2 ? largest * test::unit_roundoff<T> : 0.0);
  for (const index_t far : {index_t{0}, index_t{12}, index_t{1000}, index_t{5000}}) {  // by position, then by row
    const Packed<Cpu> batch = make_batch(far);
    for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved}) {
      for (const double theta : {10000.0, 500.0, 1e6}) {
        const std::vector<T> x = noise<T>(47 * spec.qkv_width(), 1);
        std::vector<T> qkv = x;
        ops::rope(device, view(qkv), spec, theta, layout, batch.view());
        CHECK(largest_difference(qkv, specification(x, batch.view(), theta, layout, 1.0)) < tolerance);
        qkv = x;
        ops::rope_backward(device, view(qkv), spec, theta, layout, batch.view());
        CHECK(largest_difference(qkv, specification(x, batch.view(), theta, layout, -1.0)) < tolerance);
      }
    }
  }
}

TEST_CASE_TEMPLATE("backward turns back: it undoes the rotation and is its transpose", T, float, double) {
  const Cpu device({.threads = 1});
  const Packed<Cpu> batch = make_batch(90);
  for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved}) {
    const std::vector<T> x = noise<T>(47 * spec.qkv_width(), 2);
    const std::vector<T> dy = noise<T>(47 * spec.qkv_width(), 3);
    std::vector<T> y = x;
    ops::rope(device, view(y), spec, 10000.0, layout, batch.view());
    std::vector<T> dx = dy;
    ops::rope_backward(device, view(dx), spec, 10000.0, layout, batch.view());
    double forward = 0.0;  // <dy, R x> = <R^T dy, x>
    double backward = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      forward += static_cast<double>(dy[i]) * static_cast<double>(y[i]);
      backward += static_cast<double>(dx[i]) * static_cast<double>(x[i]);
    }
    CHECK(std::fabs(forward - backward) < (std::is_same_v<T, float> ? 1e-4 : 1e-12));
    CHECK(largest_difference(y, x) > 0.5);
    ops::rope_backward(device, view(y), spec, 10000.0, layout, batch.view());
    CHECK(largest_difference(y, x) < (std::is_same_v<T, float> ? 1e-6 : 1e-14));
  }
}

TEST_CASE_TEMPLATE("a row has the same bits alone, in a batch and on any number of threads", T, float, double, bf16) {
  const Packed<Cpu> batch = make_batch(33);
  for (const RopeLayout layout : {RopeLayout::half_split, RopeLayout::interleaved}) {
    const std::vector<T> x = noise<T>(47 * spec.qkv_width(), 4);
    std::vector<T> whole = x;
    ops::rope(Cpu({.threads = 1}), view(whole), spec, 10000.0, layout, batch.view());
    for (const int threads : {2, 3}) {
      std::vector<T> again = x;
      ops::rope(Cpu({.threads = threads}), view(again), spec, 10000.0, layout, batch.view());
      CHECK(again == whole);
    }
    int different = 0;
    for (index_t row = 0; row < 47; ++row) {
      Packed<Cpu> single({.tokens = 1, .sequences = 1, .longest = 1}, Cpu({.threads = 1}));
      single.append(std::vector<token_t>(1), {}, 0U, batch.view().positions[row]);
      const auto begin = row * spec.qkv_width();
      std::vector<T> alone(x.begin() + begin, x.begin() + begin + spec.qkv_width());
      ops::rope(Cpu({.threads = 1}), view(alone), spec, 10000.0, layout, single.view());
      if (!std::equal(alone.begin(), alone.end(), whole.begin() + begin)) ++different;
    }
    CHECK(different == 0);
  }
}

TEST_CASE("scores depend on the distance of positions only") {
  const AttentionSpec one{.heads = 1, .kv_heads = 1, .head_dim = 8};
  const Cpu device({.threads = 1});
  const std::vector<double> row = noise<double>(one.qkv_width(), 5);
  const auto score = [&](index_t query, index_t key) {
    std::vector<double> rows(row);
    rows.insert(rows.end(), row.begin(), row.end());
    Packed<Cpu> batch({.tokens = 2, .sequences = 2, .longest = 1}, device);
    batch.append(std::vector<token_t>(1), {}, 0U, query);
    batch.append(std::vector<token_t>(1), {}, 1U, key);
    ops::rope(device, MatrixView<double>(rows.data(), 2, one.qkv_width()), one, 10000.0, RopeLayout::half_split,
              batch.view());
    double sum = 0.0;
    for (std::size_t c = 0; c < 8; ++c) sum += rows[c] * rows[24 + 8 + c];
    return sum;
  };
  CHECK(std::fabs(score(5, 2) - score(105, 102)) < 1e-12);
  CHECK(std::fabs(score(5, 2) - score(5, 3)) > 1e-3);
}

TEST_CASE("the second call allocates nothing") {
  const Cpu device({.threads = 2});
  const Packed<Cpu> batch = make_batch(3);
  std::vector<float> qkv = noise<float>(47 * spec.qkv_width(), 6);
  const long before = allocations;
  ops::rope(device, view(qkv), spec, 10000.0, RopeLayout::half_split, batch.view());
  const long first = allocations;
  CHECK(first > before);
  ops::rope_backward(device, view(qkv), spec, 10000.0, RopeLayout::half_split, batch.view());
  CHECK(allocations == first);
}

TEST_CASE("wrong shapes and frequencies are refused with their numbers") {
  const Cpu device({.threads = 1});
  const Packed<Cpu> batch = make_batch(3);
  std::vector<float> qkv(47 * 200);
  const auto call = [&](index_t cols, const AttentionSpec& shape, double theta) {
    ops::rope(device, MatrixView<float>(qkv.data(), 47, cols), shape, theta, RopeLayout::half_split, batch.view());
  };
  CHECK_NOTHROW(call(spec.qkv_width(), spec, 10000.0));
  CHECK_THROWS_WITH_AS(call(175, spec, 10000.0), "[rope] qkv is (47, 175), expected (47, 176)", ShapeError);
  CHECK_THROWS_WITH_AS(call(176, {.heads = 4, .kv_heads = 2, .head_dim = 21}, 10000.0),
                       "[rope] head_dim must be even and positive: 21", ShapeError);
  CHECK_THROWS_WITH_AS(call(176, spec, 0.0), "[rope] theta must be positive and finite: 0", ArgumentError);
}

}  // namespace
