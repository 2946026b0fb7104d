// SPDX-License-Identifier: MIT
/// @file
/// @brief What several ops check of their arguments, and how they say what is wrong.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include <storylm/core/error.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm::ops::detail {

/// "[op] name is (3, 31), expected (3, 32)".
template <class T>
void expects_shape(std::string_view op, std::string_view name, MatrixView<T> view, index_t rows, index_t cols) {
  expects<ShapeError>(view.rows == rows && view.cols == cols, op, name, " is (", view.rows, ", ", view.cols,
                      "), expected (", rows, ", ", cols, ')');
}

/// "[op] weight has 31 elements, expected 32": for vectors, which are one row.
template <class T>
void expects_elements(std::string_view op, std::string_view name, MatrixView<T> view, index_t count) {
  expects<ShapeError>((view.rows == 1 && view.cols == count) || (count == 0 && view.rows * view.cols == 0), op, name,
                      " has ", view.rows * view.cols, " elements, expected ", count);
}

/// Dropout needs to know which row is which token.
inline void expects_batch(std::string_view op, const DropoutSpec& dropout, const PackedView& batch, index_t rows) {
  constexpr double certain = 1.0 - 0x1p-17;  // from here on it rounds to 1, and nothing would be kept
  expects<ArgumentError>(dropout.probability >= 0.0 && dropout.probability < certain, op,
                         "dropout must be at least 0 and less than 1: ", dropout.probability);
  expects<ShapeError>(!dropout.active() || batch.tokens == rows, op, "the batch has ", batch.tokens,
                      " tokens, expected ", rows);
}

/// Every value lies in [0, limit), or is negative where that means "none". Looked at only where it costs nothing: in
/// host memory. On other devices whoever fills the batch answers for it.
template <Device D>
void expects_indices(std::string_view op, std::string_view name, const D& /*device*/, const std::int32_t* values,
                     index_t count, index_t limit, bool or_negative = false) {
  if constexpr (D::host_memory) {
    for (index_t i = 0; i < count; ++i) {
      expects<ShapeError>(values[i] < limit && (or_negative || values[i] >= 0), op, name, ' ', i, " is ", values[i],
                          ", expected less than ", limit, or_negative ? "" : " and not negative");
    }
  }
}

}  // namespace storylm::ops::detail
