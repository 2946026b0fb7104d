// SPDX-License-Identifier: MIT
/// @file
/// @brief Matrix products on Eigen: the cross-check of our own in tests; no op uses them.
///
/// Eigen is called for blocks that the shape alone determines, so results do not depend on threads. Its order of sums
/// does depend on the place of an element in its block; matmul_rows therefore always gives it 8 rows.
#pragma once

#include <algorithm>

#include <Eigen/Core>

#include <storylm/core/device.hpp>
#include <storylm/kernels/cpu/parallel.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm::cpu {

/// Rows of C in one call of Eigen. As the most a block can have it is part of the type: up to 32, Eigen does not start
/// threads of its own (internal::parallelize_gemm).
inline constexpr int eigen_rows = 32;
inline constexpr index_t eigen_cols = 128;

namespace detail {
template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using EigenView = Eigen::Map<const EigenMatrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using EigenBlock =
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, eigen_rows>, 0, Eigen::OuterStride<>>;
template <class T>
using EigenRow = Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>;

/// f(op(x)).
template <class T, class F>
void with_transposed(bool transpose, const EigenView<T>& x, const F& f) {
  if (transpose) {
    f(x.transpose());
  } else {
    f(x);
  }
}
}  // namespace detail

/// C (m, n) = op(A) op(B) [+ C] [+ bias], see op::matmul; here the order of sums depends on the whole shape.
template <class T>
void matmul_eigen(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, MatmulFlags flags,
                  const T* bias) {
  const detail::EigenView<T> whole_a(a.data, a.rows, a.cols, Eigen::OuterStride<>(a.stride));
  const detail::EigenView<T> whole_b(b.data, b.rows, b.cols, Eigen::OuterStride<>(b.stride));
  const index_t row_blocks = (c.rows + eigen_rows - 1) / eigen_rows;
  const index_t col_blocks = (c.cols + eigen_cols - 1) / eigen_cols;
  parallel_for(device, row_blocks * col_blocks, [&](index_t piece) {
    const index_t row = piece / col_blocks * eigen_rows;
    const index_t col = piece % col_blocks * eigen_cols;
    const index_t rows = std::min<index_t>(eigen_rows, c.rows - row);
    const index_t cols = std::min(eigen_cols, c.cols - col);
    detail::EigenBlock<T> out(c.row(row) + col, rows, cols, Eigen::OuterStride<>(c.stride));
    if (!flags.accumulate) out.setZero();
    if (whole_a.size() != 0) {
      detail::with_transposed<T>(flags.transpose_a, whole_a, [&](const auto& op_a) {
        detail::with_transposed<T>(flags.transpose_b, whole_b, [&](const auto& op_b) {
          out.noalias() += op_a.middleRows(row, rows) * op_b.middleCols(col, cols);
        });
      });
    }
    if (bias != nullptr) out.rowwise() += detail::EigenRow<T>(bias + col, cols);
  });
}

/// C (m, n) = A (m, k) B (n, k)^T [+ bias], see op::matmul_rows.
template <class T>
void matmul_rows_eigen(const Cpu& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b,
                       const T* bias) {
  constexpr index_t block = 8;
  const index_t k = a.cols;
  const detail::EigenView<T> whole_b(b.data, b.rows, b.cols, Eigen::OuterStride<>(b.stride));
  const index_t row_blocks = (c.rows + block - 1) / block;
  const index_t col_blocks = (c.cols + eigen_cols - 1) / eigen_cols;
  auto scratch = device.scratch();
  T* rows_of_a = scratch.template take<T>(row_blocks * block * k);  // (row_blocks * 8, k), zeros below the last row
  for (index_t row = 0; row < row_blocks * block; ++row) {
    if (row < a.rows) {
      std::copy_n(a.row(row), k, rows_of_a + row * k);
    } else {
      std::fill_n(rows_of_a + row * k, k, T{0});
    }
  }
  T* tiles = scratch.template take<T>(thread_count(device) * block * eigen_cols);  // (threads, 8, 128)
  parallel_for(device, row_blocks * col_blocks, [&](index_t piece) {
    const index_t row = piece % row_blocks * block;
    const index_t col = piece / row_blocks * eigen_cols;
    const index_t rows = std::min(block, c.rows - row);
    const index_t cols = std::min(eigen_cols, c.cols - col);
    detail::EigenBlock<T> tile(tiles + thread_index() * block * eigen_cols, block, cols,
                               Eigen::OuterStride<>(eigen_cols));
    tile.setZero();
    if (k != 0) {
      const detail::EigenView<T> block_of_a(rows_of_a + row * k, block, k, Eigen::OuterStride<>(k));
      tile.noalias() += block_of_a * whole_b.middleRows(col, cols).transpose();
    }
    if (bias != nullptr) tile.rowwise() += detail::EigenRow<T>(bias + col, cols);
    detail::EigenBlock<T>(c.row(row) + col, rows, cols, Eigen::OuterStride<>(c.stride)) = tile.topRows(rows);
  });
}

}  // namespace storylm::cpu
