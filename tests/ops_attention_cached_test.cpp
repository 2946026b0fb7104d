// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/core/random.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/ops/attention_cached.hpp>
#include <storylm/tensor/packed.hpp>

#include "allocation_counter.hpp"

namespace {
using namespace storylm;

std::size_t at(index_t i) { return static_cast<std::size_t>(i); }

template <class T>
std::vector<T> noise(index_t n, std::uint64_t seed) {
  RandomStream random(seed);
  std::vector<T> values(at(n));
  for (T& value : values) value = T(static_cast<accumulator_t<T>>(random.normal()));
  return values;
}

template <class T>
T not_a_number() {
  return static_cast<T>(std::numeric_limits<float>::quiet_NaN());
}

template <class T>
double in_double(T value) {
  return static_cast<double>(static_cast<accumulator_t<T>>(value));
}

/// Of a result, relative to the largest element.
template <class T>
constexpr double tolerance = 1e-2;
template <>
constexpr double tolerance<half> = 1e-3;
template <>
constexpr double tolerance<float> = 2e-6;
template <>
constexpr double tolerance<double> = 1e-14;

/// The same bits everywhere.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Cache memory begins as NaN: whatever is read before it is stored is seen.
template <class T, class TKV = T>
class Cache {
 public:
  Cache(const AttentionSpec& spec, index_t slots, index_t capacity)
      : capacity_(capacity),
        keys_(at(slots * capacity * spec.kv_width()), not_a_number<TKV>()),
        values_(keys_.size(), not_a_number<TKV>()) {}
  KvView<TKV> view(const std::vector<std::int32_t>& slots) {
    return {.keys = keys_.data(), .values = values_.data(), .capacity = capacity_, .slots = slots.data()};
  }

 private:
  index_t capacity_;
  std::vector<TKV> keys_;
  std::vector<TKV> values_;
};

/// One step of generation: for each of several stories, rows [first, first + count) of its qkv. Appends to each y.
template <class T, class TKV>
void advance(const Cpu& device, Cache<T, TKV>& cache, const AttentionSpec& spec,
             const std::vector<std::vector<T>>& stories, const std::vector<std::int32_t>& slots, index_t count,
             std::vector<std::vector<T>>& y) {
  const auto sequences = static_cast<index_t>(stories.size());
  Packed<Cpu> batch({.tokens = sequences * count, .sequences = sequences, .longest = count}, device);
  std::vector<T> qkv;
  for (std::size_t s = 0; s < stories.size(); ++s) {
    const index_t first = static_cast<index_t>(y[s].size()) / spec.q_width();
    batch.append(std::vector<token_t>(at(count)), {}, static_cast<std::uint32_t>(s), first);
    const auto begin = stories[s].begin() + first * spec.qkv_width();
    qkv.insert(qkv.end(), begin, begin + count * spec.qkv_width());
  }
  std::vector<T> out(at(sequences * count * spec.q_width()), not_a_number<T>());
  ops::attention_cached(device, MatrixView<T>(out.data(), batch.tokens(), spec.q_width()),
                        MatrixView<const T>(qkv.data(), batch.tokens(), spec.qkv_width()), cache.view(slots), spec,
                        batch.view());
  for (std::size_t s = 0; s < stories.size(); ++s) {
    const auto begin = out.begin() + static_cast<index_t>(s) * count * spec.q_width();
    y[s].insert(y[s].end(), begin, begin + count * spec.q_width());
  }
}

/// One story alone, in calls of the given sizes.
template <class T, class TKV = T>
std::vector<T> alone(const AttentionSpec& spec, const std::vector<T>& story, const std::vector<index_t>& counts,
                     int threads = 1) {
  Cache<T, TKV> cache(spec, 1, static_cast<index_t>(story.size()) / spec.qkv_width());
  std::vector<std::vector<T>> y(1);
  for (const index_t count : counts) advance(Cpu({.threads = threads}), cache, spec, {story}, {0}, count, y);
  return y[0];
}

/// The specification: a plain loop in double.
template <class T>
std::vector<double> specification(const AttentionSpec& spec, const std::vector<T>& qkv) {
  const index_t rows = static_cast<index_t>(qkv.size()) / spec.qkv_width();
  const index_t d = spec.head_dim;
  std::vector<double> y(at(rows * spec.q_width()), 0.0);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t h = 0; h < spec.heads; ++h) {
      const index_t kv = spec.q_width() + h / (spec.heads / spec.kv_heads) * d;
      const index_t first = spec.window > 0 ? std::max<index_t>(0, i - spec.window + 1) : 0;
      const auto value = [&](index_t row, index_t column) {
        return in_double(qkv[at(row * spec.qkv_width() + column)]);
      };
      double sum = 0.0;
      for (index_t j = first; j <= i; ++j) {
        double score = 0.0;
        for (index_t c = 0; c < d; ++c) score += value(i, h * d + c) * value(j, kv + c);
        const double weight = std::exp(score / std::sqrt(static_cast<double>(d)));
        sum += weight;
        for (index_t c = 0; c < d; ++c)
          y[at(i * spec.q_width() + h * d + c)] += weight * value(j, kv + spec.kv_width() + c);
      }
      for (index_t c = 0; c < d; ++c) y[at(i * spec.q_width() + h * d + c)] /= sum;
    }
  }
  return y;
}

