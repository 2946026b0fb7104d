// SPDX-License-Identifier: MIT
// Compiled for x86-64-v4: a part of the same program that only new machines may run.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <storylm/ops/elementwise.hpp>
#include <storylm/ops/matmul.hpp>

double largest_difference_elsewhere() {
  using namespace storylm;
  constexpr index_t size = 40;
  std::vector<float> a(size * size), c(size * size);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i));
  const MatrixView<float> x{a.data(), size, size, size};
  ops::matmul(Cpu(), MatrixView<float>{c.data(), size, size, size}, x, x, {.transpose_b = true});
  double largest = 0.0;
  for (index_t i = 0; i < size; ++i) {
    for (index_t j = 0; j < size; ++j) {
      const double expected = std::inner_product(x.row(i), x.row(i) + size, x.row(j), 0.0);
      largest = std::max(largest, std::abs(expected - static_cast<double>(c[static_cast<std::size_t>(i * size + j)])));
    }
  }
  return largest;
}
