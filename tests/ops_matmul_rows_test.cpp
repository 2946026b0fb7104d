// SPDX-License-Identifier: MIT
/// @file
/// @brief ops::matmul_rows: what it computes, that rows are independent, and what it refuses.
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/ops/matmul_rows.hpp>
#include <storylm/tensor/tensor.hpp>

#include "matmul_support.hpp"

using namespace matmul_test;
using storylm::bf16;
using storylm::Cpu;
using storylm::half;

TEST_CASE_TEMPLATE("ops::matmul_rows: against the plain loop", T, float, double, bf16, half) {
  storylm::RandomStream random(1);
  const Cpu device;
  for (const index_t m : {1, 2, 4, 33}) {
    for (const index_t k : {1, 32, 75}) {
      CAPTURE(m);
      CAPTURE(k);
      const Matrix<T> a(m, k, random);
      const Matrix<T> b(66, k, random);
      const auto bias = random_vector<T>(66, random);
      Matrix<T> c(m, 66, random);
      const Matrix<T> before = c;
      storylm::ops::matmul_rows(device, c.view(), a.view(), b.view(), bias.data());
      CHECK(error_of<T, T>(c, before, a, b, {.transpose_b = true}, bias) < 1.0);
      storylm::ops::matmul_rows(device, c.view(), a.view(), b.view());
      CHECK(error_of<T, T>(c, before, a, b, {.transpose_b = true}, {}) < 1.0);
      CHECK(c.gaps_untouched());
    }
  }
}

TEST_CASE_TEMPLATE("ops::matmul_rows: a row does not know of the others", T, float, double, bf16, half) {
  storylm::RandomStream random(2);
  constexpr index_t rows = 300;  // several blocks: as a prompt comes
  const Matrix<T> a(rows, 200, random);
  const Matrix<T> b(70, 200, random);
  const auto bias = random_vector<T>(70, random);
  Matrix<T> whole(rows, 70, random);
  storylm::ops::matmul_rows(Cpu({.threads = 2}), whole.view(), a.view(), b.view(), bias.data());
  // The same rows, in reverse order, in batches of several sizes, on other numbers of threads.
  Matrix<T> reversed(rows, 200, random);
  for (index_t r = 0; r < rows; ++r) {
    for (index_t p = 0; p < 200; ++p) reversed.at(r, p) = a.at(rows - 1 - r, p);
  }
  for (const index_t size : {1, 2, 4, 5, 7, 32}) {
    CAPTURE(size);
    Matrix<T> parts(rows, 70, random);
    const Cpu device({.threads = static_cast<int>(1 + size % 3)});
    for (index_t r = 0; r < rows; r += size) {
      const index_t count = std::min<index_t>(size, rows - r);
      storylm::ops::matmul_rows(device, parts.view().slice_rows(r, count), reversed.view().slice_rows(r, count),
                                b.view(), bias.data());
    }
    index_t different = 0;
    for (index_t r = 0; r < rows; ++r) {
      different += same_bits<T>(std::as_const(parts).view().slice_rows(r, 1),
                                std::as_const(whole).view().slice_rows(rows - 1 - r, 1))
                       ? 0
                       : 1;
    }
    CHECK(different == 0);
  }
}

TEST_CASE("ops::matmul_rows: wrong shapes are named") {
  const Cpu device;
  storylm::RandomStream random(3);
  const Matrix<float> a(3, 5, random);
  const Matrix<float> b(4, 6, random);
  const Matrix<float> fits(4, 5, random);
  Matrix<float> c(3, 3, random);
  CHECK_THROWS_WITH_AS(storylm::ops::matmul_rows(device, c.view(), a.view(), b.view()),
                       "[matmul_rows] inner dimensions differ: a is (3, 5), b is (4, 6)", storylm::ShapeError);
  CHECK_THROWS_WITH_AS(storylm::ops::matmul_rows(device, c.view(), a.view(), fits.view()),
                       "[matmul_rows] c is (3, 3), a b^T is (3, 4)", storylm::ShapeError);
  const MatrixView<const float> narrow(b.view().data, 3, 5, 2);
  CHECK_THROWS_WITH_AS(
      storylm::ops::matmul_rows(device, c.view(), a.view(), narrow),
      "[matmul_rows] a stride is below its matrix's columns: 8 for a (3, 5), 2 for b (3, 5), 6 for c (3, 3)",
      storylm::ShapeError);
  storylm::Tensor<float, Cpu> x({4, 8}, device);
  const auto left = x.matrix().slice_cols(0, 4);
  const auto right = x.matrix().slice_cols(4, 4);
  CHECK_NOTHROW(storylm::ops::matmul_rows(device, left, right, right));
  CHECK_THROWS_WITH_AS(storylm::ops::matmul_rows(device, left, left, right), "[matmul_rows] c (4, 4) overlaps a (4, 4)",
                       storylm::ArgumentError);
  CHECK_THROWS_WITH_AS(storylm::ops::matmul_rows(device, left, right, left), "[matmul_rows] c (4, 4) overlaps b (4, 4)",
                       storylm::ArgumentError);
}
