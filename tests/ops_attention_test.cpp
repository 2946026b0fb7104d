// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/device.hpp>
#include <storylm/core/random.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/tensor/packed.hpp>

#include "allocation_counter.hpp"

namespace {
using namespace storylm;

const std::vector<index_t> all_lengths = {0, 1, 2, 31, 32, 33, 63, 64, 65, 200, 256, 257};

struct Batch {
  std::vector<index_t> lengths;
  std::vector<std::uint32_t> ordinals;
  Packed<Cpu> packed;

  explicit Batch(std::vector<index_t> sizes, std::vector<std::uint32_t> numbers = {})
      : lengths(std::move(sizes)), ordinals(std::move(numbers)), packed(capacity(lengths), Cpu({.threads = 1})) {
    if (ordinals.empty()) {
      for (std::size_t s = 0; s < lengths.size(); ++s) ordinals.push_back(static_cast<std::uint32_t>(s));
    }
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      packed.append(std::vector<token_t>(static_cast<std::size_t>(lengths[s])), {}, ordinals[s]);
    }
  }
  static Capacity capacity(const std::vector<index_t>& lengths) {
    return {.tokens = std::accumulate(lengths.begin(), lengths.end(), index_t{0}),
            .sequences = static_cast<index_t>(lengths.size()),
            .longest = std::ranges::max(lengths)};
  }
  [[nodiscard]] index_t tokens() const { return packed.tokens(); }
};

template <class T>
std::vector<T> noise(index_t n, std::uint64_t seed) {
  RandomStream random(seed);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = static_cast<T>(static_cast<accumulator_t<T>>(random.normal()));
  return values;
}

template <class T>
std::vector<double> in_double(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T& value : values) wide.push_back(static_cast<double>(static_cast<accumulator_t<T>>(value)));
  return wide;
}

template <class T>
struct Result {
  std::vector<T> y;                   // (tokens, q_width)
  std::vector<accumulator_t<T>> lse;  // (tokens, heads)
  std::vector<T> dqkv;                // (tokens, qkv_width)
  friend bool operator==(const Result&, const Result&) = default;
};

double dropout_factor(const DropoutSpec& dropout, std::uint32_t ordinal, index_t position, index_t head, index_t key) {
  if (!dropout.active()) return 1.0;
  const PhiloxCounter block = philox4x32({ordinal, static_cast<std::uint32_t>(position),
                                          static_cast<std::uint32_t>(head), static_cast<std::uint32_t>(key / 8)},
                                         derive_key(dropout.seed, dropout.state->step, dropout.site));
  return lane16(block, static_cast<int>(key % 8)) >= dropout.threshold() ? dropout.scale() : 0.0;
}

