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
using storylm::Cpu;

TEST_CASE_TEMPLATE("ops::matmul_rows: against the plain loop", T, float, double) {
  storylm::RandomStream random(1);
  const Cpu device;
  for (const index_t m : {1, 2, 4, 33}) {
    const Matrix<T> a(m, 75, random);
    const Matrix<T> b(66, 75, random);
    const auto bias = random_vector<T>(66, random);
    Matrix<T> c(m, 66, random);
    const Matrix<T> before = c;
    storylm::ops::matmul_rows(device, c.view(), a.view(), b.view(), bias.data());
    CHECK(error_of<T>(c, before, a, b, {.transpose_b = true}, bias) < 1.0);
    storylm::ops::matmul_rows(device, c.view(), a.view(), b.view());
    CHECK(error_of<T>(c, before, a, b, {.transpose_b = true}, {}) < 1.0);
    CHECK(c.gaps_untouched());
  }
}

TEST_CASE_TEMPLATE("ops::matmul_rows: a row does not know of the others", T, float, double) {
  storylm::RandomStream random(2);
  const Cpu device;
  const Matrix<T> a(33, 200, random);
  const Matrix<T> b(70, 200, random);
  Matrix<T> whole(33, 70, random);
  storylm::ops::matmul_rows(device, whole.view(), a.view(), b.view());
  // The same rows, in reverse order, in batches of four: the last has one row.
  Matrix<T> reversed(33, 200, random);
  for (index_t r = 0; r < 33; ++r) {
    for (index_t p = 0; p < 200; ++p) reversed.at(r, p) = a.at(32 - r, p);
  }
  Matrix<T> parts(33, 70, random);
  for (index_t r = 0; r < 33; r += 4) {
    const index_t count = std::min<index_t>(4, 33 - r);
    storylm::ops::matmul_rows(device, parts.view().slice_rows(r, count), reversed.view().slice_rows(r, count),
                              b.view());
  }
  for (index_t r = 0; r < 33; ++r) {
    CHECK(
        same_bits<T>(std::as_const(parts).view().slice_rows(r, 1), std::as_const(whole).view().slice_rows(32 - r, 1)));
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
