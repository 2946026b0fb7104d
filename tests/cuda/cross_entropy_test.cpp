// SPDX-License-Identifier: MIT
// Cross entropy on CUDA: the CPU's in double at every size and stride; a row's bits depend on that row alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <storylm/ops/cross_entropy.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using test::cuda_device;

namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

/// Every third row has no target; the others' go through the columns.
std::vector<token_t> make_targets(index_t rows, index_t vocab) {
  std::vector<token_t> targets(static_cast<std::size_t>(rows));
  for (index_t r = 0; r < rows; ++r) {
    const index_t target = r == 0 ? vocab - 1 : (r * 7919) % vocab;
    targets[static_cast<std::size_t>(r)] = r % 3 == 1 ? no_target : static_cast<token_t>(target);
  }
  return targets;
}

/// What came out of one call: losses, and all elements of the logits' memory.
struct Result {
  std::vector<double> loss;
  std::vector<double> memory;
};

/// Logits (rows, vocab) with NaN behind each row up to stride.
template <class T>
Result run(const std::vector<double>& logits, index_t rows, index_t vocab, index_t stride,
           const std::vector<token_t>& targets, bool gradient) {
  std::vector<double> padded(static_cast<std::size_t>(rows * stride), no_number);
  for (index_t r = 0; r < rows; ++r) std::copy_n(logits.begin() + r * vocab, vocab, padded.begin() + r * stride);
  auto memory = test::to_cuda<T>(padded, {rows * stride});
  auto loss = test::poisoned<float>({rows});
  const auto on_device = Tensor<token_t, Cuda>::from_host({rows}, targets, cuda_device());
  const auto count = static_cast<std::size_t>(rows);
  ops::cross_entropy(cuda_device(), std::span(loss.data(), count), MatrixView<T>(memory.data(), rows, vocab, stride),
                     std::span(on_device.data(), count), gradient);
  return {test::to_doubles(loss), test::to_doubles(memory)};
}

