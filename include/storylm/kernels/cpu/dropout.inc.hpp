// SPDX-License-Identifier: MIT
/// @file
/// @brief Dropout masks on the CPU: never stored, computed again from the counter wherever they are needed.
///
/// Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014; which element is
/// kept is DropoutSpec's definition.

/// Columns whose factors are computed together: eight, one block of Philox, for each 64-bit lane of a vector.
inline constexpr index_t dropout_columns = vector_bytes;

/// The factors of dropout_columns neighbouring columns, in registers.
template <std::floating_point A>
struct DropoutFactors {
  static constexpr int parts = static_cast<int>(dropout_columns) / vector_lanes<A>;  ///< vectors
  Vector<A> part[parts];                                                             ///< in the order of columns
};

/// The masks of one use of dropout in one step. Made at the beginning of a kernel: reads the step and derives the key.
class DropoutMask {
 public:
  explicit DropoutMask(const DropoutSpec& spec)
      : threshold_(static_cast<std::int32_t>(spec.threshold())), scale_(spec.scale()) {
    if (!spec.active()) return;
    PhiloxKey key = derive_key(spec.seed, spec.state->step, spec.site);
    for (std::size_t round = 0; round < rounds; ++round) {
      round_keys_[round] = {key.low, key.high};
      key.low += 0x9E3779B9U;
      key.high += 0xBB67AE85U;
    }
  }

  /// False: every factor is 1.
  [[nodiscard]] bool active() const noexcept { return threshold_ != 0; }
  /// What kept elements are multiplied by.
  [[nodiscard]] double scale() const noexcept { return scale_; }

  /// Factors, 0 or scale(), of dropout_columns columns from `first`, a multiple of 8, of the row (ordinal, position,
  /// head). @pre active()
  template <std::floating_point A>
  [[nodiscard, gnu::always_inline]] inline DropoutFactors<A> block(std::uint32_t ordinal, std::int32_t position,
                                                                   std::uint32_t head, index_t first) const {
    constexpr int lanes = vector_lanes<A>;
    alignas(vector_bytes) std::uint16_t bits[dropout_columns];
    random_bits(bits, {ordinal, static_cast<std::uint32_t>(position), head, static_cast<std::uint32_t>(first / 8)});
    const Vector<A> kept = broadcast(static_cast<A>(scale_));
    DropoutFactors<A> result;
    unrolled<DropoutFactors<A>::parts>([&](auto p) {
      if constexpr (sizeof(A) == sizeof(std::int32_t)) {
        const auto value = detail::zero_extended<Vector<std::int32_t>>(bits + p * lanes);
        result.part[p] = value >= threshold_ ? kept : Vector<A>{};
      } else {
        Vector<A> part{};
        for (int l = 0; l < lanes; ++l) part[l] = bits[p * lanes + l] >= threshold_ ? kept[l] : A{0};
        result.part[p] = part;
      }
    });
    return result;
  }

  /// factors[i] = 0 or scale() for column first + i, i in [0, n), of the row (ordinal, position, head).
  template <std::floating_point A>
  void factors(A* out, std::uint32_t ordinal, std::int32_t position, std::uint32_t head, index_t first,
               index_t n) const {
    if (!active()) {
      std::fill_n(out, n, A{1});
      return;
    }
    index_t skipped = first % 8;
    for (index_t done = 0; done < n;) {
      const DropoutFactors<A> computed = block<A>(ordinal, position, head, first + done - skipped);
      const index_t count = std::min(n - done, dropout_columns - skipped);
      std::memcpy(out + done, reinterpret_cast<const A*>(computed.part) + skipped,
                  static_cast<std::size_t>(count) * sizeof(A));
      done += count;
      skipped = 0;
    }
  }

 private:
  static constexpr std::size_t rounds = 10;
  using Words = Vector<std::uint64_t>;
  // Each for a whole 64-bit lane, so that it is broadcast from memory.
  struct RoundKey {
    std::uint64_t low;
    std::uint64_t high;
  };

  // philox4x32 and lane16 of core/random.hpp for the counters from `counter` on, one to a 64-bit lane. A counter word
  // is the low half of its lane; the high half is whatever is left there.
  [[gnu::always_inline]] inline void random_bits(std::uint16_t* bits, const PhiloxCounter& counter) const {
    static_assert(std::endian::native == std::endian::little, "16-bit lanes are read as the bytes of 64-bit words");
    constexpr std::uint64_t low_half = 0xFFFFFFFFU;
    constexpr int lanes = vector_lanes<std::uint64_t>;
    alignas(vector_bytes) static constexpr std::uint64_t numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const Words zero{};
    const Words factor0 = zero + std::uint64_t{0xD2511F53U};
    const Words factor1 = zero + std::uint64_t{0xCD9E8D57U};
    Words c0 = zero + std::uint64_t{counter[0]};
    Words c1 = zero + std::uint64_t{counter[1]};
    Words c2 = zero + std::uint64_t{counter[2]};
    Words c3 = load(numbers) + std::uint64_t{counter[3]};
    unrolled<static_cast<int>(rounds)>([&](auto round) {
      const Words product0 = multiply_lower_halves(c0, factor0);
      const Words product1 = multiply_lower_halves(c2, factor1);
      c0 = exclusive_or<std::uint64_t>(product1 >> 32U, c1, zero + round_keys_[round].low);
      c2 = exclusive_or<std::uint64_t>(product0 >> 32U, c3, zero + round_keys_[round].high);
      c1 = product1;
      c3 = product0;
    });
    const Words front = (c0 & low_half) | (c1 << 32U);
    const Words back = (c2 & low_half) | (c3 << 32U);
    const Words first_half = interleave_low<std::uint64_t>(front, back);
    const Words second_half = interleave_high<std::uint64_t>(front, back);
    static_assert(lanes * 8 == dropout_columns);
    std::memcpy(bits, &first_half, sizeof(Words));
    std::memcpy(bits + dropout_columns / 2, &second_half, sizeof(Words));
  }

  std::int32_t threshold_;
  double scale_;
  std::array<RoundKey, rounds> round_keys_{};
};
