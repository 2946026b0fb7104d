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

/// Tile rows 0 to `rows` - 1 become those from position `first` on, zeros beyond the sequence and the head; by all
/// threads of the block. Complete after a commit_copies(), a wait_copies() and a barrier.
template <int D, class T>
__device__ __forceinline__ void load_tile(const AttentionTile<D>& tile, const HeadRows<const T>& from, int first,
                                          int rows, int length) {
  constexpr int chunks = AttentionTile<D>::chunks;
  if (from.aligned) {
#pragma unroll 4
    for (int i = thread_index(); i < rows * chunks; i += block_threads()) {
      const int column = i % chunks * group_columns;
      const bool there = first + i / chunks < length && column < from.width;
      copy_async16(tile.at(i / chunks, i % chunks), there ? from.row(first + i / chunks) + column : from.data, there);
    }
    return;
  }
#pragma unroll 1
  for (int i = thread_index(); i < rows * chunks; i += block_threads()) {
    const int column = i % chunks * group_columns;
    const int count = first + i / chunks < length ? from.width - column : 0;
    const T* const source = count > 0 ? from.row(first + i / chunks) + column : from.data;
    std::uint32_t bits[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) bits[k] = k < count ? source[k].bits : 0U;
    Bytes16 raw;
#pragma unroll
    for (int k = 0; k < 4; ++k) raw.words[k] = bits[2 * k] | bits[2 * k + 1] << 16U;
    *reinterpret_cast<Bytes16*>(tile.memory + AttentionTile<D>::offset(i / chunks, i % chunks)) = raw;
  }
}

/// Where a lane's part of the first fragment of a row of fragments lies; the others are found from there, at the price
/// of one exclusive or instead of a register each.
template <int D>
struct AttentionCursor {
  std::uint32_t address;

  /// Of a fragment `rows` rows below, a multiple of 8, and `chunks` chunks to the right, an even number.
  __device__ __forceinline__ std::uint32_t at(int rows, int chunks) const {
    // A tile begins on a 128-byte boundary, and the lowest bit of a chunk's number is what lanes differ in.
    return (address ^ static_cast<std::uint32_t>(chunks % 8 * 16)) +
           static_cast<std::uint32_t>(chunks / 8 * 128 + rows * AttentionTile<D>::row_bytes);
  }
};
/// For operands a, and for operands b that have their rows in the tile's: from tile row `row` on.
template <int D>
__device__ __forceinline__ AttentionCursor<D> straight(const AttentionTile<D>& tile, int row) {
  return {tile.at(row + lane_index() % 16, lane_index() / 16)};
}
/// For operands b that have their columns in the tile's rows.
template <int D>
__device__ __forceinline__ AttentionCursor<D> turned(const AttentionTile<D>& tile, int row) {
  return {tile.at(row + lane_index() / 16 * 8 + lane_index() % 8, lane_index() / 8 % 2)};
}

/// Operand a: 16 tile rows from `rows` below a straight cursor on, columns 16 step to 16 step + 15.
template <int D>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], const AttentionCursor<D>& from, int rows, int step) {
  load_matrix_x4(a, from.at(rows, 2 * step));
}
/// Operand b of two products, which is the tile transposed: its columns are 8 tile rows, and the next 8, from `rows`
/// below a turned cursor on; its rows are columns 16 step to 16 step + 15.
template <int D>
__device__ __forceinline__ void load_b(std::uint32_t (&b)[4], const AttentionCursor<D>& from, int rows, int step) {
  load_matrix_x4(b, from.at(rows, 2 * step));
}
/// Operand b of two products as the tile has it: 16 rows from `rows` below a straight cursor on, columns of chunk, and
/// of chunk + 1.
template <int D>
__device__ __forceinline__ void load_b_straight(std::uint32_t (&b)[4], const AttentionCursor<D>& from, int rows,
                                                int chunk) {
  load_matrix_x4_transposed(b, from.at(rows, chunk));
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
        if (i < count) target[i].bits = static_cast<std::uint16_t>(words[i / 2] >> static_cast<unsigned>(16 * (i % 2)));
      }
    }
  }
}

/// Dropout masks of one head, computed where fragments need them; bit = 1: kept.
struct ComputedMasks {
  const PhiloxKey* key;  ///< of this step; in shared memory, for it would take 20 registers with what follows from it
  DropoutArguments dropout;  ///< as given
  std::uint32_t ordinal;     ///< of the story
  std::uint32_t head;        ///< of the queries

  /// Keys first_key to first_key + 31 of one query, the same in the four lanes that share a row. first_key % 32 = 0.
  __device__ __forceinline__ std::uint32_t keys_of(int query, int first_key) const {
    const std::uint32_t t = static_cast<std::uint32_t>(lane_index() % 4);
    std::uint32_t kept = kept_columns(*key, dropout, ordinal, static_cast<std::uint32_t>(query), head,
                                      static_cast<std::uint32_t>(first_key / 8) + t)
                         << (8U * t);
    kept |= shuffle_xor(kept, 1);
    return kept | shuffle_xor(kept, 2);
  }
  /// Keys first_key to first_key + 16 Tiles - 1 of 16 queries, spread over the warp: for kept_of().
  template <int Tiles>
  __device__ __forceinline__ std::uint32_t prepare(int first_query, int first_key) const {
    // Eight lanes have the same t: two compute the word of one query.
    const int pair = lane_index() / 8;
    const int upper = lane_index() / 4 % 2;
    const auto query = static_cast<std::uint32_t>(first_query + pair / 2 * 8 + lane_index() % 4 * 2 + pair % 2);
    std::uint32_t part = 0;
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
      const int byte = upper * Tiles + i;
      part |= kept_columns(*key, dropout, ordinal, query, head, static_cast<std::uint32_t>(first_key / 8 + byte))
              << static_cast<unsigned>(8 * byte);
    }
    return part | shuffle_xor(part, 4);
  }
  /// The i-th of a lane's four queries, 2t, 2t + 1, 2t + 8 and 2t + 9 from first_query on.
  __device__ __forceinline__ std::uint32_t kept_of(std::uint32_t prepared, int i, int /*first_query*/,
                                                   int /*first_key*/) const {
    return shuffle(prepared, i * 8 + lane_index() % 4);
  }
};
/// By all threads of the block; to be used after a barrier. @param key in shared memory, is written
template <class T>
__device__ __forceinline__ ComputedMasks masks_of(const AttentionCall<T>& call, int sequence, int head,
                                                  PhiloxKey* key) {
  if (thread_index() == 0) *key = dropout_key(call.dropout);
  return {key, call.dropout, call.batch.ordinals[sequence], static_cast<std::uint32_t>(head)};
}

/// The same, found in shared memory.
struct StoredMasks {
  const std::uint32_t* words;  // (queries, stride)  32 keys a word
  int stride;                  ///< odd, so that eight rows lie in different banks

  __device__ __forceinline__ std::uint32_t keys_of(int query, int first_key) const {
    return words[query * stride + first_key / 32];
  }
  template <int Tiles>
  __device__ __forceinline__ std::uint32_t prepare(int /*first_query*/, int /*first_key*/) const {
    return 0;
  }
  __device__ __forceinline__ std::uint32_t kept_of(std::uint32_t /*prepared*/, int i, int first_query,
                                                   int first_key) const {
    const int query = first_query + i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
    return words[query * stride + first_key / 32] >> static_cast<unsigned>(first_key % 32);
  }
};

}  // namespace storylm::cuda
