// SPDX-License-Identifier: MIT
/// @file
/// @brief op::matmul_rows on CUDA: products on tensor cores whose sums are in one order for every shape of tile.
///
/// A chunk is 32 elements of k. Lane (g, t) = (lane / 4, lane % 4) of a warp holds elements 8t to 8t + 7 of row g: one
/// access of 16 bytes, from global or from shared memory alike. The tensor core's step j of two takes elements 8t + 4j
/// to 8t + 4j + 3 of each lane as its k indices 2t, 2t + 1, 2t + 8, 2t + 9. Which index is which does not matter as
/// long as A and B agree; that it is the same everywhere is what makes bits equal. Rows of a chunk lie 64 bytes apart
/// in shared memory: the eight lanes that are served together read 128 neighbouring bytes, without conflicts.
#pragma once

#include <cmath>

#include <storylm/kernels/cuda/matmul_rows.hpp>
#include <storylm/kernels/cuda/primitives.cuh>
#include <storylm/kernels/cuda/vectors.cuh>

namespace storylm {
namespace cuda {

/// Operands and result of one product, as kernels take it.
template <Element T>
struct RowsProduct {
  MatrixView<T> c;        ///< (m, n)
  MatrixView<const T> a;  ///< (m, k)
  MatrixView<const T> b;  ///< (n, k)
  const T* bias;          ///< (n) or null
  RowsSum sum;            ///< of the k products
  bool aligned;           ///< rows of A and B are whole 16-byte pieces
};

/// Eight elements of a row from `column` on; zeros beyond k and where there is no row.
template <class T>
__device__ __forceinline__ Bytes16 load_piece(const MatrixView<const T>& from, index_t row, index_t column,
                                              bool aligned) {
  Bytes16 piece{{0, 0, 0, 0}};
  if (row >= from.rows || column >= from.cols) return piece;
  const T* const place = from.data + row * from.stride + column;
  if (aligned) return *reinterpret_cast<const Bytes16*>(place);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + 2 * i < from.cols) piece.words[i] = place[2 * i].bits;
    if (column + 2 * i + 1 < from.cols) piece.words[i] |= static_cast<std::uint32_t>(place[2 * i + 1].bits) << 16U;
  }
  return piece;
}

/// sums (16, 8) += the products of one chunk; low and high: rows g and g + 8 of A.
template <class T>
__device__ __forceinline__ void multiply_chunk(float (&sums)[4], const Bytes16& low, const Bytes16& high,
                                               const Bytes16& b) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const std::uint32_t a[4] = {low.words[2 * j], high.words[2 * j], low.words[2 * j + 1], high.words[2 * j + 1]};
    mma_m16n8k16<T>(sums, a, b.words[2 * j], b.words[2 * j + 1]);
  }
}

/// C[row, column] = total [+ bias].
template <class T>
__device__ __forceinline__ void store_element(const RowsProduct<T>& p, index_t row, index_t column, float total) {
  if (row >= p.c.rows || column >= p.c.cols) return;
  p.c.data[row * p.c.stride + column] = from_float<T>(p.bias == nullptr ? total : total + to_float(p.bias[column]));
}

