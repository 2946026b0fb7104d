// SPDX-License-Identifier: MIT
/// @file
/// @brief Steps whose loss or gradient norm stands out from those before it, and how many were skipped in a row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/core/state.hpp>
#include <storylm/train/step.hpp>

namespace storylm::train {

/// What a SpikeGuard takes for a spike.
struct SpikeGuardOptions {
  double threshold = 0.0;     ///< standard deviations above the mean of the window; 0: the guard is off
  std::int64_t window = 100;  ///< steps it compares with; until there were as many, nothing is a spike
};

/// How many standard deviations a step lies above the mean of the window; 0 while that is not full.
struct SpikeScores {
  double loss = 0.0;       ///< of its loss
  double grad_norm = 0.0;  ///< of its gradient norm
};

/// Compares the loss and the gradient norm of each step with those of the steps before it. A step that lies more than
/// `threshold` standard deviations above the mean of either is a spike: one bad batch, whose update may cost more than
/// it teaches. Its numbers stay out of the windows, so that one spike does not excuse the next. What follows from it is
/// the loop's to say:
///
///     optim::clip_grad_norm(model.parameters(), 1.0, step);
///     if (guard.on() && !guard.admit(step.result())) step.skip();    // waits for the step's result
///     optimizer.step(step);
///
/// A level that has changed for good is skipped for good: bound the skipped steps in a row (SkippedSteps). The windows
/// are the state, so that a run that stops and goes on judges as one that never stopped.
class SpikeGuard {
 public:
  /// @throws ArgumentError on a negative threshold or a window of fewer than two steps
  explicit SpikeGuard(const SpikeGuardOptions& options = {}) : options_(options) {
    expects<ArgumentError>(options.threshold >= 0.0, "SpikeGuard",
                           "threshold must not be negative: ", options.threshold);
    expects<ArgumentError>(options.window >= 2 && options.window <= 1'000'000, "SpikeGuard",
                           "window must be in [2, 1000000]: ", options.window);
    losses_.reserve(capacity());
    norms_.reserve(capacity());
  }

  /// False when the threshold is 0.
  [[nodiscard]] bool on() const noexcept { return options_.threshold > 0.0; }
  /// How far the step lies above those in the windows.
  [[nodiscard]] SpikeScores scores(const StepResult& result) const {
    return {.loss = score(losses_, result.loss), .grad_norm = score(norms_, result.grad_norm)};
  }
  /// True when the step is no spike; then it is one of those that the next are compared with. A step that is skipped
  /// already is not admitted, and nothing is compared with it.
  [[nodiscard]] bool admit(const StepResult& result) {
    if (!on()) return true;
    const SpikeScores above = scores(result);
    const bool ordinary = above.loss <= options_.threshold && above.grad_norm <= options_.threshold;  // not for NaN
    if (result.skipped || !ordinary) return false;
    push(losses_, result.loss);
    push(norms_, result.grad_norm);
    return true;
  }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("losses", self.losses_);
    f("grad_norms", self.norms_);
  }

 private:
  [[nodiscard]] std::size_t capacity() const noexcept { return static_cast<std::size_t>(options_.window); }

  /// The oldest goes.
  void push(std::vector<double>& window, double value) const {
    while (window.size() >= capacity()) window.erase(window.begin());
    window.push_back(value);
  }
  [[nodiscard]] double score(const std::vector<double>& window, double value) const {
    if (window.size() < capacity()) return 0.0;
    const auto count = static_cast<double>(window.size());
    double sum = 0.0;
    for (const double x : window) sum += x;
    const double mean = sum / count;
    double squares = 0.0;
    for (const double x : window) squares += (x - mean) * (x - mean);
    // A window of equal numbers has no scale of its own; the last digits of its mean must not be one.
    const double deviation = std::max(std::sqrt(squares / (count - 1.0)), 1e-6 * std::abs(mean));
    return value == mean ? 0.0 : (value - mean) / deviation;
  }

  SpikeGuardOptions options_;
  std::vector<double> losses_;  // (up to window)  oldest first
  std::vector<double> norms_;   // (up to window)
};
static_assert(Stateful<SpikeGuard>);

/// Counts steps that were skipped: altogether, and since the last one that was not.
class SkippedSteps {
 public:
  /// A step is done.
  void add(bool skipped) noexcept {
    total_ += skipped ? 1 : 0;
    in_a_row_ = skipped ? in_a_row_ + 1 : 0;
  }
  /// Of the whole run.
  [[nodiscard]] std::int64_t total() const noexcept { return total_; }
  /// The last so many steps; 0 after a good one.
  [[nodiscard]] std::int64_t in_a_row() const noexcept { return in_a_row_; }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("total", self.total_);
    f("in_a_row", self.in_a_row_);
  }

 private:
  std::int64_t total_ = 0;
  std::int64_t in_a_row_ = 0;
};
static_assert(Stateful<SkippedSteps>);

}  // namespace storylm::train
