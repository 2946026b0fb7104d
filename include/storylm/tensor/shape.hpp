// SPDX-License-Identifier: MIT
/// @file
/// @brief Run-time shapes of rank 0 to 4, stored in place.
#pragma once

#include <array>
#include <initializer_list>
#include <ostream>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

namespace storylm {

/// Extents of a row-major tensor, outermost first. Rank 0 is a single value.
class Shape {
 public:
  /// The most axes there can be.
  static constexpr int max_rank = 4;

  constexpr Shape() = default;
  /// @throws ShapeError on a rank above 4 or a negative extent
  constexpr Shape(std::initializer_list<index_t> extents) {
    expects<ShapeError>(extents.size() <= max_rank, "Shape", "rank ", extents.size(), " exceeds ", max_rank);
    for (const index_t extent : extents) append(extent);
  }

  /// Adds an innermost extent.
  constexpr void append(index_t extent) {
    expects<ShapeError>(rank_ < max_rank, "Shape", "rank exceeds ", max_rank);
    expects<ShapeError>(extent >= 0, "Shape", "negative extent ", extent);
    extents_[static_cast<std::size_t>(rank_++)] = extent;
  }

  /// Number of axes.
  [[nodiscard]] constexpr int rank() const noexcept { return rank_; }
  /// Extent of an axis; negative axes count from the end.
  [[nodiscard]] constexpr index_t operator[](int axis) const noexcept {
    return extents_[static_cast<std::size_t>(axis < 0 ? axis + rank_ : axis)];
  }
  /// Number of elements.
  [[nodiscard]] constexpr index_t size() const noexcept {
    index_t n = 1;
    for (int axis = 0; axis < rank_; ++axis) n *= (*this)[axis];
    return n;
  }
  /// Number of columns when seen as a matrix: the innermost extent, 1 for rank 0.
  [[nodiscard]] constexpr index_t cols() const noexcept { return rank_ == 0 ? 1 : (*this)[-1]; }
  /// Number of rows when seen as a matrix: the product of all other extents.
  [[nodiscard]] constexpr index_t rows() const noexcept {
    index_t n = 1;
    for (int axis = 0; axis + 1 < rank_; ++axis) n *= (*this)[axis];
    return n;
  }

  /// Field by field.
  friend constexpr bool operator==(const Shape&, const Shape&) = default;
  /// "(2, 3)".
  friend std::ostream& operator<<(std::ostream& out, const Shape& s) {
    out << '(';
    for (int axis = 0; axis < s.rank(); ++axis) out << (axis != 0 ? ", " : "") << s[axis];
    return out << ')';
  }

 private:
  std::array<index_t, max_rank> extents_{};
  int rank_ = 0;
};

}  // namespace storylm
