// SPDX-License-Identifier: MIT
/// @file
/// @brief Dropout in ops whose rows are the tokens of a packed batch: factors in pieces that stay in the nearest cache.

/// Hands out the factors of one use of dropout row by row. The batch is looked at only when dropout is active.
template <Real T>
class RowDropout {
 public:
  static constexpr index_t piece = 256;

  RowDropout(const DropoutSpec& spec, const PackedView& batch) : mask_(spec), batch_(batch) {}

  /// What kept elements are multiplied by; 1 when there is no dropout.
  [[nodiscard]] T scale() const noexcept { return static_cast<T>(mask_.scale()); }

  /// Calls f(first, count, factors) for one piece of the row after another; factors[i] is column first + i's.
  template <class F>
  void for_each_piece(index_t row, index_t width, const F& f) const {
    std::array<T, piece> factors;  // NOLINT: written below, before it is read
    if (!mask_.active()) factors.fill(T{1});
    for (index_t first = 0; first < width; first += piece) {
      const index_t count = std::min(piece, width - first);
      if (mask_.active()) {
        mask_.factors(factors.data(), batch_.ordinals[batch_.sequence[row]], batch_.positions[row], 0U, first, count);
      }
      f(first, count, static_cast<const T*>(factors.data()));
    }
  }

 private:
  DropoutMask mask_;
  PackedView batch_;
};
