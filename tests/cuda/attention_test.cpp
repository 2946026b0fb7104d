// SPDX-License-Identifier: MIT
// Attention on CUDA beside the CPU's in double: lengths, windows, groups, head sizes, dropout, strides, tails.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/cuda/attention.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr index_t any_length = std::numeric_limits<int>::max();
const std::vector<index_t> odd_lengths = {0, 1, 31, 32, 33, 63, 64, 65};

/// The values of longest_short that make a difference: there are no two backwards of float.
template <class T>
std::vector<index_t> backwards() {
  return sizeof(T) == 2 ? std::vector<index_t>{any_length, 0} : std::vector<index_t>{any_length};
}

struct Inputs {
  std::vector<double> qkv;  // (tokens, qkv_width)
  std::vector<double> dy;   // (tokens, q_width)
};
struct Results {
  std::vector<double> y;     // (tokens, q_width)
  std::vector<double> lse;   // (tokens, heads)
  std::vector<double> dqkv;  // (tokens, qkv_width)
};

template <class T>
Inputs noise(const AttentionSpec& spec, index_t tokens, std::uint64_t seed = 1) {
  return {normal_values<T>(tokens * spec.qkv_width(), seed), normal_values<T>(tokens * spec.q_width(), seed + 1)};
}

DropoutSpec dropout_of(double probability, const StepState* state) {
  return {.probability = probability, .seed = 77, .site = 4, .state = probability > 0.0 ? state : nullptr};
}

Results on_cpu(const Inputs& in, const AttentionSpec& spec, double probability, const TwinBatch& batch,
               TwinState& state) {
  using Kernel = kernel<op::attention, Cpu, double>;
  const Cpu device;
  const DropoutSpec dropout = dropout_of(probability, state.host());
  const index_t tokens = batch.tokens();
  Results out{.y = std::vector<double>(in.dy.size()),
              .lse = std::vector<double>(static_cast<std::size_t>(tokens * spec.heads)),
              .dqkv = std::vector<double>(in.qkv.size())};
  const MatrixView<const double> qkv(in.qkv.data(), tokens, spec.qkv_width());
  const MatrixView<double> y(out.y.data(), tokens, spec.q_width());
  Kernel::run(device, y, out.lse.data(), qkv, spec, dropout, batch.host());
  Kernel::backward(device, {out.dqkv.data(), tokens, spec.qkv_width()}, {in.dy.data(), tokens, spec.q_width()}, y,
                   out.lse.data(), qkv, spec, dropout, batch.host());
  return out;
}

/// Rows of `width` between `gap` NaNs, half of them before it, and NaNs as rows of the tail.
template <class T>
Tensor<T, Cuda> spread(const std::vector<double>& values, index_t rows, index_t width, index_t gap) {
  std::vector<double> wide(static_cast<std::size_t>(rows * (width + gap)), not_a_number);
  for (index_t i = 0; i < static_cast<index_t>(values.size()); ++i) {
    wide[static_cast<std::size_t>(i / width * (width + gap) + gap / 2 + i % width)] =
        values[static_cast<std::size_t>(i)];
  }
  return to_cuda<T>(wide, {rows, width + gap});
}
/// The rows of the batch; the tail's must be zeros, what lies between rows must still be NaN.
template <class T>
std::vector<double> gather(const Tensor<T, Cuda>& tensor, index_t tokens, index_t width) {
  const std::vector<double> wide = to_doubles(tensor);
  const index_t stride = tensor.shape()[1];
  const index_t before = (stride - width) / 2;
  std::vector<double> rows;
  index_t wrong = 0;
  for (index_t i = 0; i < static_cast<index_t>(wide.size()); ++i) {
    const double value = wide[static_cast<std::size_t>(i)];
    if (i % stride < before || i % stride >= before + width) {
      wrong += std::isnan(value) ? 0 : 1;
    } else if (i / stride >= tokens) {
      wrong += value == 0.0 ? 0 : 1;
    } else {
      rows.push_back(value);
    }
  }
  CHECK(wrong == 0);
  return rows;
}

struct Options {
  index_t longest_short = any_length;  ///< which backward
  index_t gap = 0;                     ///< elements between rows
  const Cuda* device = nullptr;        ///< another than that of all tests
};