template <class A, class B>
double difference(const std::vector<A>& a, const std::vector<B>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(in_double(a[i]) - in_double(b[i]));
    error = e <= error ? error : std::isnan(e) ? std::numeric_limits<double>::infinity() : e;
    largest = std::max(largest, std::fabs(in_double(b[i])));
  }
  return error / largest;
}

std::vector<index_t> ones(index_t n) { return std::vector<index_t>(at(n), 1); }

TEST_CASE_TEMPLATE("cached attention agrees with the plain loop and with attention over the whole sequence", T, float,
                   double, bf16, half) {
  constexpr index_t rows = 140;
  for (const AttentionSpec& spec : {AttentionSpec{.heads = 8, .kv_heads = 2, .head_dim = 16},
                                    AttentionSpec{.heads = 4, .kv_heads = 1, .head_dim = 6},
                                    AttentionSpec{.heads = 1, .kv_heads = 1, .head_dim = 2},
                                    AttentionSpec{.heads = 2, .kv_heads = 2, .head_dim = 72},
                                    AttentionSpec{.heads = 2, .kv_heads = 2, .head_dim = 64, .window = 1},
                                    AttentionSpec{.heads = 2, .kv_heads = 1, .head_dim = 128, .window = 8},
                                    AttentionSpec{.heads = 2, .kv_heads = 1, .head_dim = 32, .window = 64}}) {
    CAPTURE(spec.head_dim);
    CAPTURE(spec.window);
    const std::vector<T> qkv = noise<T>(rows * spec.qkv_width(), 1);
    const std::vector<T> y = alone(spec, qkv, {rows});
    CHECK(difference(y, specification(spec, qkv)) < tolerance<T>);
    const Cpu device({.threads = 1});
    Packed<Cpu> batch({.tokens = rows, .sequences = 1, .longest = rows}, device);
    batch.append(std::vector<token_t>(at(rows)), {}, 0U);
    std::vector<T> full(y.size());
    std::vector<accumulator_t<T>> lse(at(rows * spec.heads));
    ops::attention(device, MatrixView<T>(full.data(), rows, spec.q_width()),
                   MatrixView<accumulator_t<T>>(lse.data(), rows, spec.heads),
                   MatrixView<const T>(qkv.data(), rows, spec.qkv_width()), spec, {}, batch.view());
    CHECK(difference(y, full) < 2.0 * tolerance<T>);
  }
}

TEST_CASE_TEMPLATE("prefill, decoding and anything between give the same bits, on any number of threads", T, float,
                   double, bf16, half) {
  for (const AttentionSpec& spec : {AttentionSpec{.heads = 4, .kv_heads = 2, .head_dim = 20},
                                    AttentionSpec{.heads = 4, .kv_heads = 2, .head_dim = 64, .window = 50}}) {
    const std::vector<T> qkv = noise<T>(150 * spec.qkv_width(), 2);
    const std::vector<T> whole = alone(spec, qkv, {150});
    CHECK(same(whole, alone(spec, qkv, ones(150))));
    CHECK(same(whole, alone(spec, qkv, {1, 63, 3, 60, 7, 16})));
    CHECK(same(whole, alone(spec, qkv, {150}, 2)));
    CHECK(same(whole, alone(spec, qkv, {75, 75}, 3)));
  }
}

TEST_CASE_TEMPLATE("a story has the same bits alone and in batches of 1, 2, 4, 7 and 33", T, float, double, bf16,
                   half) {
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 24};
  constexpr index_t rows = 70;
  std::vector<std::vector<T>> all;
  std::vector<std::vector<T>> expected;
  for (std::uint64_t s = 0; s < 33; ++s) {
    all.push_back(noise<T>(rows * spec.qkv_width(), 100 + s));
    expected.push_back(alone(spec, all.back(), {rows}));
  }
  for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{4}, std::size_t{7}, std::size_t{33}}) {
    CAPTURE(size);
    const std::vector<std::vector<T>> stories(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size));
    std::vector<std::int32_t> slots;  // in another order than the batch
    for (std::size_t s = 0; s < size; ++s) slots.push_back(static_cast<std::int32_t>(size - 1 - s));
    Cache<T> cache(spec, static_cast<index_t>(size), rows);
    std::vector<std::vector<T>> y(size);
    advance(Cpu({.threads = 2}), cache, spec, stories, slots, 9, y);
    for (index_t row = 9; row < rows; ++row) advance(Cpu({.threads = 1}), cache, spec, stories, slots, 1, y);
    for (std::size_t s = 0; s < size; ++s) CHECK(same(y[s], expected[s]));
  }
}

