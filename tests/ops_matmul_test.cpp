// SPDX-License-Identifier: MIT
/// @file
/// @brief ops::matmul: what it computes, and what it refuses.
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/tensor/tensor.hpp>

#include "matmul_support.hpp"

using namespace matmul_test;
using storylm::Cpu;

TEST_CASE_TEMPLATE("ops::matmul: all flags on matrices with gaps between rows", T, float, double, storylm::bf16,
                   storylm::half) {
  storylm::RandomStream random(1);
  const Cpu device;
  for (unsigned bits = 0; bits < 16; ++bits) {
    const MatmulFlags flags{(bits & 1U) != 0, (bits & 2U) != 0, (bits & 4U) != 0};
    const Matrix<T> a(flags.transpose_a ? 40 : 19, flags.transpose_a ? 19 : 40, random);
    const Matrix<T> b(flags.transpose_b ? 37 : 40, flags.transpose_b ? 40 : 37, random);
    const auto bias_values = random_vector<T>(37, random);
    const std::span<const T> bias = (bits & 8U) != 0 ? std::span<const T>(bias_values) : std::span<const T>();
    Matrix<T> c(19, 37, random);
    const Matrix<T> before = c;
    storylm::ops::matmul(device, c.view(), a.view(), b.view(), flags, bias.data());
    CAPTURE(bits);
    CHECK(error_of(c, before, a, b, flags, bias) < 1.0);
    CHECK(c.gaps_untouched());
  }
}

TEST_CASE_TEMPLATE("ops::matmul: 16-bit matrices into float", T, storylm::bf16, storylm::half) {
  storylm::RandomStream random(4);
  const Cpu device;
  for (unsigned bits = 0; bits < 16; ++bits) {
    const MatmulFlags flags{(bits & 1U) != 0, (bits & 2U) != 0, (bits & 4U) != 0};
    const Matrix<T> a(flags.transpose_a ? 41 : 19, flags.transpose_a ? 19 : 41, random);
    const Matrix<T> b(flags.transpose_b ? 37 : 41, flags.transpose_b ? 41 : 37, random);
    const auto bias_values = random_vector<float>(37, random);
    const std::span<const float> bias =
        (bits & 8U) != 0 ? std::span<const float>(bias_values) : std::span<const float>();
    Matrix<float> c(19, 37, random);
    const Matrix<float> before = c;
    storylm::ops::matmul(device, c.view(), a.view(), b.view(), flags, bias.data());
    CAPTURE(bits);
    CHECK(error_of(c, before, a, b, flags, bias) < 1.0);
    CHECK(c.gaps_untouched());
  }
}

TEST_CASE("ops::matmul: a product one can do by hand, on tensors") {
  const Cpu device;
  const std::vector<float> a_values{1, 2, 3, 4, 5, 6};
  const std::vector<float> b_values{1, 0, 0, 1, 1, 1};
  const auto a = storylm::Tensor<float, Cpu>::from_host({2, 3}, a_values, device);
  auto b = storylm::Tensor<float, Cpu>::from_host({3, 2}, b_values, device);
  storylm::Tensor<float, Cpu> c({2, 2}, device);
  storylm::ops::matmul(device, c.matrix(), a.matrix(), b.matrix());
  CHECK(c.to_host() == std::vector<float>{4, 5, 10, 11});
  const std::vector<float> bias{0.5F, -1};
  storylm::ops::matmul(device, c.matrix(), a.matrix(), b.matrix(), {.accumulate = true}, bias.data());
  CHECK(c.to_host() == std::vector<float>{8.5F, 9, 20.5F, 21});
}

TEST_CASE("ops::matmul: wrong shapes are named") {
  storylm::RandomStream random(2);
  const Cpu device;
  const Matrix<float> a(3, 5, random);
  const Matrix<float> b(4, 2, random);
  Matrix<float> c(3, 2, random);
  const Matrix<float> before = c;
  CHECK_THROWS_WITH_AS(storylm::ops::matmul(device, c.view(), a.view(), b.view()),
                       "[matmul] inner dimensions differ: op(a) is (3, 5), op(b) is (4, 2)", storylm::ShapeError);
  CHECK_THROWS_WITH_AS(
      storylm::ops::matmul(device, c.view(), a.view(), b.view(), {.transpose_a = true, .transpose_b = true}),
      "[matmul] inner dimensions differ: op(a) is (5, 3), op(b) is (2, 4)", storylm::ShapeError);
  const Matrix<float> fits(5, 4, random);
  CHECK_THROWS_WITH_AS(storylm::ops::matmul(device, c.view(), a.view(), fits.view()),
                       "[matmul] c is (3, 2), op(a) op(b) is (3, 4)", storylm::ShapeError);
  const Matrix<float> inner(5, 2, random);
  const MatrixView<const float> narrow(a.view().data, 3, 5, 4);
  CHECK_THROWS_WITH_AS(
      storylm::ops::matmul(device, c.view(), narrow, inner.view()),
      "[matmul] a stride is below its matrix's columns: 4 for a (3, 5), 5 for b (5, 2), 5 for c (3, 2)",
      storylm::ShapeError);
  CHECK(same_bits<float>(std::as_const(c).view(), before.view()));
}

TEST_CASE("ops::matmul: c must not overlap a or b, but may lie beside them in the same rows") {
  const Cpu device;
  storylm::Tensor<float, Cpu> x({4, 12}, device);
  const auto all = x.matrix();
  const auto first = all.slice_cols(0, 4);
  const auto second = all.slice_cols(4, 4);
  const auto third = all.slice_cols(8, 4);
  CHECK_NOTHROW(storylm::ops::matmul(device, third, first, second));
  CHECK_NOTHROW(storylm::ops::matmul(device, first, second, second));
  CHECK_THROWS_WITH_AS(storylm::ops::matmul(device, first, first, second), "[matmul] c (4, 4) overlaps a (4, 4)",
                       storylm::ArgumentError);
  CHECK_THROWS_WITH_AS(storylm::ops::matmul(device, first, second, first), "[matmul] c (4, 4) overlaps b (4, 4)",
                       storylm::ArgumentError);
  CHECK_THROWS_AS(storylm::ops::matmul(device, all.slice_cols(2, 4), second, third), storylm::ArgumentError);
  CHECK_THROWS_AS(storylm::ops::matmul(device, all.slice_cols(6, 4), first, third), storylm::ArgumentError);
  // Other rows of the same columns are apart too.
  CHECK_NOTHROW(storylm::ops::matmul(device, first.slice_rows(0, 2), first.slice_rows(2, 2), second));
}

TEST_CASE("ops::matmul: empty matrices") {
  const Cpu device;
  storylm::RandomStream random(3);
  Matrix<float> c(3, 4, random);
  storylm::ops::matmul(device, c.view(), Matrix<float>(3, 0, random).view(), Matrix<float>(0, 4, random).view());
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 4; ++j) CHECK(c.at(i, j) == 0.0F);
  }
  CHECK_NOTHROW(storylm::ops::matmul(device, MatrixView<float>(nullptr, 0, 4), MatrixView<float>(nullptr, 0, 2),
                                     MatrixView<float>(c.view().data, 2, 4)));
}