template <class T>
Results on_cuda(const Inputs& in, const AttentionSpec& spec, double probability, const TwinBatch& batch,
                TwinState& state, const Options& options = {}) {
  using Kernel = kernel<op::attention, Cuda, T>;
  const Cuda& device = options.device != nullptr ? *options.device : cuda_device();
  const DropoutSpec dropout = dropout_of(probability, state.device());
  const index_t rows = batch.rows();
  const auto view = [&](auto& tensor, index_t width) {
    return MatrixView(tensor.data() + options.gap / 2, rows, width, width + options.gap);
  };
  const auto qkv = spread<T>(in.qkv, rows, spec.qkv_width(), options.gap);
  const auto dy = spread<T>(in.dy, rows, spec.q_width(), options.gap);
  auto y = poisoned<T>({rows, spec.q_width() + options.gap});
  auto lse = poisoned<float>({rows, spec.heads});
  auto dqkv = poisoned<T>({rows, spec.qkv_width() + options.gap});
  cuda_device().synchronize();
  Kernel::run(device, view(y, spec.q_width()), lse.data(), view(qkv, spec.qkv_width()), spec, dropout, batch.device());
  Kernel::backward(device, view(dqkv, spec.qkv_width()), view(dy, spec.q_width()), view(y, spec.q_width()), lse.data(),
                   view(qkv, spec.qkv_width()), spec, dropout, batch.device(), options.longest_short);
  device.synchronize();
  return {.y = gather(y, batch.tokens(), spec.q_width()),
          .lse = gather(lse, batch.tokens(), spec.heads),
          .dqkv = gather(dqkv, batch.tokens(), spec.qkv_width())};
}

/// The largest difference of a row of one head, relative to the largest element of that row, or a tenth of the largest
/// of all: one wrong element of a late row, where all are small, is still seen.
double row_difference(const std::vector<double>& actual, const std::vector<double>& expected, index_t width) {
  REQUIRE(actual.size() == expected.size());
  double largest = 0.0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  double worst = 0.0;
  for (std::size_t i = 0; i < actual.size(); i += static_cast<std::size_t>(width)) {
    double difference = 0.0;
    double of_row = std::max(0.1 * largest, 1e-30);
    for (std::size_t c = i; c < i + static_cast<std::size_t>(width); ++c) {
      if (!std::isfinite(actual[c])) return INFINITY;
      difference = std::max(difference, std::abs(actual[c] - expected[c]));
      of_row = std::max(of_row, std::abs(expected[c]));
    }
    worst = std::max(worst, difference / of_row);
  }
  return worst;
}

template <class T>
void check_results(const Results& actual, const Results& expected, const AttentionSpec& spec) {
  CHECK(row_difference(actual.y, expected.y, spec.head_dim) <= tolerance_of<T>);
  CHECK(relative_difference(actual.lse, expected.lse) <= 2e-6);
  CHECK(row_difference(actual.dqkv, expected.dqkv, spec.head_dim) <= 2.0 * tolerance_of<T>);
}
void check_same(const Results& a, const Results& b) {
  CHECK(bits_of(a.y) == bits_of(b.y));
  CHECK(bits_of(a.lse) == bits_of(b.lse));
  CHECK(bits_of(a.dqkv) == bits_of(b.dqkv));
}

/// Both backwards against the CPU, and against each other.
template <class T>
void check_against_cpu(const AttentionSpec& spec, double probability, const std::vector<index_t>& lengths,
                       index_t gap = 0) {
  CAPTURE(spec.heads);
  CAPTURE(spec.kv_heads);
  CAPTURE(spec.head_dim);
  CAPTURE(spec.window);
  CAPTURE(probability);
  CAPTURE(gap);
  CAPTURE(lengths.size());
  CAPTURE(lengths.back());
  TwinState state;
  const TwinBatch batch(lengths);
  const Inputs in = noise<T>(spec, batch.tokens());
  const Results expected = on_cpu(in, spec, probability, batch, state);
  const Results first = on_cuda<T>(in, spec, probability, batch, state, {.gap = gap});
  check_results<T>(first, expected, spec);
  if (sizeof(T) == 2 && spec.head_dim <= 128) {
    check_same(on_cuda<T>(in, spec, probability, batch, state, {.longest_short = 0, .gap = gap}), first);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("attention agrees with the CPU's in double, whatever the schedule", T, STORYLM_CUDA_DTYPES) {
  for_each_schedule([&](unsigned) {
    check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 32}, 0.0, odd_lengths);
    check_against_cpu<T>({.heads = 2, .kv_heads = 1, .head_dim = 64, .window = 40}, 0.1, {70, 0, 33, 1});
    check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 128}, 0.1, {33, 64});
  });
}

