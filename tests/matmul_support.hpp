// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrices whose rows are further apart than they are long, and the plain loops that products are tested
/// against.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/tensor/view.hpp>

#include "dtype_support.hpp"

namespace matmul_test {

using storylm::index_t;
using storylm::MatmulFlags;
using storylm::MatrixView;

using storylm::test::from_double;
using storylm::test::to_double;

/// A matrix with random values and NaN between its rows: whoever reads there spoils a result, whoever writes there is
/// found by gaps_untouched().
template <class T>
class Matrix {
 public:
  Matrix(index_t rows, index_t cols, storylm::RandomStream& random, index_t gap = 3)
      : rows_(rows), cols_(cols), stride_(cols + gap) {
    values_.assign(static_cast<std::size_t>(rows * stride_ + gap), from_double<T>(std::nan("")));
    for (index_t r = 0; r < rows; ++r) {
      for (index_t c = 0; c < cols; ++c) at(r, c) = from_double<T>(random.normal());
    }
  }
  [[nodiscard]] T& at(index_t r, index_t c) { return values_[static_cast<std::size_t>(r * stride_ + c)]; }
  [[nodiscard]] T at(index_t r, index_t c) const { return values_[static_cast<std::size_t>(r * stride_ + c)]; }
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] MatrixView<T> view() { return {values_.data(), rows_, cols_, stride_}; }
  [[nodiscard]] MatrixView<const T> view() const { return {values_.data(), rows_, cols_, stride_}; }
  [[nodiscard]] bool gaps_untouched() const {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const auto column = static_cast<index_t>(i) % stride_;
      const auto row = static_cast<index_t>(i) / stride_;
      if ((column >= cols_ || row >= rows_) && !std::isnan(to_double(values_[i]))) return false;
    }
    return true;
  }

 private:
  index_t rows_;
  index_t cols_;
  index_t stride_;
  std::vector<T> values_;
};

template <class T>
std::vector<T> random_vector(index_t n, storylm::RandomStream& random) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& value : values) value = from_double<T>(random.normal());
  return values;
}

/// The same bits everywhere, gaps aside.
template <class T>
bool same_bits(MatrixView<const T> x, MatrixView<const T> y) {
  if (x.rows != y.rows || x.cols != y.cols) return false;
  for (index_t r = 0; r < x.rows; ++r) {
    if (x.cols != 0 && std::memcmp(x.row(r), y.row(r), static_cast<std::size_t>(x.cols) * sizeof(T)) != 0) return false;
  }
  return true;
}

/// op(A)[i, p] and op(B)[p, j].
template <class T>
T element_a(const Matrix<T>& a, MatmulFlags flags, index_t i, index_t p) {
  return flags.transpose_a ? a.at(p, i) : a.at(i, p);
}
template <class T>
T element_b(const Matrix<T>& b, MatmulFlags flags, index_t p, index_t j) {
  return flags.transpose_b ? b.at(j, p) : b.at(p, j);
}

/// How far C is from the sum in double, at most, in units of what rounding may amount to: below 1 is right.
template <class T, class TC>
double error_of(const Matrix<TC>& c, const Matrix<TC>& before, const Matrix<T>& a, const Matrix<T>& b,
                MatmulFlags flags, std::span<const TC> bias) {
  const index_t k = flags.transpose_a ? a.rows() : a.cols();
  double worst = 0.0;
  for (index_t i = 0; i < c.rows(); ++i) {
    for (index_t j = 0; j < c.cols(); ++j) {
      double sum = flags.accumulate ? to_double(before.at(i, j)) : 0.0;
      double magnitude = std::abs(sum);
      if (!bias.empty()) {
        const double add = to_double(bias[static_cast<std::size_t>(j)]);
        sum += add;
        magnitude += std::abs(add);
      }
      for (index_t p = 0; p < k; ++p) {
        const double product = to_double(element_a(a, flags, i, p)) * to_double(element_b(b, flags, p, j));
        sum += product;
        magnitude += std::abs(product);
      }
      // Half an ulp of the running sum for each of k + 2 additions: Higham's bound, with the sum of magnitudes; and
      // half an ulp of the result, once, where it is stored in fewer bits.
      double bound =
          2.0 * storylm::test::unit_roundoff<storylm::accumulator_t<T>> * static_cast<double>(k + 3) * magnitude +
          1e-300;
      if (sizeof(TC) < sizeof(storylm::accumulator_t<T>))
        bound += 1.01 * storylm::test::unit_roundoff<TC> * std::abs(sum) + 4e-8;
      const double error = std::abs(to_double(c.at(i, j)) - sum) / bound;
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  }
  return worst;
}

/// a * b + c, rounded as the kernels round on this target.
template <class T>
T multiply_add(T a, T b, T c) {
#if (defined(__FMA__) || defined(__aarch64__)) && (defined(__OPTIMIZE__) || defined(__clang__))
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace matmul_test