TEST_CASE_TEMPLATE("a narrower cache is attention on rounded keys and values", TKV, bf16, half) {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 22};
  std::vector<float> qkv = noise<float>(80 * spec.qkv_width(), 3);
  const std::vector<float> y = alone<float, TKV>(spec, qkv, ones(80));
  for (index_t row = 0; row < 80; ++row) {
    for (index_t c = spec.q_width(); c < spec.qkv_width(); ++c) {
      float& x = qkv[at(row * spec.qkv_width() + c)];
      x = static_cast<float>(TKV(x));
    }
  }
  CHECK(y == alone(spec, qkv, ones(80)));
}

TEST_CASE("the second call allocates nothing, and only the new rows' cache is written") {
  const AttentionSpec spec{.heads = 2, .kv_heads = 2, .head_dim = 8};
  const Cpu device({.threads = 2});
  Packed<Cpu> batch({.tokens = 5, .sequences = 2, .longest = 3}, device);
  batch.append(std::vector<token_t>(2), {}, 0U, 0);
  batch.append(std::vector<token_t>(3), {}, 1U, 0);
  const std::vector<float> qkv = noise<float>(5 * spec.qkv_width(), 4);
  std::vector<float> y(at(5 * spec.q_width()));
  std::vector<float> keys(at(3 * 4 * spec.kv_width()), -1.0F);
  std::vector<float> values(keys);
  const std::vector<std::int32_t> slots = {2, 0};
  const KvView<float> kv{.keys = keys.data(), .values = values.data(), .capacity = 4, .slots = slots.data()};
  const auto once = [&] {
    ops::attention_cached(device, MatrixView<float>(y.data(), 5, spec.q_width()),
                          MatrixView<const float>(qkv.data(), 5, spec.qkv_width()), kv, spec, batch.view());
  };
  const long before = allocations;
  once();
  const long first = allocations;
  CHECK(first > before);
  once();
  CHECK(allocations == first);
  for (index_t slot = 0; slot < 3; ++slot) {
    for (index_t position = 0; position < 4; ++position) {
      const index_t stored = slot == 2 ? 2 : slot == 0 ? 3 : 0;
      const index_t row = position + (slot == 0 ? 2 : 0);
      for (index_t c = 0; c < spec.kv_width(); ++c) {
        const std::size_t where = at((slot * 4 + position) * spec.kv_width() + c);
        const std::size_t from = at(row * spec.qkv_width() + spec.q_width() + c);
        CHECK(keys[where] == (position < stored ? qkv[from] : -1.0F));
        CHECK(values[where] == (position < stored ? qkv[from + at(spec.kv_width())] : -1.0F));
      }
    }
  }
}

TEST_CASE("wrong shapes and positions beyond the cache are refused with their numbers") {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 4};
  const Cpu device({.threads = 1});
  std::vector<float> memory(1000);
  const std::vector<std::int32_t> slots = {0};
  KvView<float> kv{.keys = memory.data(), .values = memory.data() + 100, .capacity = 8, .slots = slots.data()};
  Packed<Cpu> batch({.tokens = 3, .sequences = 1, .longest = 3}, device);
  batch.append(std::vector<token_t>(3), {}, 0U, 6);
  const MatrixView<float> y(memory.data() + 300, 3, 8);
  const MatrixView<float> qkv(memory.data() + 400, 3, 16);
  CHECK_THROWS_WITH_AS(ops::attention_cached(device, y, qkv, kv, spec, batch.view()),
                       "[attention_cached] position 2 is 8, expected less than 8 and not negative", ShapeError);
  kv.capacity = 9;
  CHECK_NOTHROW(ops::attention_cached(device, y, qkv, kv, spec, batch.view()));
  CHECK_THROWS_WITH_AS(ops::attention_cached(device, y, qkv.slice_cols(0, 15), kv, spec, batch.view()),
                       "[attention_cached] qkv is (3, 15), expected (3, 16)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::attention_cached(device, y.slice_rows(0, 2), qkv, kv, spec, batch.view()),
                       "[attention_cached] y is (2, 8), expected (3, 8)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::attention_cached(device, qkv.slice_cols(0, 8), qkv, kv, spec, batch.view()),
                       "[attention_cached] y overlaps qkv", ArgumentError);
  kv.slots = nullptr;
  CHECK_THROWS_WITH_AS(ops::attention_cached(device, y, qkv, kv, spec, batch.view()),
                       "[attention_cached] keys, values or slots are null, the batch has 3 tokens", ArgumentError);
}

}  // namespace
