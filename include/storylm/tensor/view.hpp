// SPDX-License-Identifier: MIT
/// @file
/// @brief What kernels see: a pointer and a few numbers, trivially copyable.
#pragma once

#include <type_traits>

#include <storylm/core/dtype.hpp>

namespace storylm {

/// A row-major matrix somewhere in a device's memory. A default-made view is "none": it converts to false.
template <class T>
struct MatrixView {
  T* data = nullptr;   ///< element (0, 0)
  index_t rows = 0;    ///< extent
  index_t cols = 0;    ///< extent
  index_t stride = 0;  ///< elements from one row to the next, at least cols

  constexpr MatrixView() = default;
  /// Rows one after another.
  constexpr MatrixView(T* pointer, index_t row_count, index_t col_count)
      : MatrixView(pointer, row_count, col_count, col_count) {}
  /// Rows `row_stride` elements apart.
  constexpr MatrixView(T* pointer, index_t row_count, index_t col_count, index_t row_stride)
      : data(pointer), rows(row_count), cols(col_count), stride(row_stride) {}
  /// A read-only view of the same memory.
  template <class U>
  requires(std::is_same_v<T, const U> && !std::is_same_v<T, U>) constexpr MatrixView(
      const MatrixView<U>& other)  // NOLINT(google-explicit-constructor): adding const is harmless
      : MatrixView(other.data, other.rows, other.cols, other.stride) {}

  /// False for "none".
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return data != nullptr; }
  /// The first element of row r.
  [[nodiscard]] constexpr T* row(index_t r) const noexcept { return data + r * stride; }
  /// Element (r, c).
  [[nodiscard]] constexpr T& operator()(index_t r, index_t c) const noexcept { return data[r * stride + c]; }
  /// `count` rows from `first` on.
  [[nodiscard]] constexpr MatrixView slice_rows(index_t first, index_t count) const noexcept {
    return {data + first * stride, count, cols, stride};
  }
  /// `count` columns from `first` on.
  [[nodiscard]] constexpr MatrixView slice_cols(index_t first, index_t count) const noexcept {
    return {data + first, rows, count, stride};
  }
};

}  // namespace storylm