/// The specification: plain loops in double. dy may be empty: no backward.
Result<double> specification(const std::vector<double>& qkv, const std::vector<double>& dy, const AttentionSpec& spec,
                             const DropoutSpec& dropout, const Batch& batch) {
  const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
  const index_t d = spec.head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(d));
  Result<double> out;
  out.y.assign(at(batch.tokens() * spec.q_width()), 0.0);
  out.lse.assign(at(batch.tokens() * spec.heads), 0.0);
  out.dqkv.assign(dy.empty() ? 0 : qkv.size(), 0.0);
  index_t begin = 0;
  for (std::size_t s = 0; s < batch.lengths.size(); begin += batch.lengths[s], ++s) {
    for (index_t i = 0; i < batch.lengths[s]; ++i) {
      for (index_t h = 0; h < spec.heads; ++h) {
        const index_t kv = h / (spec.heads / spec.kv_heads);
        const index_t q = (begin + i) * spec.qkv_width() + h * d;
        const index_t first = spec.window > 0 ? std::max<index_t>(0, i - spec.window + 1) : 0;
        const auto key = [&](index_t j) { return (begin + j) * spec.qkv_width() + spec.q_width() + kv * d; };
        const auto value = [&](index_t j) { return key(j) + spec.kv_width(); };
        std::vector<double> p(at(i + 1));
        double sum = 0.0;
        double largest = -std::numeric_limits<double>::infinity();
        for (index_t j = first; j <= i; ++j) {
          for (index_t c = 0; c < d; ++c) p[at(j)] += qkv[at(q + c)] * qkv[at(key(j) + c)] * scale;
          largest = std::max(largest, p[at(j)]);
        }
        for (index_t j = first; j <= i; ++j) sum += std::exp(p[at(j)] - largest);
        const double lse = largest + std::log(sum);
        out.lse[at((begin + i) * spec.heads + h)] = lse;
        const index_t row = (begin + i) * spec.q_width() + h * d;
        std::vector<double> dp(at(i + 1));
        double dot = 0.0;
        for (index_t j = first; j <= i; ++j) {
          p[at(j)] = std::exp(p[at(j)] - lse);
          const double factor = dropout_factor(dropout, batch.ordinals[s], i, h, j);
          for (index_t c = 0; c < d; ++c) out.y[at(row + c)] += p[at(j)] * factor * qkv[at(value(j) + c)];
          if (dy.empty()) continue;
          for (index_t c = 0; c < d; ++c) {
            dp[at(j)] += dy[at(row + c)] * qkv[at(value(j) + c)] * factor;
            out.dqkv[at(value(j) + c)] += p[at(j)] * factor * dy[at(row + c)];
          }
          dot += p[at(j)] * dp[at(j)];
        }
        if (dy.empty()) continue;
        for (index_t j = first; j <= i; ++j) {
          const double ds = p[at(j)] * (dp[at(j)] - dot) * scale;
          for (index_t c = 0; c < d; ++c) {
            out.dqkv[at(q + c)] += ds * qkv[at(key(j) + c)];
            out.dqkv[at(key(j) + c)] += ds * qkv[at(q + c)];
          }
        }
      }
    }
  }
  return out;
}

/// The op under test. Outputs begin as NaN: whatever is not written is seen.
template <class T>
Result<T> run(const Cpu& device, const std::vector<T>& qkv, const std::vector<T>& dy, const AttentionSpec& spec,
              const DropoutSpec& dropout, const Batch& batch) {
  using A = accumulator_t<T>;
  const auto poison = static_cast<T>(std::numeric_limits<A>::quiet_NaN());
  const index_t tokens = batch.tokens();
  Result<T> out;
  out.y.assign(static_cast<std::size_t>(tokens * spec.q_width()), poison);
  out.lse.assign(static_cast<std::size_t>(tokens * spec.heads), std::numeric_limits<A>::quiet_NaN());
  out.dqkv.assign(qkv.size(), poison);
  const MatrixView<const T> in(qkv.data(), tokens, spec.qkv_width());
  const MatrixView<T> y(out.y.data(), tokens, spec.q_width());
  const MatrixView<A> lse(out.lse.data(), tokens, spec.heads);
  ops::attention(device, y, lse, in, spec, dropout, batch.packed.view());
  ops::attention_backward(device, MatrixView<T>(out.dqkv.data(), tokens, spec.qkv_width()),
                          MatrixView<const T>(dy.data(), tokens, spec.q_width()), y, lse, in, spec, dropout,
                          batch.packed.view());
  return out;
}

/// max |a - b| / max |b|; infinite when a holds a NaN.
template <class T>
double difference(const std::vector<T>& values, const std::vector<double>& b) {
  const std::vector<double> a = in_double(values);
  REQUIRE(a.size() == b.size());
  double error = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(a[i] - b[i]);
    error = e <= error ? error : std::isnan(e) ? std::numeric_limits<double>::infinity() : e;
    largest = std::max(largest, std::fabs(b[i]));
  }
  return largest > 0.0 ? error / largest : error;
}

/// Relative to the largest element.
struct Tolerance {
  double y;
  double lse;
  double dqkv;
};
template <class T>
constexpr Tolerance tolerance{};
template <>
constexpr Tolerance tolerance<float>{2e-6, 2e-6, 1e-5};
template <>
constexpr Tolerance tolerance<double>{1e-14, 1e-14, 1e-13};
// lse is float; probabilities and their gradients may be rounded as the storage is before they are multiplied.
template <>
constexpr Tolerance tolerance<bf16>{1e-2, 2e-6, 1e-2};
template <>
constexpr Tolerance tolerance<half>{1e-3, 2e-6, 1.5e-3};

