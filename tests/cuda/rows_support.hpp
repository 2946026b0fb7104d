// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of ops on rows share: matrices with gaps that must stay as they are, batches whose tail must
/// not be read, results held to one rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "support.hpp"

namespace storylm::test {

/// How rows lie in memory.
struct Layout {
  index_t gap = 0;     ///< elements between rows
  index_t before = 0;  ///< elements before the first: 1 puts it off every boundary
};
inline constexpr Layout dense{};
inline constexpr Layout spaced{.gap = 16, .before = 16};  ///< on 16-byte boundaries still
inline constexpr Layout skewed{.gap = 3, .before = 1};

/// A matrix on the GPU, NaN between its rows and, until it is written, in them.
template <class T>
class Rows {
 public:
  Rows(index_t rows, index_t cols, Layout layout = dense)
      : rows_(rows),
        cols_(cols),
        layout_(layout),
        memory_(poisoned<T>({layout.before + rows * stride() + layout.gap + 1})) {}
  Rows(index_t rows, index_t cols, const std::vector<double>& values, Layout layout = dense)
      : Rows(rows, cols, layout) {
    std::vector<T> all = memory_.to_host();
    for (std::size_t i = 0; i < values.size(); ++i) all[place(i)] = T(static_cast<float>(values[i]));
    cuda_device().copy_from_host(memory_.data(), all.data(), memory_.bytes());
  }

  [[nodiscard]] MatrixView<T> view() { return {memory_.data() + layout_.before, rows_, cols_, stride()}; }
  /// Its elements, as doubles.
  [[nodiscard]] std::vector<double> values() const {
    const std::vector<double> all = to_doubles(memory_);
    std::vector<double> found(static_cast<std::size_t>(rows_ * cols_));
    for (std::size_t i = 0; i < found.size(); ++i) found[i] = all[place(i)];
    return found;
  }
  /// What no kernel may write is as it was.
  [[nodiscard]] bool gaps_untouched() const {
    std::vector<double> all = to_doubles(memory_);
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows_ * cols_); ++i) all[place(i)] = NAN;
    return std::all_of(all.begin(), all.end(), [](double v) { return std::isnan(v); });
  }
  /// All of its memory.
  [[nodiscard]] std::vector<std::uint8_t> bits() const { return bits_of(memory_.to_host()); }

 private:
  [[nodiscard]] index_t stride() const { return cols_ + layout_.gap; }
  [[nodiscard]] std::size_t place(std::size_t i) const {
    const auto at = static_cast<index_t>(i);
    return static_cast<std::size_t>(layout_.before + at / cols_ * stride() + at % cols_);
  }

  index_t rows_;
  index_t cols_;
  Layout layout_;
  Tensor<T, Cuda> memory_;
};

/// Half of the distance between neighbours of 1.
template <class T>
inline constexpr double unit_roundoff = std::is_same_v<T, bf16>   ? 0x1p-8
                                        : std::is_same_v<T, half> ? 0x1p-11
                                                                  : 0x1p-24;

/// Every value is the expected one rounded to T, but for an error of `slack` of the largest: that of sums and functions
/// in float.
template <class T>
void check_rounded(const std::string& what, const std::vector<double>& actual, const std::vector<double>& expected,
                   double slack = 2e-6) {
  CAPTURE(what);
  REQUIRE(actual.size() == expected.size());
  double largest = 1e-3;
  for (const double e : expected) largest = std::max(largest, std::abs(e));
  constexpr double least = std::is_same_v<T, half> ? 0x1p-25 : 0.0;  // below are subnormals
  double worst = 0.0;                                                // as a part of what is allowed
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double allowed = unit_roundoff<T> * std::abs(expected[i]) + least + slack * largest;
    const double d = std::abs(actual[i] - expected[i]);
    worst = std::isnan(d) ? INFINITY : std::max(worst, d / allowed);
  }
  CHECK(worst <= 1.0);
}

