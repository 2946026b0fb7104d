// SPDX-License-Identifier: MIT
/// @file
/// @brief Attention with a cache of keys and values, for generation and scoring.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>
#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/attention_checks.hpp>
#include <storylm/ops/checks.hpp>
#include <storylm/ops/overlap.hpp>

namespace storylm::ops {

/// Stores keys and values of the rows of qkv (tokens, qkv_width) at their positions in the slots of their sequences,
/// then y (tokens, q_width) = attention of each row to all positions up to its own. The bits of a row depend neither on
/// the other rows of the batch nor on how many of its predecessors came in the same call.
/// @pre no two sequences of a batch share a slot; the positions before a sequence's first are stored already
/// @throws ShapeError when shapes disagree or a position lies beyond the cache's capacity, ArgumentError when y
/// overlaps qkv or the cache has no memory
template <Device D, FloatDtype T, FloatDtype TKV>
void attention_cached(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> qkv,
                      const KvView<TKV>& kv, const AttentionSpec& spec, const PackedView& batch) {
  static_assert(Supports<D, op::attention_cached, T, TKV>,
                "storylm: op::attention_cached has no kernel for these dtypes on this device");
  detail::expects_attention("attention_cached", qkv, spec, batch);
  detail::expects_shape("attention_cached", "y", y, batch.tokens, spec.q_width());
  expects<ArgumentError>(batch.tokens == 0 || (kv.keys != nullptr && kv.values != nullptr && kv.slots != nullptr),
                         "attention_cached", "keys, values or slots are null, the batch has ", batch.tokens, " tokens");
  detail::expects_indices("attention_cached", "position", device, batch.positions, batch.tokens, kv.capacity);
  expects<ArgumentError>(!overlap(y, qkv), "attention_cached", "y overlaps qkv");
  kernel<op::attention_cached, D, T, TKV>::run(device, y, qkv, kv, spec, batch);
}

}  // namespace storylm::ops
