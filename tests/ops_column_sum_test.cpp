// SPDX-License-Identifier: MIT
/// @file
/// @brief ops::column_sum against the order it is defined by.
#include <array>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/ops/column_sum.hpp>

#include "allocation_counter.hpp"
#include "matmul_support.hpp"

using namespace matmul_test;
using storylm::Cpu;

namespace {

/// Blocks of 64 rows, each summed in row order from zero, the blocks added in order, then the gradient that was there.
template <class T, class Sum>
std::vector<Sum> defined(MatrixView<const T> x, std::vector<Sum> sums) {
  for (index_t c = 0; c < x.cols && x.rows > 0; ++c) {
    Sum total{0};
    for (index_t first = 0; first < x.rows; first += 64) {
      Sum block{0};
      for (index_t r = first; r < std::min(x.rows, first + 64); ++r) block += static_cast<Sum>(x(r, c));
      total = first == 0 ? block : total + block;
    }
    sums[static_cast<std::size_t>(c)] += total;
  }
  return sums;
}

}  // namespace

TEST_CASE_TEMPLATE("ops::column_sum: the defined order, added to what was there", T, float, double) {
  storylm::RandomStream random(1);
  for (const index_t rows : {0, 1, 2, 63, 64, 65, 128, 129, 1000}) {
    for (const index_t cols : {0, 1, 3, 16, 33, 511, 512, 513, 1100}) {
      const Matrix<T> x(rows, cols, random);
      const std::vector<T> before = random_vector<T>(cols, random);
      const std::vector<T> expected = defined<T, T>(x.view(), before);
      for (const int threads : {1, 2, 3}) {
        std::vector<T> sums = before;
        storylm::ops::column_sum(Cpu({.threads = threads}), sums.data(), x.view());
        CAPTURE(rows);
        CAPTURE(cols);
        CHECK(sums == expected);
      }
    }
  }
}

TEST_CASE_TEMPLATE("ops::column_sum: half-width values are summed in float", T, storylm::bf16, storylm::half) {
  storylm::RandomStream random(2);
  std::vector<T> values;
  for (int i = 0; i < 300 * 7; ++i) values.push_back(T(static_cast<float>(random.normal())));
  const MatrixView<const T> x(values.data(), 300, 7);
  std::vector<float> sums(7, 1.0F);
  storylm::ops::column_sum(Cpu(), sums.data(), x);
  CHECK(sums == defined<T, float>(x, std::vector<float>(7, 1.0F)));
}

TEST_CASE("ops::column_sum: NaN stays in its column") {
  storylm::RandomStream random(3);
  Matrix<float> x(70, 5, random);
  x.at(69, 2) = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> sums(5, 0.0F);
  storylm::ops::column_sum(Cpu(), sums.data(), x.view());
  for (std::size_t c = 0; c < 5; ++c) CHECK(std::isnan(sums[c]) == (c == 2));
}

TEST_CASE("ops::column_sum: refuses what it cannot sum, allocates once") {
  const Cpu device({.threads = 2});
  std::vector<float> values(700 * 5, 1.0F);
  std::vector<float> sums(5, 0.0F);
  CHECK_THROWS_WITH_AS(storylm::ops::column_sum(device, sums.data(), MatrixView<float>(values.data(), 3, 5, 4)),
                       "[column_sum] the stride 4 of x is below its columns: (3, 5)", storylm::ShapeError);
  CHECK_THROWS_WITH_AS(
      storylm::ops::column_sum(device, static_cast<float*>(nullptr), MatrixView<float>(values.data(), 3, 5)),
      "[column_sum] dsum is null, x is (3, 5)", storylm::ArgumentError);
  const MatrixView<const float> x(values.data(), 700, 5);
  const long none = allocations;
  storylm::ops::column_sum(device, sums.data(), x);
  const long first = allocations;
  CHECK(first > none);
  storylm::ops::column_sum(device, sums.data(), x);
  CHECK(allocations == first);
  CHECK(sums == std::vector<float>(5, 1400.0F));
}
