// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of row-wise ops share: poisoned strided matrices, batches, masks by definition, differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/kernels/kernel.hpp>
#include <storylm/tensor/packed.hpp>

#include "allocation_counter.hpp"
#include "dtype_support.hpp"

namespace row_ops_test {

using namespace storylm;
using test::from_double;
using test::to_double;

inline const std::vector<index_t> widths = {1, 7, 31, 32, 33, 100, 512, 1600};

/// Of the largest value: the rounding of some hundred operations, and of the result where it is stored as bf16 or half.
template <class T>
inline constexpr double tolerance = sizeof(T) == 8 ? 1e-13 : 2e-6 + (sizeof(T) == 2 ? test::unit_roundoff<T> : 0.0);

/// A matrix with NaN between its rows and, until it is written, in them.
template <class T>
class Grid {
 public:
  Grid(index_t rows, index_t cols, index_t gap = 3)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        values_(static_cast<std::size_t>(rows * stride_ + gap + 1),
                from_double<T>(std::numeric_limits<double>::quiet_NaN())) {}
  /// Normal random values.
  Grid(index_t rows, index_t cols, RandomStream& random, double scale = 1.0) : Grid(rows, cols) {
    for (index_t r = 0; r < rows; ++r) {
      for (index_t c = 0; c < cols; ++c) at(r, c) = from_double<T>(scale * random.normal());
    }
  }
  /// The same values in another type.
  template <class U>
  [[nodiscard]] Grid<U> as() const {
    Grid<U> other(rows_, cols_);
    for (index_t r = 0; r < rows_; ++r) {
      for (index_t c = 0; c < cols_; ++c) other.at(r, c) = from_double<U>(to_double(at(r, c)));
    }
    return other;
  }
  [[nodiscard]] T& at(index_t r, index_t c) { return values_[static_cast<std::size_t>(r * stride_ + c)]; }
  [[nodiscard]] const T& at(index_t r, index_t c) const { return values_[static_cast<std::size_t>(r * stride_ + c)]; }
  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] MatrixView<T> view() { return {values_.data(), rows_, cols_, stride_}; }
  [[nodiscard]] MatrixView<const T> view() const { return {values_.data(), rows_, cols_, stride_}; }
  /// Its rows without the gaps.
  [[nodiscard]] std::vector<T> flat() const {
    std::vector<T> values;
    for (index_t r = 0; r < rows_; ++r) {
      for (index_t c = 0; c < cols_; ++c) values.push_back(at(r, c));
    }
    return values;
  }
  [[nodiscard]] bool gaps_untouched() const {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const auto at = static_cast<index_t>(i);
      if ((at % stride_ >= cols_ || at / stride_ >= rows_) && !std::isnan(to_double(values_[i]))) return false;
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
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class T>
[[nodiscard]] bool same_bits(const Grid<T>& a, const Grid<T>& b) {
  return same_bits(a.flat(), b.flat());
}

/// max |a - b| / max(1, max |b|); infinite when a value is NaN or sizes differ.
template <class A, class B>
[[nodiscard]] double difference(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 1.0;
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(to_double(a[i]) - to_double(b[i]));
    if (!(d <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, d);
    largest = std::max(largest, std::abs(to_double(b[i])));
  }
  return worst / largest;
}
template <class A, class B>
[[nodiscard]] double difference(const Grid<A>& a, const Grid<B>& b) {
  return difference(a.flat(), b.flat());
}

/// Sequences of 1, 2, 3, ... tokens, their ordinals apart, every third of them starting at position 4.
inline Packed<Cpu> make_batch(index_t tokens, index_t vocab, RandomStream& random, const Cpu& device) {
  Packed<Cpu> batch({tokens, tokens, tokens}, device);
  for (index_t length = 1; batch.tokens() < tokens; ++length) {
    std::vector<token_t> ids(static_cast<std::size_t>(std::min(length, tokens - batch.tokens())));
    for (token_t& id : ids) id = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab)));
    batch.append(ids, {}, static_cast<std::uint32_t>(7 * length + 3), length % 3 == 0 ? 4 : 0);
  }
  return batch;
}

/// The factor of an element by the definition of DropoutSpec.
inline double dropout_factor(const DropoutSpec& spec, const PackedView& batch, index_t row, index_t column) {
  if (spec.state == nullptr || spec.probability == 0.0) return 1.0;
  const auto block = philox4x32({batch.ordinals[batch.sequence[row]], static_cast<std::uint32_t>(batch.positions[row]),
                                 0U, static_cast<std::uint32_t>(column / 8)},
                                derive_key(spec.seed, spec.state->step, spec.site));
  return lane16(block, static_cast<int>(column % 8)) >= spec.threshold() ? spec.scale() : 0.0;
}

/// Dropout of 0 and of 0.1.
inline std::vector<DropoutSpec> dropouts() {
  static StepState state;  // lives as long as the specs that point to it
  state.step = 12;
  return {{}, {.probability = 0.1, .seed = 5, .site = 3, .state = &state}};
}

/// Sum of weight * value: turns a matrix into one number whose gradient is `weight`.
inline double weighted_sum(const Grid<double>& weight, const Grid<double>& value) {
  double total = 0.0;
  for (index_t r = 0; r < value.rows(); ++r) {
    for (index_t c = 0; c < value.cols(); ++c) total += weight.at(r, c) * value.at(r, c);
  }
  return total;
}

/// Compares `gradient` with central differences of loss() at every element of x.
template <class Loss>
void check_gradient(Grid<double>& x, const Grid<double>& gradient, const Loss& loss) {
  Grid<double> expected(x.rows(), x.cols());
  constexpr double step = 1e-6;
  for (index_t r = 0; r < x.rows(); ++r) {
    for (index_t c = 0; c < x.cols(); ++c) {
      const double value = x.at(r, c);
      x.at(r, c) = value + step;
      const double above = loss();
      x.at(r, c) = value - step;
      const double below = loss();
      x.at(r, c) = value;
      expected.at(r, c) = (above - below) / (2.0 * step);
    }
  }
  CHECK(difference(gradient, expected) < 1e-7);
}

/// Allocations made by the second call of f.
template <class F>
[[nodiscard]] long second_call_allocations(const F& f) {
  f();
  const long before = allocations;
  f();
  return allocations - before;
}

/// The text of the error that f throws.
template <class F>
[[nodiscard]] std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace row_ops_test