/// A batch of sequences of many lengths, 0 among them, at many positions and with ordinals of their own, on both
/// devices. On the GPU there are `tail` rows more. To look up what belongs to one of them goes wrong, for its entries
/// are absurd.
class RowsBatch {
 public:
  RowsBatch(index_t tokens, index_t tail, std::uint64_t seed = 1, index_t furthest = 100)
      : tokens_(tokens), rows_(tokens + tail), offsets_{0} {
    RandomStream random(seed, 2, 0x7E57);
    const auto below = [&](index_t n) {
      return static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(n)));
    };
    while (offsets_.back() < tokens) {
      const auto left = static_cast<std::int32_t>(tokens) - offsets_.back();
      const std::int32_t length = std::min(left, below(40));
      const std::int32_t start = below(furthest + 1 - 40 > 0 ? furthest + 1 - 40 : 1);
      for (std::int32_t i = 0; i < length; ++i) {
        positions_.push_back(start + i);
        sequence_.push_back(static_cast<std::int32_t>(ordinals_.size()));
      }
      ordinals_.push_back(static_cast<std::uint32_t>(below(1000)));
      offsets_.push_back(offsets_.back() + length);
    }
    std::vector<std::int32_t> positions = positions_;
    std::vector<std::int32_t> sequence = sequence_;
    positions.resize(static_cast<std::size_t>(rows_), 0x7FFFFFFF);
    sequence.resize(static_cast<std::size_t>(rows_), 0x3FFFFFFF);
    const Cuda& device = cuda_device();
    device_positions_ = Tensor<std::int32_t, Cuda>::from_host({rows_}, positions, device);
    device_sequence_ = Tensor<std::int32_t, Cuda>::from_host({rows_}, sequence, device);
    device_offsets_ = Tensor<std::int32_t, Cuda>::from_host({static_cast<index_t>(offsets_.size())}, offsets_, device);
    device_ordinals_ =
        Tensor<std::uint32_t, Cuda>::from_host({static_cast<index_t>(ordinals_.size())}, ordinals_, device);
  }

  /// For CPU kernels: without the tail.
  [[nodiscard]] PackedView host() const {
    return {.tokens = tokens_,
            .sequences = static_cast<index_t>(ordinals_.size()),
            .longest = 40,
            .offsets = offsets_.data(),
            .positions = positions_.data(),
            .sequence = sequence_.data(),
            .ordinals = ordinals_.data()};
  }
  /// For CUDA kernels.
  [[nodiscard]] PackedView device() const {
    return {.tokens = rows_,
            .sequences = static_cast<index_t>(ordinals_.size()),
            .longest = 40,
            .offsets = device_offsets_.data(),
            .positions = device_positions_.data(),
            .sequence = device_sequence_.data(),
            .ordinals = device_ordinals_.data()};
  }
  [[nodiscard]] index_t tokens() const { return tokens_; }
  [[nodiscard]] index_t rows() const { return rows_; }

 private:
  index_t tokens_;
  index_t rows_;
  std::vector<std::int32_t> offsets_;
  std::vector<std::int32_t> positions_;
  std::vector<std::int32_t> sequence_;
  std::vector<std::uint32_t> ordinals_;
  Tensor<std::int32_t, Cuda> device_positions_;
  Tensor<std::int32_t, Cuda> device_sequence_;
  Tensor<std::int32_t, Cuda> device_offsets_;
  Tensor<std::uint32_t, Cuda> device_ordinals_;
};

/// The same dropout on both devices: of this probability, 0 for none at all.
struct TwinDropout {
  TwinState state{StepState{.step = 77}};
  DropoutSpec host;
  DropoutSpec device;

  explicit TwinDropout(double probability) {
    if (probability == 0.0) return;
    host = {.probability = probability, .seed = 9, .site = 4, .state = state.host()};
    device = host;
    device.state = state.device();
  }
};

/// Calls f(rows of the sequences, dropout, batch) and then f(rows of the tail) without dropout: what a CPU kernel gets
/// in place of one call on a GPU. f(first, count, dropout, batch).
template <class F>
void on_host(const RowsBatch& batch, const DropoutSpec& dropout, const F& f) {
  f(index_t{0}, batch.tokens(), dropout, batch.host());
  f(batch.tokens(), batch.rows() - batch.tokens(), DropoutSpec{}, PackedView{});
}

/// Are all results of `run` the same bits, whatever order threads run in? run() gives bits.
template <class Run>
void check_same_bits_always(const Run& run) {
  std::vector<std::vector<std::uint8_t>> results;
  for_each_schedule([&](unsigned) { results.push_back(run()); });
  if (results.size() == 1) results.push_back(run());
  for (const auto& result : results) CHECK(result == results.front());
}
/// One after the other.
inline void append(std::vector<std::uint8_t>& to, const std::vector<std::uint8_t>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

}  // namespace storylm::test
