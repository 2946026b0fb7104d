// SPDX-License-Identifier: MIT
/// @file
/// @brief Speed and remaining time of a run, and the line that says so. No clock and no stream of its own.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

#include <storylm/core/dtype.hpp>
#include <storylm/train/formatted.hpp>

namespace storylm::train {

/// A duration in the two largest units that matter: "2 h 05 min", "3 min 20 s", "12 s".
[[nodiscard]] inline std::string duration_text(double seconds) {
  std::array<char, 64> text{};
  const auto whole = static_cast<long long>(seconds > 0.0 ? std::min(std::round(seconds), 1e12) : 0.0);  // NaN: 0
  if (whole >= 86400) {
    std::snprintf(text.data(), text.size(), "%lld d %02lld h", whole / 86400, whole % 86400 / 3600);
  } else if (whole >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
  } else if (whole >= 60) {
    std::snprintf(text.data(), text.size(), "%lld min %02lld s", whole / 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld s", whole);
  }
  return text.data();
}

/// Follows a run: tokens per second as a moving average, and how long the rest will take at that rate.
class Progress {
 public:
  /// @param total_steps of the whole run
  /// @param flops_per_token and peak_flops: of a training step and of the machine; 0 leaves the share out
  Progress(std::int64_t total_steps, double flops_per_token, double peak_flops)
      : total_steps_(total_steps), flops_per_token_(flops_per_token), peak_flops_(peak_flops) {}

  /// A step took `seconds` for `tokens` target tokens.
  void add_step(index_t tokens, double seconds) {
    constexpr double memory = 0.95;  // the average is over about the last 20 steps
    seconds_ = seconds_ == 0.0 ? seconds : memory * seconds_ + (1.0 - memory) * seconds;
    tokens_ =
        tokens_ == 0.0 ? static_cast<double>(tokens) : memory * tokens_ + (1.0 - memory) * static_cast<double>(tokens);
  }
  /// Target tokens, as a moving average; 0 before the first step.
  [[nodiscard]] double tokens_per_second() const { return seconds_ > 0.0 ? tokens_ / seconds_ : 0.0; }
  /// Share of the machine's peak arithmetic, in [0, 1].
  [[nodiscard]] double peak_share() const {
    return peak_flops_ > 0.0 ? tokens_per_second() * flops_per_token_ / peak_flops_ : 0.0;
  }
  /// Seconds until `total_steps`, validations not counted.
  [[nodiscard]] double remaining(std::int64_t steps_done) const {
    return static_cast<double>(std::max<std::int64_t>(0, total_steps_ - steps_done)) * seconds_;
  }

  /// "epoch 1  step 120/2000  loss 2.345  lr 3.0e-04  4500 tokens/s  41 % of peak  3 min 20 s left"
  [[nodiscard]] std::string line(index_t epoch, std::int64_t steps_done, double loss, double lr) const {
    std::string result = detail::formatted("epoch %lld  step %lld/%lld  loss %.3f  lr %.1e  %.0f tokens/s",
                                           static_cast<long long>(epoch + 1), static_cast<long long>(steps_done),
                                           static_cast<long long>(total_steps_), loss, lr, tokens_per_second());
    if (peak_flops_ > 0.0) result += detail::formatted("  %.0f %% of peak", 100.0 * peak_share());
    return result + "  " + duration_text(remaining(steps_done)) + " left";
  }

 private:
  std::int64_t total_steps_;
  double flops_per_token_;
  double peak_flops_;
  double seconds_ = 0.0;  // of a step, averaged
  double tokens_ = 0.0;   // of a step, averaged
};

}  // namespace storylm::train
