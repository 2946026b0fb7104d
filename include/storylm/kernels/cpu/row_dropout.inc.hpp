// SPDX-License-Identifier: MIT
/// @file
/// @brief Dropout in ops whose rows are the tokens of a packed batch: factors in registers.

/// Hands out the factors of one use of dropout row by row, in the type that the op computes in, whatever its rows are
/// stored as. The batch is looked at only when dropout is active.
template <std::floating_point A>
class RowDropout {
 public:
  RowDropout(const DropoutSpec& spec, const PackedView& batch) : mask_(spec), batch_(batch) {}

  /// What kept elements are multiplied by; 1 when there is no dropout.
  [[nodiscard]] A scale() const noexcept { return static_cast<A>(mask_.scale()); }

  /// cpu::for_each_vector over the columns of a row with the factors of each vector: f(i, which, factors), i the first
  /// column.
  template <class F>
  [[gnu::always_inline]] inline void for_each_vector(index_t row, index_t width, const F& f) const {
    for_each_vector(row, 0, width, f);
  }
  /// The same over columns [first, last) of a row; first is a multiple of 8.
  template <class F>
  [[gnu::always_inline]] inline void for_each_vector(index_t row, index_t first, index_t last, const F& f) const {
    constexpr index_t lanes = vector_lanes<A>;
    if (!mask_.active()) {
      const Vector<A> ones = broadcast(A{1});
      for (; first + lanes <= last; first += lanes) f(first, AllLanes{}, ones);
      if (first < last) f(first, FirstLanes{last - first}, ones);
      return;
    }
    const std::uint32_t ordinal = batch_.ordinals[batch_.sequence[row]];
    const std::int32_t position = batch_.positions[row];
    for (; first + dropout_columns <= last; first += dropout_columns) {
      const DropoutFactors<A> factors = mask_.template block<A>(ordinal, position, 0U, first);
      unrolled<DropoutFactors<A>::parts>([&](auto p) { f(first + p * lanes, AllLanes{}, factors.part[p]); });
    }
    if (first == last) return;
    const DropoutFactors<A> factors = mask_.template block<A>(ordinal, position, 0U, first);
    for (const Vector<A>* part = factors.part; first < last; ++part, first += lanes) {
      if (first + lanes <= last) {
        f(first, AllLanes{}, *part);
      } else {
        f(first, FirstLanes{last - first}, *part);
      }
    }
  }

 private:
  DropoutMask mask_;
  PackedView batch_;
};
