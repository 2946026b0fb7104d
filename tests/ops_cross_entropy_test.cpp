// SPDX-License-Identifier: MIT
/// @file
/// @brief cross_entropy against its formula, its gradient against differences.
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include <storylm/ops/cross_entropy.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

/// Every third row has no target.
std::vector<token_t> make_targets(index_t rows, index_t vocab, RandomStream& random) {
  std::vector<token_t> targets(static_cast<std::size_t>(rows));
  for (std::size_t r = 0; r < targets.size(); ++r) {
    targets[r] = r % 3 == 1 ? no_target : static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab)));
  }
  return targets;
}

}  // namespace

TEST_CASE_TEMPLATE("cross_entropy and its gradient are their formulas at every width", T, float, double, bf16, half) {
  using A = accumulator_t<T>;
  const Cpu device;
  RandomStream random(1);
  for (const index_t vocab : widths) {
    for (const index_t rows : {0, 1, 7}) {
      for (const double spread : {1.0, 50.0}) {
        CAPTURE(vocab);
        Grid<T> logits(rows, vocab, random, spread);
        const auto targets = make_targets(rows, vocab, random);
        std::vector<double> expected_loss(targets.size());
        Grid<double> expected(rows, vocab);
        for (index_t r = 0; r < rows; ++r) {
          const auto target = targets[static_cast<std::size_t>(r)];
          double largest = -std::numeric_limits<double>::infinity();
          for (index_t c = 0; c < vocab; ++c) largest = std::max(largest, to_double(logits.at(r, c)));
          double total = 0.0;
          for (index_t c = 0; c < vocab; ++c) total += std::exp(to_double(logits.at(r, c)) - largest);
          for (index_t c = 0; c < vocab; ++c) {
            const double probability = std::exp(to_double(logits.at(r, c)) - largest) / total;
            expected.at(r, c) = target < 0 ? 0.0 : probability - (c == target ? 1.0 : 0.0);
          }
          if (target >= 0) {
            expected_loss[static_cast<std::size_t>(r)] = std::log(total) + largest - to_double(logits.at(r, target));
          }
        }
        std::vector<A> loss(targets.size(), std::numeric_limits<A>::quiet_NaN());
        const auto before = logits;
        ops::cross_entropy(device, std::span(loss), logits.view(), targets, false);
        CHECK(same_bits(logits, before));
        CHECK(difference(loss, expected_loss) < tolerance<A>);
        auto again = loss;
        ops::cross_entropy(device, std::span(again), logits.view(), targets, true);
        CHECK(same_bits(again, loss));
        CHECK(difference(logits, expected) < tolerance<T>);
        CHECK(logits.gaps_untouched());
      }
    }
  }
}

TEST_CASE("cross_entropy's gradient is the derivative of the sum of losses") {
  const Cpu device;
  RandomStream random(2);
  for (const index_t vocab : {1, 33, 300}) {
    Grid<double> logits(4, vocab, random, 2.0);
    const auto targets = make_targets(4, vocab, random);
    Grid<double> gradient = logits;
    std::vector<double> loss(4);
    ops::cross_entropy(device, std::span(loss), gradient.view(), targets, true);
    check_gradient(logits, gradient, [&] {
      ops::cross_entropy(device, std::span(loss), logits.view(), targets, false);
      return loss[0] + loss[1] + loss[2] + loss[3];
    });
  }
}

TEST_CASE("cross_entropy survives large logits, shows NaN, and ignores what has no target") {
  const Cpu device;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Grid<float> logits(4, 20);
  for (index_t r = 0; r < 4; ++r) {
    for (index_t c = 0; c < 20; ++c) logits.at(r, c) = c == 3 ? 1e30F : -1e30F;
  }
  logits.at(1, 17) = nan;  // and row 2, all the same, has no target
  logits.at(2, 0) = nan;
  std::vector<float> loss(4);
  ops::cross_entropy(device, std::span(loss), logits.view(), std::vector<token_t>{3, 3, no_target, 3}, true);
  CHECK(loss[0] == 0.0F);
  CHECK(std::isnan(loss[1]));
  CHECK(loss[2] == 0.0F);
  CHECK(loss[3] == 0.0F);
  for (index_t c = 0; c < 20; ++c) {
    CHECK(logits.at(0, c) == 0.0F);
    CHECK(logits.at(2, c) == 0.0F);
  }
}

TEST_CASE_TEMPLATE("cross_entropy: the same bits with any number of threads, and no allocation", T, float, bf16) {
  RandomStream random(3);
  const Grid<T> start(200, 300, random);
  const auto targets = make_targets(200, 300, random);
  std::vector<Grid<T>> logits(3, start);
  std::vector<std::vector<float>> loss(3, std::vector<float>(200));
  for (std::size_t i = 0; i < 3; ++i) {
    const Cpu device({.threads = static_cast<int>(i) + 1});
    CHECK(second_call_allocations(
              [&] { ops::cross_entropy(device, std::span(loss[i]), logits[i].view(), targets, true); }) == 0);
    CHECK(same_bits(logits[i], logits[0]));
    CHECK(same_bits(loss[i], loss[0]));
  }
}

TEST_CASE("cross_entropy says what is wrong") {
  const Cpu device;
  RandomStream random(4);
  Grid<float> logits(2, 5, random);
  std::vector<float> loss(2);
  CHECK(error_of([&] {
          ops::cross_entropy(device, std::span(loss), logits.view(), std::vector<token_t>{no_target, 5}, true);
        }) == "[cross_entropy] target 1 is 5, expected less than 5");
  CHECK(error_of([&] { ops::cross_entropy(device, std::span(loss), logits.view(), std::vector<token_t>{1}, true); }) ==
        "[cross_entropy] there are 1 targets, expected 2");
  loss.resize(3);
  CHECK(error_of([&] {
          ops::cross_entropy(device, std::span(loss), logits.view(), std::vector<token_t>{1, 2}, true);
        }) == "[cross_entropy] loss has 3 elements, expected 2");
}
