// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul_rows on CUDA: what it computes, that rows are independent, that all tiles give the same bits.
#include <string>
#include <vector>

#include <storylm/kernels/cuda/matmul_rows.hpp>
#include <storylm/ops/matmul_rows.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using namespace storylm::test;
using cuda::RowsSum;
using cuda::RowsTile;

namespace {

constexpr RowsTile all_tiles[] = {RowsTile::rows16, RowsTile::rows32, RowsTile::rows64, RowsTile::rows128};

/// One product: operands that lie in wider matrices, which hold NaN beside them.
template <class T>
struct Case {
  index_t m, n, k;
  std::vector<double> a, b, bias;  // (m, k), (n, k), (n)
  Tensor<T, Cuda> a_memory, b_memory, bias_memory;
  index_t a_stride, b_stride;

  Case(index_t rows, index_t cols, index_t inner, index_t gap, std::uint64_t seed = 1)
      : m(rows),
        n(cols),
        k(inner),
        a(normal_values<T>(m * k, seed)),
        b(normal_values<T>(n * k, seed + 1)),
        bias(normal_values<T>(n, seed + 2)),
        a_memory(spread(a, m, k, k + gap)),
        b_memory(spread(b, n, k, k + gap)),
        bias_memory(to_cuda<T>(bias, {n})),
        a_stride(k + gap),
        b_stride(k + gap) {}

  [[nodiscard]] MatrixView<const T> view_a() const { return {a_memory.data(), m, k, a_stride}; }
  [[nodiscard]] MatrixView<const T> view_b() const { return {b_memory.data(), n, k, b_stride}; }

  /// A B^T [+ bias] by the CPU in double.
  [[nodiscard]] std::vector<double> expected(bool with_bias) const {
    const auto x = to_cpu(a, {m, k});
    const auto w = to_cpu(b, {n, k});
    Tensor<double, Cpu> y({m, n}, Cpu{});
    ops::matmul_rows(Cpu{}, y.matrix(), x.matrix(), w.matrix(), with_bias ? bias.data() : nullptr);
    return y.to_host();
  }
  /// By a tile of one's choice.
  [[nodiscard]] Tensor<T, Cuda> by(RowsTile tile, bool with_bias) const {
    auto y = poisoned<T>({m, n});
    kernel<op::matmul_rows, Cuda, T, T, T>::run_with(cuda_device(), tile, y.matrix(), view_a(), view_b(),
                                                     with_bias ? bias_memory.data() : nullptr);
    return y;
  }

 private:
  static Tensor<T, Cuda> spread(const std::vector<double>& values, index_t rows, index_t cols, index_t stride) {
    std::vector<double> wide(static_cast<std::size_t>(rows * stride), std::numeric_limits<double>::quiet_NaN());
    for (index_t r = 0; r < rows; ++r) {
      for (index_t c = 0; c < cols; ++c) {
        wide[static_cast<std::size_t>(r * stride + c)] = values[static_cast<std::size_t>(r * cols + c)];
      }
    }
    return to_cuda<T>(wide, {rows, stride});
  }
};

}  // namespace

TEST_CASE("cuda::RowsSum: all of k, in parts that depend on nothing else") {
  static_assert(RowsSum(0).parts == 0);
  for (index_t k = 1; k < 3000; ++k) {
    const RowsSum sum(k);
    CHECK(sum.chunks == (k + 31) / 32);
    CHECK(sum.parts >= 1);
    CHECK(sum.parts <= RowsSum::most_parts);
    CHECK(sum.each * sum.parts >= sum.chunks);
    CHECK(sum.each * (sum.parts - 1) < sum.chunks);  // no part is empty
  }
  CHECK(RowsSum(512).parts == 4);
  CHECK(RowsSum(2048).parts == 8);
}