/// Few rows: a block has (16 MT, 8 NT) elements of C, each of its warps one part of k. Everything is read once,
/// straight from global memory, so what counts is that all of it is under way at the same time.
template <Element T, int MT, int NT>
__global__ void __launch_bounds__(32 * RowsSum::most_parts) matmul_rows_few_kernel(RowsProduct<T> p) {
  constexpr int depth = MT == 1 ? 8 : 2;  // chunks whose loads are under way
  constexpr int elements = MT * NT * 4;   // of a lane
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  const auto column_blocks = static_cast<int>(ceil_divide(p.c.cols, 8 * NT));
  const index_t first_row = index_t{block_x() / column_blocks} * (16 * MT);
  const index_t first_column = index_t{block_x() % column_blocks} * (8 * NT);
  const int begin = warp_index() * p.sum.each;
  const int end = min(begin + p.sum.each, p.sum.chunks);
  float sums[MT][NT][4] = {};
  for (int chunk = begin; chunk < end; chunk += depth) {
    Bytes16 a[depth][MT][2];
    Bytes16 b[depth][NT];
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      const index_t column = index_t{chunk + d} * RowsSum::chunk + 8 * t;
      if (chunk + d >= end) continue;
#pragma unroll
      for (int n = 0; n < NT; ++n) b[d][n] = load_piece(p.b, first_column + 8 * n + g, column, p.aligned);
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        a[d][m][0] = load_piece(p.a, first_row + 16 * m + g, column, p.aligned);
        a[d][m][1] = load_piece(p.a, first_row + 16 * m + 8 + g, column, p.aligned);
      }
    }
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      if (chunk + d >= end) continue;
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int n = 0; n < NT; ++n) multiply_chunk<T>(sums[m][n], a[d][m][0], a[d][m][1], b[d][n]);
      }
    }
  }
  struct Parts;
  float* const parts = shared_array<float, RowsSum::most_parts * elements * 32, Parts>();  // (part, element, lane)
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        parts[(warp_index() * elements + (m * NT + n) * 4 + e) * 32 + lane_index()] = sums[m][n][e];
      }
    }
  }
  sync_block();
  for (int i = thread_index(); i < elements * 32; i += block_threads()) {
    float total = 0.0F;
    for (int part = 0; part < p.sum.parts; ++part) total += parts[part * elements * 32 + i];
    const int element = i / 32;
    const int lane = i % 32;
    const int row = element / (NT * 4) * 16 + element % 4 / 2 * 8 + lane / 4;
    const int column = element / 4 % NT * 8 + lane % 4 * 2 + element % 2;
    store_element(p, first_row + row, first_column + column, total);
  }
}

/// Many rows: a block has (BM, BN) elements of C, a warp (WM, WN) of them. Chunks come through `stages` places in
/// shared memory, copied ahead of their use; a place holds BM rows of A, then BN rows of B.
template <Element T, int BM, int BN, int WM, int WN>
struct RowsBlock {
  static constexpr int threads = BM / WM * (BN / WN) * 32;
  static constexpr int stages = 4;
  static constexpr int row_bytes = RowsSum::chunk * static_cast<int>(sizeof(T));
  static constexpr int stage_bytes = (BM + BN) * row_bytes;
  static constexpr int shared_bytes = stages * stage_bytes;

  /// Starts the copy of a chunk to its place.
  __device__ __forceinline__ static void fetch(const RowsProduct<T>& p, index_t first_row, index_t first_column,
                                               int chunk) {
    if (chunk < p.sum.chunks) {
      unsigned char* const place = dynamic_shared() + chunk % stages * stage_bytes;
      fetch_rows<BM>(p.a, first_row, chunk, p.aligned, place);
      fetch_rows<BN>(p.b, first_column, chunk, p.aligned, place + BM * row_bytes);
    }
    commit_copies();  // one group a chunk, empty ones too, so that the waits count right
  }

 private:
  template <int Rows>
  __device__ __forceinline__ static void fetch_rows(const MatrixView<const T>& from, index_t first, int chunk,
                                                    bool aligned, unsigned char* to) {
    static_assert(Rows * 4 % threads == 0);
#pragma unroll
    for (int i = 0; i < Rows * 4 / threads; ++i) {
      const int piece = i * threads + thread_index();
      const index_t row = first + piece / 4;
      const index_t column = index_t{chunk} * RowsSum::chunk + piece % 4 * 8;
      if (aligned) {
        const bool valid = row < from.rows && column < from.cols;
        copy_async16(shared_address(to + piece * 16), valid ? from.data + row * from.stride + column : from.data,
                     valid);
      } else {
        *reinterpret_cast<Bytes16*>(to + piece * 16) = load_piece(from, row, column, false);
      }
    }
  }
};

