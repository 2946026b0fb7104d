// SPDX-License-Identifier: MIT
/// @file
/// @brief Tiles in shared memory, tensor-core fragments of them, and dropout masks in the order of fragments.
///
/// Fragments are those of mma_m16n8k16, lane = 4 g + t. An accumulator of 16 rows and 8 n columns is float[n][4]:
/// elements 0, 1 are row g, columns 2t and 2t + 1 of each eight, elements 2, 3 the same of row g + 8.
#pragma once

#include <storylm/kernels/cuda/attention_call.cuh>

namespace storylm::cuda {

/// Rows of D elements of 16 bits. The 16-byte chunks of a row are permuted by the row's number, so that the same chunk
/// of eight neighbouring rows lies in different banks.
template <int D>
struct AttentionTile {
  static constexpr int chunks = D / 8;     ///< of a row
  static constexpr int row_bytes = 2 * D;  ///< of a row

  unsigned char* memory;  ///< in shared memory
  std::uint32_t address;  ///< the same, as load_matrix takes it

  __device__ __forceinline__ explicit AttentionTile(unsigned char* shared)
      : memory(shared), address(shared_address(shared)) {}

  /// Bytes to a chunk.
  static __device__ __forceinline__ int offset(int row, int chunk) {
    const int turn = D == 32 ? row / 2 % 4 : row % 8;  // two rows of 32 elements fill all banks
    return row * row_bytes + (chunk ^ turn) * 16;
  }
  __device__ __forceinline__ std::uint32_t at(int row, int chunk) const {
    return address + static_cast<std::uint32_t>(offset(row, chunk));
  }
};

/// Chunk `chunk` of tile row `row` becomes that of position `position`: zeros beyond the sequence and the head.
/// Complete after a commit_copies(), a wait_copies() and a barrier.
template <int D, class T>
__device__ __forceinline__ void load_chunk(const AttentionTile<D>& tile, int row, int chunk,
                                           const HeadRows<const T>& from, int position, int length) {
  const int count = position < length ? from.width - chunk * group_columns : 0;
  const T* const source = count > 0 ? from.row(position) + chunk * group_columns : from.data;
  if (from.aligned) {
    copy_async16(tile.at(row, chunk), source, count > 0);
  } else {
    std::uint32_t bits[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) bits[i] = i < count ? source[i].bits : 0U;
    Bytes16 raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) raw.words[i] = bits[2 * i] | bits[2 * i + 1] << 16U;
    *reinterpret_cast<Bytes16*>(tile.memory + AttentionTile<D>::offset(row, chunk)) = raw;
  }
}
/// Tile rows 0 to `rows` - 1 from position `first` on, by all threads of the block.
template <int D, class T>
__device__ __forceinline__ void load_tile(const AttentionTile<D>& tile, const HeadRows<const T>& from, int first,
                                          int rows, int length) {
  constexpr int chunks = AttentionTile<D>::chunks;
#pragma unroll 4
  for (int i = thread_index(); i < rows * chunks; i += block_threads()) {
    load_chunk(tile, i / chunks, i % chunks, from, first + i / chunks, length);
  }
}

/// Operand a: tile rows `row` to row + 15, columns 16 step to 16 step + 15.
template <int D>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], const AttentionTile<D>& tile, int row, int step) {
  load_matrix_x4(a, tile.at(row + lane_index() % 16, 2 * step + lane_index() / 16));
}
/// Operand b of two products, which is the tile transposed: its columns are tile rows `row` to row + 7, and to row +
/// 15, its rows are columns 16 step to 16 step + 15.
template <int D>
__device__ __forceinline__ void load_b(std::uint32_t (&b)[4], const AttentionTile<D>& tile, int row, int step) {
  load_matrix_x4(b, tile.at(row + lane_index() / 16 * 8 + lane_index() % 8, 2 * step + lane_index() / 8 % 2));
}
/// Operand b of two products as the tile has it: rows `row` to row + 15, columns of chunk, and of chunk + 1.
template <int D>
__device__ __forceinline__ void load_b_straight(std::uint32_t (&b)[4], const AttentionTile<D>& tile, int row,
                                                int chunk) {
  load_matrix_x4_transposed(b, tile.at(row + lane_index() % 16, chunk + lane_index() / 16));
}
/// d (16, 16) += a (16, 16) b (16, 16).
template <class T>
__device__ __forceinline__ void multiply_add(float (&d0)[4], float (&d1)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[4]) {
  mma_m16n8k16<T>(d0, a, b[0], b[1]);
  mma_m16n8k16<T>(d1, a, b[2], b[3]);
}
/// An accumulator (16, 16), rounded, as operand a.
template <class T>
__device__ __forceinline__ void to_operand(std::uint32_t (&a)[4], const float (&x0)[4], const float (&x1)[4]) {
  a[0] = pack<T>(x0[0], x0[1]);
  a[1] = pack<T>(x0[2], x0[3]);
  a[2] = pack<T>(x1[0], x1[1]);
  a[3] = pack<T>(x1[2], x1[3]);
}

