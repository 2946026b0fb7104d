// SPDX-License-Identifier: MIT
/// @file
/// @brief The masks of DropoutSpec inside kernels: recomputed where they are needed, never stored.
#pragma once

#include <cstdint>

#include <storylm/core/random.hpp>
#include <storylm/kernels/cuda/primitives.cuh>
#include <storylm/kernels/kernel.hpp>

namespace storylm::cuda {

/// A DropoutSpec as a kernel's argument.
struct DropoutArguments {
  std::uint64_t seed = 0;            ///< of the run
  const StepState* state = nullptr;  ///< has the step
  std::uint32_t site = 0;            ///< tells the places of a model apart
  std::uint32_t threshold = 0;       ///< lanes below are dropped; 0: nothing is
  float scale = 1.0F;                ///< of what is kept

  DropoutArguments() = default;
  /// On the host.
  explicit DropoutArguments(const DropoutSpec& spec)
      : seed(spec.seed),
        state(spec.state),
        site(spec.site),
        threshold(spec.threshold()),
        scale(static_cast<float>(spec.scale())) {}
};

/// The key of this step's masks; only where threshold is not 0.
__device__ __forceinline__ PhiloxKey dropout_key(const DropoutArguments& dropout) {
  return derive_key(dropout.seed, dropout.state->step, dropout.site);
}

/// The first half of a row's counter, and whether the row is a token's: tail rows belong to no sequence.
struct RowToken {
  std::uint32_t ordinal = 0;   ///< of its story
  std::uint32_t position = 0;  ///< in its sequence
  bool real = false;           ///< false: a tail row; nothing of it is dropped
};
__device__ __forceinline__ RowToken token_of_row(const PackedView& batch, index_t row) {
  RowToken token;
  token.real = row < batch.offsets[batch.sequences];
  if (token.real) {
    token.ordinal = batch.ordinals[batch.sequence[row]];
    token.position = static_cast<std::uint32_t>(batch.positions[row]);
  }
  return token;
}

/// Bit i: column 8 group + i of the row is kept.
__device__ __forceinline__ std::uint32_t kept_columns(const PhiloxKey& key, const DropoutArguments& dropout,
                                                      std::uint32_t ordinal, std::uint32_t position, std::uint32_t head,
                                                      std::uint32_t group) {
  const PhiloxCounter random = philox4x32({ordinal, position, head, group}, key);
  std::uint32_t kept = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) kept |= static_cast<std::uint32_t>(lane16(random, i) >= dropout.threshold) << i;
  return kept;
}
/// Applies it to columns 8 group to 8 group + 7.
__device__ __forceinline__ void drop8(float (&x)[8], const PhiloxKey& key, const DropoutArguments& dropout,
                                      const RowToken& token, int group) {
  if (!token.real) return;
  const std::uint32_t kept =
      kept_columns(key, dropout, token.ordinal, token.position, 0, static_cast<std::uint32_t>(group));
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = ((kept >> i) & 1U) != 0U ? x[i] * dropout.scale : 0.0F;
}

}  // namespace storylm::cuda
