// SPDX-License-Identifier: MIT
/// @file
/// @brief Dropout masks on the CPU: never stored, computed again from the counter wherever they are needed.
///
/// Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014; which element is
/// kept is DropoutSpec's definition.

/// The masks of one use of dropout in one step. Made at the beginning of a kernel: reads the step and derives the key.
class DropoutMask {
 public:
  explicit DropoutMask(const DropoutSpec& spec)
      : threshold_(spec.threshold()),
        scale_(spec.scale()),
        key_(spec.active() ? derive_key(spec.seed, spec.state->step, spec.site) : PhiloxKey{}) {}

  /// False: every factor is 1.
  [[nodiscard]] bool active() const noexcept { return threshold_ != 0; }
  /// What kept elements are multiplied by.
  [[nodiscard]] double scale() const noexcept { return scale_; }

  /// factors[i] = 0 or scale() for column first + i, i in [0, n), of the row (ordinal, position, head).
  template <class A>
  void factors(A* out, std::uint32_t ordinal, std::int32_t position, std::uint32_t head, index_t first,
               index_t n) const {
    if (!active()) {
      std::fill_n(out, n, A{1});
      return;
    }
    const auto kept = static_cast<A>(scale_);
    std::array<std::uint16_t, block_columns> lane;  // NOLINT: written whole by lanes()
    index_t skipped = first % 8;
    for (index_t done = 0; done < n;) {
      lanes(lane,
            {ordinal, static_cast<std::uint32_t>(position), head, static_cast<std::uint32_t>((first + done) / 8)});
      const index_t count = std::min(n - done, block_columns - skipped);
      const std::uint16_t* from = lane.data() + skipped;
      for (index_t i = 0; i < count; ++i) out[done + i] = from[i] >= threshold_ ? kept : A{0};
      done += count;
      skipped = 0;
    }
  }

  /// y[i] = x[i] * factor of column first + i. y may be x.
  template <class T>
  void apply(T* y, const T* x, std::uint32_t ordinal, std::int32_t position, std::uint32_t head, index_t first,
             index_t n) const {
    using A = accumulator_t<T>;
    if (!active()) {
      if (y != x) std::copy_n(x, n, y);
      return;
    }
    std::array<A, 256> factor;  // NOLINT: written by factors()
    for (index_t done = 0; done < n; done += 256) {
      const index_t count = std::min<index_t>(256, n - done);
      factors(factor.data(), ordinal, position, head, first + done, count);
      for (index_t i = 0; i < count; ++i) {
        y[done + i] = static_cast<T>(static_cast<A>(x[done + i]) * factor[static_cast<std::size_t>(i)]);
      }
    }
  }

 private:
  static constexpr index_t block_columns = 64;  // eight groups of eight columns, computed side by side
  // One 64-bit lane per group. A counter word is the low half of its lane; the high half is whatever is left there.
  using Words [[gnu::vector_size(64)]] = std::uint64_t;

  // philox4x32 and lane16 of core/random.hpp for the eight counters from `counter` on.
  void lanes(std::array<std::uint16_t, block_columns>& out, const PhiloxCounter& counter) const {
    static_assert(std::endian::native == std::endian::little, "lanes are read as the bytes of 64-bit words");
    constexpr std::uint64_t low_half = 0xFFFFFFFFU;
    const Words groups = {0, 1, 2, 3, 4, 5, 6, 7};
    Words c0 = groups * 0 + counter[0];
    Words c1 = groups * 0 + counter[1];
    Words c2 = groups * 0 + counter[2];
    Words c3 = groups + counter[3];
    PhiloxKey key = key_;
    for (int round = 0; round < 10; ++round) {
      const Words product0 = (c0 & low_half) * std::uint64_t{0xD2511F53U};
      const Words product1 = (c2 & low_half) * std::uint64_t{0xCD9E8D57U};
      c0 = (product1 >> 32U) ^ c1 ^ std::uint64_t{key.low};
      c2 = (product0 >> 32U) ^ c3 ^ std::uint64_t{key.high};
      c1 = product1;
      c3 = product0;
      key.low += 0x9E3779B9U;
      key.high += 0xBB67AE85U;
    }
    const Words front = (c0 & low_half) | (c1 << 32U);
    const Words back = (c2 & low_half) | (c3 << 32U);
    std::array<std::uint64_t, block_columns / 4> words;  // NOLINT: written whole below
    for (std::size_t group = 0; group < 8; ++group) {
      words[2 * group] = front[group];
      words[2 * group + 1] = back[group];
    }
    std::memcpy(out.data(), words.data(), sizeof(words));
  }

  std::uint32_t threshold_;
  double scale_;
  PhiloxKey key_;
};
