// SPDX-License-Identifier: MIT
/// @file
/// @brief The tests that layer_norm and rms_norm share, over an adapter that gives both one signature.
#pragma once

#include <cmath>
#include <memory>

#include "row_ops_support.hpp"

namespace row_ops_test {

constexpr double norm_eps = 1e-5;

/// One use of a norm. Op::run and Op::backward take (device, problem, dropout); Op::centred tells which norm it is.
template <class T>
struct NormProblem {
  using A = accumulator_t<T>;

  NormProblem(index_t rows, index_t width, bool with_branch, RandomStream& random)
      : batch(std::make_shared<Packed<Cpu>>(make_batch(rows, 9, random, Cpu()))),
        residual(rows, width, random),
        branch(with_branch ? Grid<T>(rows, width, random) : Grid<T>(0, 0)),
        weight(1, width, random),
        bias(1, width, random),
        y(rows, width),
        sum(rows, width),
        stats(rows, 2),
        dy(rows, width, random),
        plus(rows, width, random),
        dsum(rows, width),
        dbranch(rows, width),
        dweight(1, width, random),
        dbias(1, width, random),
        has_branch(with_branch) {}

  template <class U>
  [[nodiscard]] NormProblem<U> as(RandomStream& random) const {
    NormProblem<U> other(residual.rows(), residual.cols(), has_branch, random);
    other.batch = batch;
    other.residual = residual.template as<U>();
    other.branch = branch.template as<U>();
    other.weight = weight.template as<U>();
    other.bias = bias.template as<U>();
    other.dy = dy.template as<U>();
    other.plus = plus.template as<U>();
    other.sum = sum.template as<U>();
    other.stats = stats.template as<accumulator_t<U>>();
    other.dweight = dweight.template as<accumulator_t<U>>();
    other.dbias = dbias.template as<accumulator_t<U>>();
    return other;
  }

  [[nodiscard]] MatrixView<const T> branch_view() const { return has_branch ? branch.view() : MatrixView<const T>{}; }
  [[nodiscard]] MatrixView<T> sum_view() { return has_branch ? sum.view() : MatrixView<T>{}; }
  [[nodiscard]] MatrixView<T> dbranch_view() { return has_branch ? dbranch.view() : MatrixView<T>{}; }
  /// What was normalised.
  [[nodiscard]] const Grid<T>& input() const { return has_branch ? sum : residual; }