template <Element T, int BM, int BN, int WM, int WN>
__global__ void __launch_bounds__(RowsBlock<T, BM, BN, WM, WN>::threads) matmul_rows_many_kernel(RowsProduct<T> p) {
  using Block = RowsBlock<T, BM, BN, WM, WN>;
  constexpr int MT = WM / 16;
  constexpr int NT = WN / 8;
  const int g = lane_index() / 4;
  const int t = lane_index() % 4;
  // Blocks that run together share rows of A: those are many, and B stays in the level 2 cache.
  const auto column_blocks = static_cast<int>(ceil_divide(p.c.cols, BN));
  const index_t first_row = index_t{block_x() / column_blocks} * BM;
  const index_t first_column = index_t{block_x() % column_blocks} * BN;
  const int warp_row = warp_index() / (BN / WN) * WM;
  const int warp_column = warp_index() % (BN / WN) * WN;
  float totals[MT][NT][4] = {};
  float sums[MT][NT][4] = {};
#pragma unroll
  for (int chunk = 0; chunk < Block::stages - 1; ++chunk) Block::fetch(p, first_row, first_column, chunk);
  int left = p.sum.each;  // chunks of this part
  for (int chunk = 0; chunk < p.sum.chunks; ++chunk) {
    wait_copies<Block::stages - 2>();
    sync_block();  // this chunk has come for all; all are done with the one before, whose place is filled next
    Block::fetch(p, first_row, first_column, chunk + Block::stages - 1);
    const unsigned char* const place = dynamic_shared() + chunk % Block::stages * Block::stage_bytes + t * 16;
    const auto piece = [&](int row) { return *reinterpret_cast<const Bytes16*>(place + row * Block::row_bytes); };
    Bytes16 b[NT];
#pragma unroll
    for (int n = 0; n < NT; ++n) b[n] = piece(BM + warp_column + 8 * n + g);
#pragma unroll
    for (int m = 0; m < MT; ++m) {
      const Bytes16 low = piece(warp_row + 16 * m + g);
      const Bytes16 high = piece(warp_row + 16 * m + 8 + g);
#pragma unroll
      for (int n = 0; n < NT; ++n) multiply_chunk<T>(sums[m][n], low, high, b[n]);
    }
    if (--left == 0 || chunk + 1 == p.sum.chunks) {
      left = p.sum.each;
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int n = 0; n < NT; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            totals[m][n][e] += sums[m][n][e];
            sums[m][n][e] = 0.0F;
          }
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        store_element(p, first_row + warp_row + 16 * m + e / 2 * 8 + g,
                      first_column + warp_column + 8 * n + 2 * t + e % 2, totals[m][n][e]);
      }
    }
  }
}