template <class T>
void check_against_specification(const AttentionSpec& spec, const DropoutSpec& dropout, const Batch& batch) {
  CAPTURE(spec.heads);
  CAPTURE(spec.kv_heads);
  CAPTURE(spec.head_dim);
  CAPTURE(spec.window);
  CAPTURE(dropout.probability);
  const std::vector<T> qkv = noise<T>(batch.tokens() * spec.qkv_width(), 1);
  const std::vector<T> dy = noise<T>(batch.tokens() * spec.q_width(), 2);
  const Result<T> got = run(Cpu({.threads = 2}), qkv, dy, spec, dropout, batch);
  const Result<double> expected = specification(in_double(qkv), in_double(dy), spec, dropout, batch);
  CHECK(difference(got.y, expected.y) < tolerance<T>.y);
  CHECK(difference(got.lse, expected.lse) < tolerance<T>.lse);
  CHECK(difference(got.dqkv, expected.dqkv) < tolerance<T>.dqkv);
}

DropoutSpec with_dropout(const StepState& state) {
  return {.probability = 0.1, .seed = 99, .site = 3, .state = &state};
}

TEST_CASE_TEMPLATE("attention agrees with the plain loop: lengths, windows, groups, head sizes, dropout", T, float,
                   double, bf16, half) {
  StepState state;
  state.step = 7;
  const Batch batch(all_lengths);
  for (const index_t window : {index_t{0}, index_t{1}, index_t{8}, index_t{64}}) {
    check_against_specification<T>({.heads = 4, .kv_heads = 1, .head_dim = 16, .window = window}, {}, batch);
    check_against_specification<T>({.heads = 4, .kv_heads = 1, .head_dim = 16, .window = window}, with_dropout(state),
                                   batch);
  }
  const Batch shorter({1, 65, 0, 130, 33});
  for (const index_t head_dim : {2, 6, 16, 18, 32, 40, 64, 72, 128}) {
    check_against_specification<T>({.heads = 2, .kv_heads = 2, .head_dim = head_dim}, {}, shorter);
  }
  check_against_specification<T>({.heads = 8, .kv_heads = 2, .head_dim = 32}, with_dropout(state), shorter);
  check_against_specification<T>({.heads = 8, .kv_heads = 2, .head_dim = 64, .window = 40}, {}, shorter);
  check_against_specification<T>({.heads = 1, .kv_heads = 1, .head_dim = 64}, with_dropout(state), Batch({200}));
  check_against_specification<T>({.heads = 2, .kv_heads = 1, .head_dim = 16}, with_dropout(state), Batch({1000}));
  check_against_specification<T>({.heads = 2, .kv_heads = 1, .head_dim = 16, .window = 333}, {}, Batch({1000, 129}));
  check_against_specification<T>({.heads = 2, .kv_heads = 1, .head_dim = 8, .window = 130}, with_dropout(state),
                                 Batch({255, 256, 257, 513}));
}

