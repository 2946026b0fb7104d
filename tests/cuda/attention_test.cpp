// SPDX-License-Identifier: MIT
// Attention on CUDA beside the CPU's in double: lengths, windows, groups, head sizes, dropout, strides, tails.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <storylm/kernels/cpu/attention.hpp>
#include <storylm/kernels/cuda/attention.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr index_t any_length = std::numeric_limits<int>::max();
const std::vector<index_t> odd_lengths = {0, 1, 31, 32, 33, 63, 64, 65};

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

/// Rows of `width` with `gap` NaNs behind each, and NaNs as rows of the tail.
template <class T>
Tensor<T, Cuda> spread(const std::vector<double>& values, index_t rows, index_t width, index_t gap) {
  std::vector<double> wide(static_cast<std::size_t>(rows * (width + gap)), nan);
  for (index_t i = 0; i < static_cast<index_t>(values.size()); ++i) {
    wide[static_cast<std::size_t>(i / width * (width + gap) + i % width)] = values[static_cast<std::size_t>(i)];
  }
  return to_cuda<T>(wide, {rows, width + gap});
}
/// The rows of the batch; the tail's must be zeros, what lies between rows must still be NaN.
template <class T>
std::vector<double> gather(const Tensor<T, Cuda>& tensor, index_t tokens, index_t width) {
  const std::vector<double> wide = to_doubles(tensor);
  const index_t stride = tensor.shape()[1];
  std::vector<double> rows;
  index_t wrong = 0;
  for (index_t i = 0; i < static_cast<index_t>(wide.size()); ++i) {
    const double value = wide[static_cast<std::size_t>(i)];
    if (i % stride >= width) {
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
    return MatrixView(tensor.data(), rows, width, width + options.gap);
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
  CHECK(row_difference(actual.dqkv, expected.dqkv, spec.head_dim) <= 4.0 * tolerance_of<T>);
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
  });
}