/// Products of floats, without tensor cores: 256 threads as (16, 16), each with (BM / 16, BN / 16) elements of C, every
/// one of them a chain of fused multiply-adds in the order of k.
template <int BM, int BN>
__global__ void __launch_bounds__(256) matmul_rows_float_kernel(RowsProduct<float> p) {
  constexpr int MT = BM / 16;
  constexpr int NT = BN / 16;
  constexpr int pitch = RowsSum::chunk + 1;  // no two of 32 neighbouring rows in one bank
  struct TileA;
  struct TileB;
  float* const tile_a = shared_array<float, BM * pitch, TileA>();
  float* const tile_b = shared_array<float, BN * pitch, TileB>();
  const int y = thread_index() / 16;
  const int x = thread_index() % 16;
  const auto column_blocks = static_cast<int>(ceil_divide(p.c.cols, BN));
  const index_t first_row = index_t{block_x() / column_blocks} * BM;
  const index_t first_column = index_t{block_x() % column_blocks} * BN;
  float totals[MT][NT] = {};
  float sums[MT][NT] = {};
  for (int chunk = 0; chunk < p.sum.chunks; ++chunk) {
    const auto fetch = [&](const MatrixView<const float>& from, index_t first, int rows, float* to) {
      for (int i = thread_index(); i < rows * RowsSum::chunk; i += 256) {
        const index_t row = first + i / RowsSum::chunk;
        const index_t column = index_t{chunk} * RowsSum::chunk + i % RowsSum::chunk;
        const bool valid = row < from.rows && column < from.cols;
        to[i / RowsSum::chunk * pitch + i % RowsSum::chunk] = valid ? from.data[row * from.stride + column] : 0.0F;
      }
    };
    fetch(p.a, first_row, BM, tile_a);
    fetch(p.b, first_column, BN, tile_b);
    sync_block();
    for (int k = 0; k < RowsSum::chunk; ++k) {
      float b[NT];
#pragma unroll
      for (int n = 0; n < NT; ++n) b[n] = tile_b[(x + 16 * n) * pitch + k];
#pragma unroll
      for (int m = 0; m < MT; ++m) {
        const float a = tile_a[(y + 16 * m) * pitch + k];
#pragma unroll
        for (int n = 0; n < NT; ++n) sums[m][n] = std::fma(a, b[n], sums[m][n]);
      }
    }
    sync_block();
    if ((chunk + 1) % p.sum.each == 0 || chunk + 1 == p.sum.chunks) {
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          totals[m][n] += sums[m][n];
          sums[m][n] = 0.0F;
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < MT; ++m) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      store_element(p, first_row + y + 16 * m, first_column + x + 16 * n, totals[m][n]);
    }
  }
}

}  // namespace cuda

template <cuda::Element T>
void kernel<op::matmul_rows, Cuda, T, T, T>::run_with(const Cuda& device, cuda::RowsTile tile, MatrixView<T> c,
                                                      MatrixView<const T> a, MatrixView<const T> b, const T* bias) {
  const auto whole = [&](MatrixView<const T> x) { return x.cols % 8 == 0 && cuda::groups_aligned(x.data, x.stride); };
  const cuda::RowsProduct<T> p{
      .c = c, .a = a, .b = b, .bias = bias, .sum = cuda::RowsSum(a.cols), .aligned = whole(a) && whole(b)};
  const auto launch = [&](auto* kernel, index_t rows, index_t columns, int threads, int shared_bytes) {
    const index_t blocks = cuda::ceil_divide(c.rows, rows) * cuda::ceil_divide(c.cols, columns);
    cuda::launch(device, kernel, dim3(cuda::blocks_for(blocks, 1)), threads, static_cast<std::size_t>(shared_bytes), p);
  };
  using cuda::RowsTile;
  if constexpr (std::same_as<T, float>) {
    if (tile == RowsTile::rows16) {
      launch(cuda::matmul_rows_float_kernel<16, 64>, 16, 64, 256, 0);
    } else {
      launch(cuda::matmul_rows_float_kernel<64, 64>, 64, 64, 256, 0);
    }
  } else {
    const int warps = std::max(1, p.sum.parts);
    switch (tile) {
      case RowsTile::rows16:
        return launch(cuda::matmul_rows_few_kernel<T, 1, 1>, 16, 8, 32 * warps, 0);
      case RowsTile::rows32:
        return launch(cuda::matmul_rows_few_kernel<T, 2, 2>, 32, 16, 32 * warps, 0);
      case RowsTile::rows64: {
        using Block = cuda::RowsBlock<T, 64, 64, 32, 32>;
        return launch(cuda::matmul_rows_many_kernel<T, 64, 64, 32, 32>, 64, 64, Block::threads, Block::shared_bytes);
      }
      case RowsTile::rows128: {
        using Block = cuda::RowsBlock<T, 128, 128, 64, 32>;
        return launch(cuda::matmul_rows_many_kernel<T, 128, 128, 64, 32>, 128, 128, Block::threads,
                      Block::shared_bytes);
      }
    }
  }
}

}  // namespace storylm
