// SPDX-License-Identifier: MIT
/// @file
/// @brief Token and position embeddings, with dropout behind them.
#pragma once

#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// y[t] = dropout(table[ids[t]] * scale + positions[position of t]).
/// @param y (tokens, width)
/// @param table (vocab, width)
/// @param positions (max_len, width), or none
/// @throws ShapeError when shapes disagree, or (in host memory) an id or a position is not a row of its table
template <Device D, FloatDtype T>
void embedding(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> table,
               std::type_identity_t<MatrixView<const T>> positions, double scale, const DropoutSpec& dropout,
               const PackedView& batch) {
  static_assert(Supports<D, op::embedding, T>, "storylm: op::embedding has no kernel for this dtype on this device");
  detail::expects_shape("embedding", "y", y, batch.tokens, table.cols);
  detail::expects_batch("embedding", dropout, batch, y.rows);
  detail::expects_indices("embedding", "id", device, batch.ids, batch.tokens, table.rows);
  if (positions) {
    detail::expects_shape("embedding", "positions", positions, positions.rows, table.cols);
    expects<ShapeError>(batch.longest <= positions.rows, "embedding", "the longest sequence has ", batch.longest,
                        " tokens, positions are for ", positions.rows);
    detail::expects_indices("embedding", "position", device, batch.positions, batch.tokens, positions.rows);
  }
  kernel<op::embedding, D, T>::run(device, y, table, positions, scale, dropout, batch);
}

/// Adds dropout'(dy[t]) to row ids[t] of dtable, times scale, and to the row of t's position of dpositions, in the
/// order of tokens.
/// @param dtable (vocab, width)
/// @param dpositions (max_len, width), or none
/// @param dy (tokens, width)
/// @throws ShapeError as embedding
template <Device D, class T>
void embedding_backward(const D& device, MatrixView<accumulator_t<std::remove_const_t<T>>> dtable,
                        MatrixView<accumulator_t<std::remove_const_t<T>>> dpositions, MatrixView<T> dy, double scale,
                        const DropoutSpec& dropout, const PackedView& batch) {
  using Element = std::remove_const_t<T>;
  static_assert(Supports<D, op::embedding, Element>,
                "storylm: op::embedding has no kernel for this dtype on this device");
  detail::expects_shape("embedding_backward", "dy", dy, batch.tokens, dtable.cols);
  detail::expects_batch("embedding_backward", dropout, batch, dy.rows);
  detail::expects_indices("embedding_backward", "id", device, batch.ids, batch.tokens, dtable.rows);
  if (dpositions) {
    detail::expects_shape("embedding_backward", "dpositions", dpositions, dpositions.rows, dtable.cols);
    expects<ShapeError>(batch.longest <= dpositions.rows, "embedding_backward", "the longest sequence has ",
                        batch.longest, " tokens, positions are for ", dpositions.rows);
    detail::expects_indices("embedding_backward", "position", device, batch.positions, batch.tokens, dpositions.rows);
  }
  kernel<op::embedding, D, Element>::backward(device, dtable, dpositions, dy, scale, dropout, batch);
}

}  // namespace storylm::ops