TEST_CASE("powers of two are within 2 ulp, zero far below and NaN of NaN") {
  using Floats = cpu::promised::Vector<float>;
  const auto power = [](float x) { return cpu::promised::power_of_two<float>(Floats{} + x)[0]; };
  double worst = 0.0;
  for (int i = -125 * 1000; i <= 1000; ++i) {
    const float x = static_cast<float>(i) / 1000.0F;
    const double expected = std::exp2(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(expected) - 23);
    worst = std::max(worst, std::fabs(static_cast<double>(power(x)) - expected) / ulp);
  }
  CHECK(worst < 2.0);
  CHECK(power(0.0F) == 1.0F);
  CHECK(power(-130.0F) == std::ldexp(1.0F, -130));
  CHECK(power(-1000.0F) == 0.0F);
  CHECK(power(-std::numeric_limits<float>::infinity()) == 0.0F);
  CHECK(std::isnan(power(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("backward agrees with finite differences") {
  StepState state;
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 6, .window = 5};
  const DropoutSpec dropout{.probability = 0.3, .seed = 5, .site = 1, .state = &state};
  const Batch batch({3, 9, 1});
  std::vector<double> qkv = noise<double>(batch.tokens() * spec.qkv_width(), 3);
  const std::vector<double> dy = noise<double>(batch.tokens() * spec.q_width(), 4);
  const Cpu device({.threads = 1});
  const Result<double> got = run(device, qkv, dy, spec, dropout, batch);
  const auto loss = [&] {
    const Result<double> result = run(device, qkv, dy, spec, dropout, batch);
    return std::inner_product(dy.begin(), dy.end(), result.y.begin(), 0.0);
  };
  constexpr double step = 1e-5;
  std::vector<double> numeric;
  for (double& x : qkv) {
    const double kept = x;
    x = kept + step;
    const double above = loss();
    x = kept - step;
    const double below = loss();
    x = kept;
    numeric.push_back((above - below) / (2.0 * step));
  }
  CHECK(difference(got.dqkv, numeric) < 1e-8);
}

TEST_CASE_TEMPLATE("the bits depend neither on threads nor on the rest of the batch", T, float, bf16) {
  StepState state;
  state.step = 3;
  const DropoutSpec dropout = with_dropout(state);
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 32, .window = 100};
  const Batch batch(all_lengths);
  const std::vector<T> qkv = noise<T>(batch.tokens() * spec.qkv_width(), 5);
  const std::vector<T> dy = noise<T>(batch.tokens() * spec.q_width(), 6);
  const Result<T> one = run(Cpu({.threads = 1}), qkv, dy, spec, dropout, batch);
  CHECK(one == run(Cpu({.threads = 2}), qkv, dy, spec, dropout, batch));
  CHECK(one == run(Cpu({.threads = 7}), qkv, dy, spec, dropout, batch));
  // Each story alone, with its ordinal: the same rows.
  index_t begin = 0;
  for (std::size_t s = 0; s < all_lengths.size(); begin += all_lengths[s], ++s) {
    const auto part = [&](const auto& values, index_t width) {
      return std::decay_t<decltype(values)>(values.begin() + begin * width,
                                            values.begin() + (begin + all_lengths[s]) * width);
    };
    const Batch alone({all_lengths[s]}, {batch.ordinals[s]});
    const Result<T> got =
        run(Cpu({.threads = 2}), part(qkv, spec.qkv_width()), part(dy, spec.q_width()), spec, dropout, alone);
    CHECK(got.y == part(one.y, spec.q_width()));
    CHECK(got.lse == part(one.lse, spec.heads));
    CHECK(got.dqkv == part(one.dqkv, spec.qkv_width()));
  }
}

TEST_CASE("NaNs of one sequence do not reach its neighbours") {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 10};
  const Batch batch({33, 21, 70});
  std::vector<float> qkv = noise<float>(batch.tokens() * spec.qkv_width(), 21);
  const std::vector<float> dy = noise<float>(batch.tokens() * spec.q_width(), 22);
  const Cpu device({.threads = 2});
  const Result<float> clean = run(device, qkv, dy, spec, {}, batch);
  std::fill(qkv.begin() + 33 * spec.qkv_width(), qkv.begin() + 54 * spec.qkv_width(),
            std::numeric_limits<float>::quiet_NaN());
  const Result<float> got = run(device, qkv, dy, spec, {}, batch);
  const auto same_outside = [](const std::vector<float>& a, const std::vector<float>& b, index_t width) {
    return std::equal(a.begin(), a.begin() + 33 * width, b.begin()) &&
           std::equal(a.begin() + 54 * width, a.end(), b.begin() + 54 * width);
  };
  CHECK(same_outside(got.y, clean.y, spec.q_width()));
  CHECK(same_outside(got.lse, clean.lse, spec.heads));
  CHECK(same_outside(got.dqkv, clean.dqkv, spec.qkv_width()));
  const auto is_nan = [](float x) { return std::isnan(x); };
  CHECK(std::all_of(got.y.begin() + 33 * spec.q_width(), got.y.begin() + 54 * spec.q_width(), is_nan));
}

TEST_CASE("another ordinal, step or site is another mask") {
  StepState state;
  const DropoutSpec dropout = with_dropout(state);
  const AttentionSpec spec{.heads = 2, .kv_heads = 2, .head_dim = 16};
  const Batch batch({40}, {6});
  const std::vector<float> qkv = noise<float>(40 * spec.qkv_width(), 7);
  const std::vector<float> dy = noise<float>(40 * spec.q_width(), 8);
  const Cpu device({.threads = 1});
  const Result<float> base = run(device, qkv, dy, spec, dropout, batch);
  CHECK(base.y != run(device, qkv, dy, spec, dropout, Batch({40}, {7})).y);
  DropoutSpec other = dropout;
  other.site = 4;
  CHECK(base.y != run(device, qkv, dy, spec, other, batch).y);
  state.step = 1;
  CHECK(base.y != run(device, qkv, dy, spec, dropout, batch).y);
  state.step = 0;
  CHECK(base == run(device, qkv, dy, spec, dropout, batch));
}

TEST_CASE("large scores neither overflow nor vanish") {
  const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = 16};
  const Batch batch({150});
  std::vector<float> qkv = noise<float>(150 * spec.qkv_width(), 9);
  for (index_t row = 0; row < 150; ++row) {
    for (index_t c = 0; c < 32; ++c) qkv[static_cast<std::size_t>(row * spec.qkv_width() + c)] *= 30.0F;
  }
  const std::vector<float> dy = noise<float>(150 * spec.q_width(), 10);
  const Result<float> got = run(Cpu({.threads = 1}), qkv, dy, spec, {}, batch);
  const Result<double> expected = specification(std::vector<double>(qkv.begin(), qkv.end()),
                                                std::vector<double>(dy.begin(), dy.end()), spec, {}, batch);
  // Scores reach thousands, whose rounding is 1e-4: that much of a probability.
  CHECK(difference(got.y, expected.y) < 2e-3);
  CHECK(difference(got.lse, expected.lse) < 1e-6);
}