/// Sum and maximum over the four lanes that share a row of an accumulator.
__device__ __forceinline__ float quad_sum(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}

/// Word k of lane t <-> word t of lane k, within four lanes.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4]) {
  const int t = lane_index() % 4;
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (t & bit) != 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if ((k & bit) != 0) continue;
      const std::uint32_t received = shuffle_xor(upper ? words[k] : words[k + bit], bit);
      words[k] = upper ? received : words[k];
      words[k + bit] = upper ? words[k + bit] : received;
    }
  }
}
/// Row g + 8 half of an accumulator, times `factor`, to the row of `position`, where the sequence has it. All lanes of
/// the warp take part; four lanes write 64 bytes of a row at a time.
template <int D, class T>
__device__ __forceinline__ void store_row(const HeadRows<T>& to, int position, int length, const float (&x)[D / 8][4],
                                          int half, float factor) {
#pragma unroll
  for (int d = 0; d < D / 8; d += 4) {
    std::uint32_t words[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) words[k] = pack<T>(x[d + k][2 * half] * factor, x[d + k][2 * half + 1] * factor);
    transpose_quad(words);
    const int column = (d + lane_index() % 4) * group_columns;
    const int count = position < length ? to.width - column : 0;
    if (count <= 0) continue;
    T* const target = to.row(position) + column;
    if (to.aligned) {
      *reinterpret_cast<Bytes16*>(target) = Bytes16{{words[0], words[1], words[2], words[3]}};
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i < count) target[i].bits = static_cast<std::uint16_t>(words[i / 2] >> (16U * (i % 2U)));
      }
    }
  }
}

/// Dropout masks of one head, computed where fragments need them; bit = 1: kept.
struct ComputedMasks {
  PhiloxKey key;             ///< of this step
  DropoutArguments dropout;  ///< as given
  std::uint32_t ordinal;     ///< of the story
  std::uint32_t head;        ///< of the queries

  /// Keys first_key to first_key + 31 of one query, the same in the four lanes that share a row. first_key % 32 = 0.
  __device__ __forceinline__ std::uint32_t keys_of(int query, int first_key) const {
    const std::uint32_t t = static_cast<std::uint32_t>(lane_index() % 4);
    std::uint32_t kept = kept_columns(key, dropout, ordinal, static_cast<std::uint32_t>(query), head,
                                      static_cast<std::uint32_t>(first_key / 8) + t)
                         << (8U * t);
    kept |= shuffle_xor(kept, 1);
    return kept | shuffle_xor(kept, 2);
  }
  /// Keys first_key to first_key + 16 Tiles - 1 of the queries 2t, 2t + 1, 2t + 8, 2t + 9 from first_query on.
  template <int Tiles>
  __device__ __forceinline__ void queries_of(std::uint32_t (&kept)[4], int first_query, int first_key) const {
    // Eight lanes have the same t: two compute the word of one query.
    const int pair = lane_index() / 8;
    const int upper = lane_index() / 4 % 2;
    const auto query = static_cast<std::uint32_t>(first_query + pair / 2 * 8 + lane_index() % 4 * 2 + pair % 2);
    std::uint32_t part = 0;
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
      const int byte = upper * Tiles + i;
      part |= kept_columns(key, dropout, ordinal, query, head, static_cast<std::uint32_t>(first_key / 8 + byte))
              << static_cast<unsigned>(8 * byte);
    }
    part |= shuffle_xor(part, 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) kept[i] = shuffle(part, i * 8 + lane_index() % 4);
  }
};
template <class T>
__device__ __forceinline__ ComputedMasks masks_of(const AttentionCall<T>& call, int sequence, int head) {
  return {dropout_key(call.dropout), call.dropout, call.batch.ordinals[sequence], static_cast<std::uint32_t>(head)};
}

/// The same, found in shared memory.
struct StoredMasks {
  const std::uint32_t* words;  // (queries, stride)  32 keys a word
  int stride;                  ///< odd, so that eight rows lie in different banks

  __device__ __forceinline__ std::uint32_t keys_of(int query, int first_key) const {
    return words[query * stride + first_key / 32];
  }
  template <int Tiles>
  __device__ __forceinline__ void queries_of(std::uint32_t (&kept)[4], int first_query, int first_key) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = first_query + i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
      kept[i] = words[query * stride + first_key / 32] >> static_cast<unsigned>(first_key % 32);
    }
  }
};

}  // namespace storylm::cuda