TEST_CASE_TEMPLATE("long sequences", T, STORYLM_CUDA_DTYPES) {
  for (const index_t length : {index_t{128}, index_t{200}, index_t{255}, index_t{256}}) {
    check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 64}, length == 200 ? 0.1 : 0.0, {length});
  }
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 32}, 0.1, {255, 300});  // more than fit into one block
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 128}, 0.1, {128, 256});
}

TEST_CASE_TEMPLATE("a thousand tokens", T, STORYLM_CUDA_DTYPES) {
  for (const index_t head_dim : {index_t{32}, index_t{64}, index_t{128}}) {
    if (emulated && head_dim != 64) continue;  // minutes
    const index_t length = emulated ? 520 : 1000;
    check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = head_dim}, 0.1, {length, 0, 31});
    if (!emulated) check_against_cpu<T>({.heads = 2, .kv_heads = 1, .head_dim = head_dim}, 0.0, {length, 256});
  }
}

TEST_CASE_TEMPLATE("windows", T, STORYLM_CUDA_DTYPES) {
  for (const index_t window : {index_t{1}, index_t{7}, index_t{32}, index_t{33}, index_t{64}, index_t{100}}) {
    check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 32, .window = window}, window == 33 ? 0.1 : 0.0,
                         {1, 65, 130});
  }
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 64, .window = 50}, 0.1, {200});
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 128, .window = 20}, 0.1, {100});
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 32, .window = 1000}, 0.0, {100});
}

TEST_CASE_TEMPLATE("several heads and grouped queries", T, STORYLM_CUDA_DTYPES) {
  for (const index_t kv_heads : {index_t{1}, index_t{2}, index_t{4}}) {
    check_against_cpu<T>({.heads = 4, .kv_heads = kv_heads, .head_dim = 32}, 0.1, {33, 0, 65});
  }
  check_against_cpu<T>({.heads = 4, .kv_heads = 2, .head_dim = 64, .window = 30}, 0.1, {70});
  check_against_cpu<T>({.heads = 3, .kv_heads = 1, .head_dim = 128}, 0.1, {40});
}

TEST_CASE_TEMPLATE("head sizes that are no power of two, rows that begin anywhere", T, STORYLM_CUDA_DTYPES) {
  for (const index_t head_dim : {index_t{2}, index_t{8}, index_t{24}, index_t{40}, index_t{50}, index_t{72}}) {
    check_against_cpu<T>({.heads = 2, .kv_heads = 1, .head_dim = head_dim}, 0.0, {33, 5});
  }
  for (const index_t gap : {index_t{1}, index_t{3}, index_t{8}, index_t{16}}) {
    check_against_cpu<T>({.heads = 2, .kv_heads = 2, .head_dim = 32}, 0.1, {3, 40}, gap);
  }
  check_against_cpu<T>({.heads = 1, .kv_heads = 1, .head_dim = 64}, 0.0, {70}, 3);
  check_against_cpu<T>({.heads = 2, .kv_heads = 1, .head_dim = 130}, 0.1, {40, 3});  // beyond the tensor cores' kernels
}