  std::shared_ptr<Packed<Cpu>> batch;  // shared, so that problems can be copied
  Grid<T> residual, branch, weight, bias, y, sum;
  Grid<A> stats;
  Grid<T> dy, plus, dsum, dbranch;
  Grid<A> dweight, dbias;
  bool has_branch;
};

/// sum by the formula, in double; y and stats by theirs, from the sum as it is stored.
template <class Op, class T>
void check_norm_values(const NormProblem<T>& p, const DropoutSpec& dropout) {
  const index_t width = p.residual.cols();
  Grid<double> sum(p.residual.rows(), width);
  Grid<double> y = sum;
  Grid<double> stats(p.residual.rows(), 2);
  for (index_t r = 0; r < sum.rows(); ++r) {
    double mean = 0.0;
    for (index_t c = 0; c < width; ++c) {
      sum.at(r, c) = to_double(p.residual.at(r, c));
      if (p.has_branch) {
        sum.at(r, c) += to_double(p.branch.at(r, c)) * dropout_factor(dropout, p.batch->view(), r, c);
      }
      if (Op::centred) mean += to_double(p.input().at(r, c)) / static_cast<double>(width);
    }
    double variance = 0.0;
    for (index_t c = 0; c < width; ++c) {
      variance += std::pow(to_double(p.input().at(r, c)) - mean, 2) / static_cast<double>(width);
    }
    stats.at(r, 0) = mean;
    stats.at(r, 1) = 1.0 / std::sqrt(variance + norm_eps);
    for (index_t c = 0; c < width; ++c) {
      y.at(r, c) = (to_double(p.input().at(r, c)) - mean) * stats.at(r, 1) * to_double(p.weight.at(0, c)) +
                   (Op::centred ? to_double(p.bias.at(0, c)) : 0.0);
    }
  }
  CHECK(difference(p.y, y) < tolerance<T> + 3.0 * tolerance<accumulator_t<T>>);
  CHECK(difference(p.stats, stats) < 4.0 * tolerance<accumulator_t<T>>);
  CHECK(p.y.gaps_untouched());
  CHECK(p.stats.gaps_untouched());
  if (p.has_branch) {
    CHECK(difference(p.sum, sum) < tolerance<T>);
    CHECK(p.sum.gaps_untouched());
  }
}

template <class Op, class T>
void test_norm_values() {
  RandomStream random(1);
  const Cpu device;
  for (const DropoutSpec& dropout : dropouts()) {
    for (const bool with_branch : {false, true}) {
      for (const index_t width : widths) {
        for (const index_t rows : {0, 1, 5}) {
          if (width == 1 && Op::centred) continue;  // its output is the bias, and 1/sqrt(eps) blows up all rounding
          CAPTURE(width);
          NormProblem<T> p(rows, width, with_branch, random);
          Op::run(device, p, dropout);
          check_norm_values<Op>(p, dropout);
        }
      }
    }
  }
}

/// Backward in T against backward in double, both from what forward in T left.
template <class Op, class T>
void check_norm_backward(const NormProblem<double>& start, const DropoutSpec& dropout, RandomStream& random) {
  auto p = start.as<T>(random);
  Op::run(Cpu(), p, dropout);
  auto expected = p.template as<double>(random);
  Op::backward(Cpu(), p, dropout, p.plus.view());
  Op::backward(Cpu(), expected, dropout, expected.plus.view());
  CHECK(difference(p.dsum, expected.dsum) < 1e-5 + tolerance<T>);
  CHECK(difference(p.dweight, expected.dweight) < 1e-5);
  if (Op::centred) CHECK(difference(p.dbias, expected.dbias) < 1e-5);
  if (p.has_branch) CHECK(difference(p.dbranch, expected.dbranch) < 1e-5 + tolerance<T>);
}

/// Central differences over every input, in double; then the other dtypes against double.
template <class Op>
void test_norm_gradients() {
  RandomStream random(2);
  const Cpu device;
  for (const DropoutSpec& dropout : dropouts()) {
    for (const bool with_branch : {false, true}) {
      for (const index_t width : {2, 33, 270}) {
        CAPTURE(width);
        NormProblem<double> p(4, width, with_branch, random);
        const auto before = p;
        Op::run(device, p, dropout);
        Op::backward(device, p, dropout, MatrixView<const double>{});
        const auto loss = [&] {
          auto again = before;
          again.residual = p.residual;
          again.branch = p.branch;
          again.weight = p.weight;
          again.bias = p.bias;
          Op::run(device, again, dropout);
          return weighted_sum(before.dy, again.y);
        };
        check_gradient(p.residual, p.dsum, loss);
        if (with_branch) check_gradient(p.branch, p.dbranch, loss);
        const auto added = [](const Grid<double>& after, const Grid<double>& was) {
          Grid<double> d(1, after.cols());
          for (index_t c = 0; c < after.cols(); ++c) d.at(0, c) = after.at(0, c) - was.at(0, c);
          return d;
        };
        check_gradient(p.weight, added(p.dweight, before.dweight), loss);
        if (Op::centred) check_gradient(p.bias, added(p.dbias, before.dbias), loss);
        CHECK(p.dsum.gaps_untouched());
        CHECK(p.dweight.gaps_untouched());

        check_norm_backward<Op, float>(before, dropout, random);
        check_norm_backward<Op, bf16>(before, dropout, random);
        check_norm_backward<Op, half>(before, dropout, random);
      }
    }
  }
}

/// plus is added before dbranch is made; dsum may be dy, or plus.
template <class Op>
void test_norm_aliases() {
  RandomStream random(3);
  const Cpu device;
  for (const DropoutSpec& dropout : dropouts()) {
    const NormProblem<double> start(5, 100, true, random);
    auto plain = start;
    Op::run(device, plain, dropout);
    auto with_plus = plain;
    auto over_plus = plain;
    auto over_dy = plain;
    Op::backward(device, plain, dropout, MatrixView<const double>{});
    Op::backward(device, with_plus, dropout, with_plus.plus.view());
    Op::backward_into(device, over_plus, dropout, over_plus.plus.view(), over_plus.plus.view());
    Op::backward_into(device, over_dy, dropout, over_dy.plus.view(), over_dy.dy.view());
    Grid<double> dsum(5, 100);
    Grid<double> dbranch(5, 100);
    for (index_t r = 0; r < 5; ++r) {
      for (index_t c = 0; c < 100; ++c) {
        dsum.at(r, c) = plain.dsum.at(r, c) + start.plus.at(r, c);
        dbranch.at(r, c) = dsum.at(r, c) * dropout_factor(dropout, start.batch->view(), r, c);
      }
    }
    CHECK(difference(with_plus.dsum, dsum) < 1e-15);
    CHECK(difference(with_plus.dbranch, dbranch) < 1e-15);
    CHECK(same_bits(over_plus.plus, with_plus.dsum));
    CHECK(same_bits(over_dy.dy, with_plus.dsum));
    CHECK(same_bits(over_plus.dbranch, with_plus.dbranch));
    CHECK(same_bits(over_dy.dbranch, with_plus.dbranch));
    CHECK(same_bits(over_dy.dweight, with_plus.dweight));
  }
}

/// A row's bits do not depend on where it lies; threads change nothing; nothing is allocated.
template <class Op, class T>
void test_norm_bits() {
  RandomStream random(4);
  const DropoutSpec dropout = dropouts()[1];
  const NormProblem<T> start(300, 100, true, random);
  std::vector<NormProblem<T>> p(3, start);
  for (std::size_t i = 0; i < 3; ++i) {
    const Cpu device({.threads = static_cast<int>(i) + 1});
    const auto step = [&] {
      for (index_t c = 0; c < 100; ++c) p[i].dweight.at(0, c) = p[i].dbias.at(0, c) = 0;
      Op::run(device, p[i], dropout);
      Op::backward(device, p[i], dropout, p[i].plus.view());
    };
    CHECK(second_call_allocations(step) == 0);
  }
  for (const std::size_t i : {1U, 2U}) {
    CHECK(same_bits(p[i].y, p[0].y));
    CHECK(same_bits(p[i].dsum, p[0].dsum));
    CHECK(same_bits(p[i].dbranch, p[0].dbranch));
    CHECK(same_bits(p[i].dweight, p[0].dweight));
    CHECK(same_bits(p[i].dbias, p[0].dbias));
  }

  for (const index_t width : {33, 512}) {  // rows are 3 apart from aligned, so each row has another alignment
    NormProblem<T> same(16, width, false, random);
    for (index_t r = 1; r < 16; ++r) {
      for (index_t c = 0; c < width; ++c) same.residual.at(r, c) = same.residual.at(0, c);
    }
    Op::run(Cpu(), same, {});
    for (index_t r = 1; r < 16; ++r) {
      CHECK(std::memcmp(&same.y.at(r, 0), &same.y.at(0, 0), static_cast<std::size_t>(width) * sizeof(T)) == 0);
    }
  }
}

}  // namespace row_ops_test