TEST_CASE_TEMPLATE("op::matmul_rows: against the CPU in double, every tile", T, STORYLM_CUDA_DTYPES) {
  for (const auto& extents : {std::array<index_t, 3>{1, 8, 32}, {3, 20, 75}, {17, 70, 200}, {65, 33, 160}, {2, 5, 1}}) {
    const index_t m = extents[0];
    const index_t n = extents[1];
    const index_t k = extents[2];
    for (const index_t gap : {0, 3, 8}) {
      CAPTURE(m);
      CAPTURE(n);
      CAPTURE(k);
      CAPTURE(gap);
      const Case<T> product(m, n, k, gap);
      const auto plain = product.expected(false);
      const auto biased = product.expected(true);
      for (const RowsTile tile : all_tiles) {
        CAPTURE(static_cast<int>(tile));
        check_close<T>("plain", to_doubles(product.by(tile, false)), plain);
        check_close<T>("biased", to_doubles(product.by(tile, true)), biased);
      }
    }
  }
}

TEST_CASE_TEMPLATE("op::matmul_rows: all tiles and all schedules give the same bits", T, STORYLM_CUDA_DTYPES) {
  const Case<T> product(37, 72, 416, 0);  // parts of unequal length
  const auto first = product.by(RowsTile::rows16, true);
  for_each_schedule([&](unsigned) {
    for (const RowsTile tile : all_tiles) {
      CAPTURE(static_cast<int>(tile));
      CHECK(same_bits(product.by(tile, true), first));
    }
  });
}

TEST_CASE_TEMPLATE("op::matmul_rows: a row does not know of the others", T, STORYLM_CUDA_DTYPES) {
  const index_t m = 131;  // more than one tile of any size
  const Case<T> product(m, 24, 136, 0, 7);
  auto whole = poisoned<T>({m, product.n});
  ops::matmul_rows(cuda_device(), whole.matrix(), product.view_a(), product.view_b(), product.bias_memory.data());
  const std::vector<T> expected = whole.to_host();
  for (const index_t count : {1, 16, 40}) {
    for (index_t first = 0; first < m; first += count == 1 ? 26 : count) {
      const index_t rows = std::min(count, m - first);
      auto part = poisoned<T>({rows, product.n});
      ops::matmul_rows(cuda_device(), part.matrix(), product.view_a().slice_rows(first, rows), product.view_b(),
                       product.bias_memory.data());
      const std::vector<T> wanted(expected.begin() + first * product.n, expected.begin() + (first + rows) * product.n);
      CHECK(bits_of(part.to_host()) == bits_of(wanted));
    }
  }
}

TEST_CASE_TEMPLATE("op::matmul_rows: aligned and unaligned rows give the same bits", T, storylm::bf16, storylm::half) {
  const Case<T> aligned(19, 21, 96, 0, 3);
  const Case<T> unaligned(19, 21, 96, 1, 3);
  for (const RowsTile tile : all_tiles) {
    CAPTURE(static_cast<int>(tile));
    CHECK(same_bits(aligned.by(tile, false), unaligned.by(tile, false)));
  }
}

TEST_CASE_TEMPLATE("op::matmul_rows: nothing to add up, and nothing to compute", T, STORYLM_CUDA_DTYPES) {
  const Case<T> empty(5, 12, 0, 8);
  for (const RowsTile tile : all_tiles) {
    CAPTURE(static_cast<int>(tile));
    CHECK(to_doubles(empty.by(tile, false)) == std::vector<double>(60, 0.0));
    check_close<T>("bias alone", to_doubles(empty.by(tile, true)), empty.expected(true));
  }
  const Case<T> no_rows(0, 8, 32, 0);
  CHECK_NOTHROW(static_cast<void>(no_rows.by(RowsTile::rows16, false)));
  const Case<T> no_columns(3, 0, 32, 0);
  CHECK_NOTHROW(static_cast<void>(no_columns.by(RowsTile::rows64, false)));
}

TEST_CASE("cuda::rows_tile: few rows to many") {
  CHECK(cuda::rows_tile(1, 512, 132) == RowsTile::rows16);
  CHECK(cuda::rows_tile(32, 512, 132) == RowsTile::rows32);
  CHECK(cuda::rows_tile(512, 2048, 132) == RowsTile::rows64);
  CHECK(cuda::rows_tile(131072, 512, 132) == RowsTile::rows128);
}