TEST_CASE_TEMPLATE("dropout: exactly the masks of the contract, in all products", T, STORYLM_CUDA_DTYPES) {
  // Queries are zero, so that all probabilities of a row are equal; keys, values and dy are unit vectors, one for each
  // of the keys that a query sees, and one for each of the queries that see a key. So an element of a result has one
  // element of the mask in it.
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 64, .window = 64};
  for (const double probability : {0.0, 0.1, 0.5}) {
    CAPTURE(probability);
    TwinState state;
    const TwinBatch batch({40, 0, 200});
    Inputs in{std::vector<double>(static_cast<std::size_t>(batch.tokens() * spec.qkv_width())),
              std::vector<double>(static_cast<std::size_t>(batch.tokens() * spec.q_width()))};
    const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
    for (index_t row = 0; row < batch.tokens(); ++row) {
      for (index_t c = 0; c < spec.head_dim; ++c) {
        const double unit = row % spec.head_dim == c ? 1.0 : 0.0;
        const index_t key = row * spec.qkv_width() + spec.q_width();
        in.qkv[at(key + c)] = unit;
        in.qkv[at(key + spec.kv_width() + c)] = 1.0;
        for (index_t h = 0; h < spec.heads; ++h) in.dy[at(row * spec.q_width() + h * spec.head_dim + c)] = unit;
      }
    }
    const Results expected = on_cpu(in, spec, probability, batch, state);
    Inputs units = in;  // y shows the mask where values are unit vectors, dQ where they are ones
    for (index_t row = 0; row < batch.tokens(); ++row) {
      std::copy_n(in.qkv.begin() + row * spec.qkv_width() + spec.q_width(), spec.kv_width(),
                  units.qkv.begin() + row * spec.qkv_width() + spec.q_width() + spec.kv_width());
    }
    const Results expected_of_units = on_cpu(units, spec, probability, batch, state);
    // What is wrong by more than roundings; `cancelled` is what gradients of scores are a difference of.
    const auto wrong = [&](const std::vector<double>& a, const std::vector<double>& b, double cancelled) {
      index_t count = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        count += std::abs(a[i] - b[i]) <= tolerance_of<T> * (std::abs(b[i]) + cancelled) ? 0 : 1;
      }
      return count;
    };
    const auto columns = [&](const std::vector<double>& dqkv, index_t first, index_t count) {
      std::vector<double> part;
      for (index_t row = 40 + 64; row < batch.tokens(); ++row) {  // of the long sequence, from where each sees 64 keys
        const auto begin = dqkv.begin() + row * spec.qkv_width() + first;
        part.insert(part.end(), begin, begin + count);
      }
      return part;
    };
    for (const index_t longest_short : backwards<T>()) {
      const Results of_units = on_cuda<T>(units, spec, probability, batch, state, {.longest_short = longest_short});
      const Results actual = on_cuda<T>(in, spec, probability, batch, state, {.longest_short = longest_short});
      CHECK(wrong(of_units.y, expected_of_units.y, 0.0) == 0);
      const index_t values = spec.q_width() + spec.kv_width();
      CHECK(wrong(columns(actual.dqkv, values, spec.kv_width()), columns(expected.dqkv, values, spec.kv_width()),
                  0.0) == 0);
      const double of_score = 1.0 / 64.0 / 8.0;  // probability times scale
      CHECK(wrong(columns(actual.dqkv, 0, spec.q_width()), columns(expected.dqkv, 0, spec.q_width()), of_score) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("a sequence has the same bits alone and in any batch", T, STORYLM_CUDA_DTYPES) {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 32, .window = 90};
  const std::vector<index_t> lengths = {33, 0, 140, 64, 1};
  TwinState state;
  const TwinBatch batch(lengths);
  const Inputs in = noise<T>(spec, batch.tokens());
  std::vector<index_t> choices = backwards<T>();
  if (choices.size() > 1) choices = {any_length, 64};  // all in one block each, or the longest not
  for (const index_t longest_short : choices) {
    const Results all = on_cuda<T>(in, spec, 0.1, batch, state, {.longest_short = longest_short});
    check_same(on_cuda<T>(in, spec, 0.1, batch, state, {.longest_short = longest_short}), all);
    index_t begin = 0;
    for (std::size_t s = 0; s < lengths.size(); begin += lengths[s], ++s) {
      // Sequences of no tokens before it, so that it keeps its ordinal.
      std::vector<index_t> alone(s + 1, 0);
      alone.back() = lengths[s];
      const auto part = [&](const std::vector<double>& values, index_t width) {
        return std::vector<double>(values.begin() + begin * width, values.begin() + (begin + lengths[s]) * width);
      };
      const Inputs its{part(in.qkv, spec.qkv_width()), part(in.dy, spec.q_width())};
      check_same(on_cuda<T>(its, spec, 0.1, TwinBatch(alone, 11, 0), state, {.longest_short = longest_short}),
                 {part(all.y, spec.q_width()), part(all.lse, spec.heads), part(all.dqkv, spec.qkv_width())});
    }
  }
}

TEST_CASE_TEMPLATE("another step is another mask", T, STORYLM_CUDA_DTYPES) {
  const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = 32};
  TwinState state;
  const TwinBatch batch({40});
  const Inputs in = noise<T>(spec, batch.tokens());
  const Results before = on_cuda<T>(in, spec, 0.1, batch, state);
  ++state.host()->step;
  state.write();
  const Results after = on_cuda<T>(in, spec, 0.1, batch, state);
  CHECK(bits_of(before.y) != bits_of(after.y));
  check_results<T>(after, on_cpu(in, spec, 0.1, batch, state), spec);
}