TEST_CASE_TEMPLATE("views with a stride work, and what lies between rows is left alone", T, float, bf16) {
  using A = accumulator_t<T>;
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 6};
  const Batch batch({5, 70});
  const index_t tokens = batch.tokens();
  const std::vector<T> qkv = noise<T>(tokens * spec.qkv_width(), 11);
  const std::vector<T> dy = noise<T>(tokens * spec.q_width(), 12);
  const Cpu device({.threads = 2});
  const Result<T> packed = run(device, qkv, dy, spec, {}, batch);
  constexpr index_t gap = 3;
  const auto spread = [&](const std::vector<T>& values, index_t width) {
    std::vector<T> out(static_cast<std::size_t>(tokens * (width + gap)), static_cast<T>(A{-5}));
    for (index_t r = 0; r < tokens; ++r)
      std::copy_n(values.begin() + r * width, width, out.begin() + r * (width + gap));
    return out;
  };
  const auto view = [&](auto& values, index_t width) { return MatrixView(values.data(), tokens, width, width + gap); };
  const std::vector<T> wide_qkv = spread(qkv, spec.qkv_width());
  const std::vector<T> wide_dy = spread(dy, spec.q_width());
  std::vector<T> y(static_cast<std::size_t>(tokens * (spec.q_width() + gap)), static_cast<T>(A{-5}));
  std::vector<T> dqkv(static_cast<std::size_t>(tokens * (spec.qkv_width() + gap)), static_cast<T>(A{-5}));
  std::vector<A> lse(static_cast<std::size_t>(tokens * spec.heads));
  const MatrixView<A> lse_view(lse.data(), tokens, spec.heads);
  ops::attention(device, view(y, spec.q_width()), lse_view, view(wide_qkv, spec.qkv_width()), spec, {},
                 batch.packed.view());
  ops::attention_backward(device, view(dqkv, spec.qkv_width()), view(wide_dy, spec.q_width()), view(y, spec.q_width()),
                          lse_view, view(wide_qkv, spec.qkv_width()), spec, {}, batch.packed.view());
  CHECK(y == spread(packed.y, spec.q_width()));
  CHECK(dqkv == spread(packed.dqkv, spec.qkv_width()));
}

TEST_CASE("the second call allocates nothing") {
  StepState state;
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 16};
  const Batch batch({100, 30});
  const index_t tokens = batch.tokens();
  const std::vector<float> qkv = noise<float>(tokens * spec.qkv_width(), 13);
  std::vector<float> y(static_cast<std::size_t>(tokens * spec.q_width()));
  std::vector<float> lse(static_cast<std::size_t>(tokens * spec.heads));
  std::vector<float> dqkv(qkv.size());
  const Cpu device({.threads = 2});
  const auto once = [&] {
    const MatrixView<const float> in(qkv.data(), tokens, spec.qkv_width());
    const MatrixView<float> out(y.data(), tokens, spec.q_width());
    const MatrixView<float> saved(lse.data(), tokens, spec.heads);
    ops::attention(device, out, saved, in, spec, with_dropout(state), batch.packed.view());
    ops::attention_backward(device, MatrixView<float>(dqkv.data(), tokens, spec.qkv_width()), out, out, saved, in, spec,
                            with_dropout(state), batch.packed.view());
  };
  const long before = allocations;
  once();
  const long first = allocations;
  CHECK(first > before);
  once();
  CHECK(allocations == first);
}

