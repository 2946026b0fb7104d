// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul_rows on CUDA.
#pragma once

#include <algorithm>

#include <storylm/core/cuda_device.hpp>
#include <storylm/kernels/cuda/dtypes.hpp>
#include <storylm/kernels/cuda/launch_shape.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {
namespace cuda {

/// How the k products of one element of C are added up. It depends on k alone, so that every tile gives the same bits:
/// chunk by chunk within a part, each part from zero, then part by part.
struct RowsSum {
  static constexpr int chunk = 32;  ///< elements of k that are multiplied at a time
  static constexpr int most_parts = 8;

  int chunks = 0;  ///< of k
  int each = 1;    ///< chunks in a part; the last may have less
  int parts = 0;   ///< at most most_parts

  /// Enough parts that a few rows keep a GPU's memory busy: a warp then has one of them.
  explicit constexpr RowsSum(index_t k) : chunks(static_cast<int>(ceil_divide(k, index_t{chunk}))) {
    const int wanted = std::clamp(chunks / 4, 1, most_parts);
    each = std::max(1, (chunks + wanted - 1) / wanted);
    parts = (chunks + each - 1) / each;
  }
};

/// Sizes that a block computes: for how many rows each is made. All give the same bits.
enum class RowsTile {
  rows16,   ///< (16, 8): the weights are read once, by as many blocks as there can be
  rows32,   ///< (32, 16)
  rows64,   ///< (64, 64), through shared memory
  rows128,  ///< (128, 128), through shared memory
};
/// The fastest for C (m, n), which any other could compute as well.
[[nodiscard]] constexpr RowsTile rows_tile(index_t m, index_t n, int multiprocessors) {
  if (m <= 16) return RowsTile::rows16;
  if (m <= 128) return RowsTile::rows32;
  const index_t large = ceil_divide(m, index_t{128}) * ceil_divide(n, index_t{128});
  return large >= 2 * index_t{multiprocessors} ? RowsTile::rows128 : RowsTile::rows64;
}

}  // namespace cuda

template <cuda::Element T>
struct kernel<op::matmul_rows, Cuda, T, T, T> {
  /// C (m, n) = A (m, k) B (n, k)^T [+ bias (n)]. Sums are floats.
  static void run(const Cuda& device, MatrixView<T> c, MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
    run_with(device, cuda::rows_tile(c.rows, c.cols, device.properties().multiprocessors), c, a, b, bias);
  }
  /// The same with a tile of one's choice.
  static void run_with(const Cuda& device, cuda::RowsTile tile, MatrixView<T> c, MatrixView<const T> a,
                       MatrixView<const T> b, const T* bias);
};

}  // namespace storylm