TEST_CASE_TEMPLATE("NaNs of one sequence do not reach its neighbours", T, STORYLM_CUDA_DTYPES) {
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 32};
  TwinState state;
  const TwinBatch batch({33, 21, 70});
  Inputs in = noise<T>(spec, batch.tokens());
  const Results clean = on_cuda<T>(in, spec, 0.1, batch, state);
  std::fill(in.qkv.begin() + 33 * spec.qkv_width(), in.qkv.begin() + 54 * spec.qkv_width(), not_a_number);
  std::fill(in.dy.begin() + 33 * spec.q_width(), in.dy.begin() + 54 * spec.q_width(), not_a_number);
  for (const index_t longest_short : backwards<T>()) {
    const Results got = on_cuda<T>(in, spec, 0.1, batch, state, {.longest_short = longest_short});
    const auto outside = [&](const std::vector<double>& a, index_t width) {
      std::vector<double> rest(a.begin(), a.begin() + 33 * width);
      rest.insert(rest.end(), a.begin() + 54 * width, a.end());
      return rest;
    };
    CHECK(outside(got.y, spec.q_width()) == outside(clean.y, spec.q_width()));
    CHECK(outside(got.lse, spec.heads) == outside(clean.lse, spec.heads));
    CHECK(outside(got.dqkv, spec.qkv_width()) == outside(clean.dqkv, spec.qkv_width()));
    CHECK(std::isnan(got.y[static_cast<std::size_t>(33 * spec.q_width())]));
  }
}

TEST_CASE_TEMPLATE("large scores neither overflow nor vanish", T, STORYLM_CUDA_DTYPES) {
  const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = 32};
  TwinState state;
  const TwinBatch batch({70});
  Inputs in = noise<T>(spec, batch.tokens());
  for (std::size_t i = 0; i < in.qkv.size(); ++i) {
    if (i % static_cast<std::size_t>(spec.qkv_width()) < 64) in.qkv[i] *= 32.0;  // queries and keys
  }
  const Results got = on_cuda<T>(in, spec, 0.0, batch, state);
  const Results expected = on_cpu(in, spec, 0.0, batch, state);
  // Scores reach thousands, whose rounding is 1e-4: that much of a probability.
  CHECK(relative_difference(got.y, expected.y) <= std::max(2e-3, tolerance_of<T>));
  CHECK(relative_difference(got.lse, expected.lse) <= 1e-6);
  CHECK(relative_difference(got.dqkv, expected.dqkv) <= std::max(5e-3, 2.0 * tolerance_of<T>));
}

TEST_CASE_TEMPLATE("batches of nothing, and of nothing but a tail", T, STORYLM_CUDA_DTYPES) {
  using Kernel = kernel<op::attention, Cuda, T>;
  const AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 32};
  const std::vector<std::int32_t> zeros(3);
  const auto offsets = Tensor<std::int32_t, Cuda>::from_host({3}, zeros, cuda_device());
  for (const index_t sequences : {index_t{0}, index_t{2}}) {
    for (const index_t rows : {index_t{0}, index_t{1}, index_t{70}}) {
      const PackedView batch{.tokens = rows, .sequences = sequences, .longest = 0, .offsets = offsets.data()};
      const auto qkv = poisoned<T>({rows, spec.qkv_width()});
      const auto dy = poisoned<T>({rows, spec.q_width()});
      auto y = poisoned<T>({rows, spec.q_width()});
      auto lse = poisoned<float>({rows, spec.heads});
      auto dqkv = poisoned<T>({rows, spec.qkv_width()});
      Kernel::run(cuda_device(), y.matrix(), lse.data(), qkv.matrix(), spec, {}, batch);
      Kernel::backward(cuda_device(), dqkv.matrix(), dy.matrix(), std::as_const(y).matrix(), lse.data(), qkv.matrix(),
                       spec, {}, batch);
      CHECK(gather(y, 0, spec.q_width()).empty());  // and all are zeros
      CHECK(gather(lse, 0, spec.heads).empty());
      CHECK(gather(dqkv, 0, spec.qkv_width()).empty());
    }
  }
}

#if __has_include(<emulator/engine.hpp>)
TEST_CASE_TEMPLATE("less shared memory: other kernels for what no longer fits, the same bits", T, bf16, half) {
  TwinState state;
  for (const index_t head_dim : {index_t{64}, index_t{128}}) {
    const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = head_dim};
    const TwinBatch batch({50, 200});
    const Inputs in = noise<T>(spec, batch.tokens());
    const Results expected = on_cuda<T>(in, spec, 0.1, batch, state);
    const cudaDeviceProp kept = emulator::properties();
    for (const std::size_t kilobytes : {std::size_t{99}, std::size_t{163}}) {
      emulator::properties().sharedMemPerBlockOptin = kilobytes << 10U;
      const Cuda smaller;
      check_same(on_cuda<T>(in, spec, 0.1, batch, state, {.device = &smaller}), expected);
    }
    emulator::properties() = kept;
  }
}
#endif