TEST_CASE("an empty batch is no work") {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 4};
  const Result<float> got = run<float>(Cpu({.threads = 2}), {}, {}, spec, {}, Batch({0, 0}));
  CHECK(got.y.empty());
}

TEST_CASE("wrong shapes are refused with their numbers") {
  const Cpu device({.threads = 1});
  const Batch batch({3, 4});
  const PackedView view = batch.packed.view();
  std::vector<float> memory(10000);
  const AttentionSpec good{.heads = 4, .kv_heads = 2, .head_dim = 8};
  const auto matrix = [&](index_t offset, index_t rows, index_t cols) {
    return MatrixView<float>(memory.data() + offset, rows, cols);
  };
  const auto call = [&](const AttentionSpec& spec, index_t qkv_rows, index_t qkv_cols, index_t y_cols,
                        index_t lse_cols) {
    ops::attention(device, matrix(0, 7, y_cols), matrix(5000, 7, lse_cols), matrix(1000, qkv_rows, qkv_cols), spec, {},
                   view);
  };
  CHECK_NOTHROW(call(good, 7, 64, 32, 4));
  CHECK_THROWS_WITH_AS(call(good, 7, 63, 32, 4), "[attention] qkv is (7, 63), expected (7, 64)", ShapeError);
  CHECK_THROWS_WITH_AS(call(good, 6, 64, 32, 4), "[attention] qkv is (6, 64), expected (7, 64)", ShapeError);
  CHECK_THROWS_WITH_AS(call(good, 7, 64, 31, 4), "[attention] y is (7, 31), expected (7, 32)", ShapeError);
  CHECK_THROWS_WITH_AS(call(good, 7, 64, 32, 3), "[attention] lse is (7, 3), expected (7, 4)", ShapeError);
  CHECK_THROWS_WITH_AS(call({.heads = 4, .kv_heads = 3, .head_dim = 8}, 7, 64, 32, 4),
                       "[attention] heads must be a multiple of kv_heads: 4 heads, 3 kv_heads", ShapeError);
  CHECK_THROWS_WITH_AS(call({.heads = 4, .kv_heads = 2, .head_dim = 7}, 7, 64, 32, 4),
                       "[attention] head_dim must be even and positive: 7", ShapeError);
  CHECK_THROWS_WITH_AS(call({.heads = 4, .kv_heads = 2, .head_dim = 8, .window = -1}, 7, 64, 32, 4),
                       "[attention] window must not be negative: -1", ShapeError);
  CHECK_THROWS_WITH_AS(
      ops::attention(device, matrix(1000, 7, 32), matrix(5000, 7, 4), matrix(1000, 7, 64), good, {}, view),
      "[attention] y overlaps qkv", ArgumentError);
  CHECK_THROWS_WITH_AS(ops::attention_backward(device, matrix(1000, 7, 64), matrix(0, 7, 32), matrix(500, 7, 32),
                                               matrix(5000, 7, 4), matrix(1000, 7, 64), good, {}, view),
                       "[attention_backward] dqkv overlaps qkv", ArgumentError);
  CHECK_THROWS_WITH_AS(ops::attention_backward(device, matrix(2000, 7, 60), matrix(0, 7, 32), matrix(500, 7, 32),
                                               matrix(5000, 7, 4), matrix(1000, 7, 64), good, {}, view),
                       "[attention_backward] dqkv is (7, 60), expected (7, 64)", ShapeError);
  const DropoutSpec impossible{.probability = 1.0};
  CHECK_THROWS_AS(
      ops::attention(device, matrix(0, 7, 32), matrix(5000, 7, 4), matrix(1000, 7, 64), good, impossible, view),
      ArgumentError);
}

}  // namespace