template <class T>
void compare(index_t rows, index_t vocab, index_t stride, double deviation) {
  CAPTURE(rows);
  CAPTURE(vocab);
  CAPTURE(stride);
  const auto targets = make_targets(rows, vocab);
  auto logits = test::normal_values<T>(rows * vocab, 3, deviation);
  std::vector<double> expected_loss(static_cast<std::size_t>(rows));
  auto expected = test::to_cpu(logits, {rows, vocab});
  ops::cross_entropy(Cpu{}, std::span(expected_loss), expected.matrix(), targets, true);
  for (index_t r = 0; r < rows; ++r) {  // rows without a target are not read
    if (targets[static_cast<std::size_t>(r)] < 0) std::fill_n(logits.begin() + r * vocab, vocab, no_number);
  }
  const Result result = run<T>(logits, rows, vocab, stride, targets, true);
  CHECK(test::relative_difference(result.loss, expected_loss, 1.0) <= 2e-6);
  const double rounding = std::is_same_v<T, bf16> ? 0x1p-8 : std::is_same_v<T, half> ? 0x1p-11 : 0.0;
  int wrong = 0;
  for (index_t r = 0; r < rows; ++r) {
    for (index_t c = 0; c < stride; ++c) {
      const double value = result.memory[static_cast<std::size_t>(r * stride + c)];
      if (c >= vocab) {
        wrong += std::isnan(value) ? 0 : 1;
        continue;
      }
      // Each is a probability rounded once (half: not below its smallest numbers), and 1 less at the target.
      const double e = expected.matrix()(r, c);
      const double limit = (rounding + 6e-6) * std::abs(e) + (std::is_same_v<T, half> ? 3.1e-8 : 0.0) +
                           (c == targets[static_cast<std::size_t>(r)] ? 3e-7 : 1e-37);
      wrong += std::abs(value - e) <= limit ? 0 : 1;
      if (targets[static_cast<std::size_t>(r)] < 0 && value != 0.0) ++wrong;
    }
  }
  CHECK(wrong == 0);
  const Result only_loss = run<T>(logits, rows, vocab, stride, targets, false);
  CHECK(only_loss.loss == result.loss);
  int changed = 0;
  for (index_t r = 0; r < rows; ++r) {
    for (index_t c = 0; c < vocab; ++c) {
      const double before = logits[static_cast<std::size_t>(r * vocab + c)];
      const double after = only_loss.memory[static_cast<std::size_t>(r * stride + c)];
      changed += before == after || (std::isnan(before) && std::isnan(after)) ? 0 : 1;
    }
  }
  CHECK(changed == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("cross entropy and its gradient are the CPU's", T, STORYLM_CUDA_DTYPES) {
  for (const index_t rows : {0, 1, 31, 33, 257}) {
    for (const index_t vocab : {7, 31}) compare<T>(rows, vocab, vocab + 3, 1.0);
  }
  compare<T>(1, 1, 1, 1.0);
  compare<T>(3, 8, 8, 20.0);
  compare<T>(5, 1000, 1000, 4.0);
  compare<T>(3, 1000, 1001, 4.0);
}

// One for each kernel, both ends of what it is for, and the long one.
TEST_CASE_TEMPLATE("cross entropy at every size of vocabulary", T, STORYLM_CUDA_DTYPES) {
  for (const index_t vocab : {1024, 1025, 2048, 2049, 3073, 5113, 5120, 5121, 8192, 8193, 16385, 32768, 32769, 50257}) {
    compare<T>(2, vocab, vocab + (vocab % 3 == 0 ? 8 : 0), 3.0);
  }
  compare<T>(1, 50257, 50264, 3.0);
}

TEST_CASE_TEMPLATE("a row's bits depend on the row alone, not on its place, its alignment or the schedule", T,
                   STORYLM_CUDA_DTYPES) {
  for (const index_t vocab : {31, 1003, 5120, 33000}) {
    CAPTURE(vocab);
    const auto row = test::normal_values<T>(vocab, 5, 3.0);
    auto logits = test::normal_values<T>(3 * vocab, 6, 3.0);
    std::copy(row.begin(), row.end(), logits.begin() + 2 * vocab);
    const auto alone = run<T>(row, 1, vocab, vocab, {17}, true);
    test::for_each_schedule([&](unsigned) {
      for (const index_t stride : {vocab, vocab + 1, (vocab + 7) / 8 * 8 + 8}) {
        const auto among = run<T>(logits, 3, vocab, stride, {1, no_target, 17}, true);
        CHECK(among.loss[2] == alone.loss[0]);
        CHECK(std::equal(alone.memory.begin(), alone.memory.end(), among.memory.begin() + 2 * stride));
      }
    });
  }
}

TEST_CASE_TEMPLATE("cross entropy survives large logits, shows NaN, and takes minus infinity for impossible", T,
                   STORYLM_CUDA_DTYPES) {
  const double large = test::rounded<T>(std::is_same_v<T, half> ? 6e4 : 1e30);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const index_t vocab : {20, 1100, 33001}) {
    CAPTURE(vocab);
    std::vector<double> logits(static_cast<std::size_t>(6 * vocab), -large);
    const auto at = [&](index_t r, index_t c) -> double& { return logits[static_cast<std::size_t>(r * vocab + c)]; };
    for (index_t r = 0; r < 3; ++r) at(r, 3) = large;
    at(1, vocab - 1) = no_number;
    at(2, 5) = no_number;
    for (index_t c = 0; c < vocab; ++c) at(3, c) = c == 4 || c == vocab - 9 ? 1.5 : -infinity;
    for (index_t c = 0; c < vocab; ++c) at(4, c) = c == 7 ? infinity : 0.0;
    for (index_t c = 0; c < vocab; ++c) at(5, c) = c == 4 ? 1.5 : c == vocab - 9 ? no_number : -infinity;
    const auto result = run<T>(logits, 6, vocab, vocab, {3, 3, no_target, static_cast<token_t>(vocab - 9), 7, 4}, true);
    CHECK(result.loss[0] == 0.0);
    CHECK(std::isnan(result.loss[1]));
    CHECK(result.loss[2] == 0.0);
    CHECK(result.loss[3] == doctest::Approx(std::log(2.0)).epsilon(1e-6));
    CHECK(std::isnan(result.loss[4]));
    CHECK(std::isnan(result.loss[5]));
    for (index_t c = 0; c < vocab; ++c) {
      const auto i = static_cast<std::size_t>(c);
      const auto v = static_cast<std::size_t>(vocab);
      if (result.memory[i] != 0.0 || result.memory[2 * v + i] != 0.0) FAIL("column " << c);
      if (result.memory[3 * v + i] != (c == 4 ? 0.5 : c == vocab - 9 ? -0.5 : 0.0)) FAIL("column " << c);
    }
  }
}
