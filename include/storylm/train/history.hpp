// SPDX-License-Identifier: MIT
/// @file
/// @brief The loss lists of a run, and the best validation so far.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/state.hpp>

namespace storylm::train {

/// Losses by step and by validation. Part of a run's state.
class History {
 public:
  /// The training loss of the next step, in nats per token.
  void add_loss(double loss) { losses_.push_back(loss); }
  /// A validation after `step` steps. Returns true when it is the best so far; NaN never is.
  bool add_validation(std::int64_t step, double loss) {
    validation_steps_.push_back(step);
    validation_losses_.push_back(loss);
    if (!(loss < best_)) return false;
    best_ = loss;
    best_step_ = step;
    return true;
  }

  /// Training losses, one a step.
  [[nodiscard]] const std::vector<double>& losses() const noexcept { return losses_; }
  /// After how many steps each validation was.
  [[nodiscard]] const std::vector<std::int64_t>& validation_steps() const noexcept { return validation_steps_; }
  /// One a validation.
  [[nodiscard]] const std::vector<double>& validation_losses() const noexcept { return validation_losses_; }
  /// The lowest validation loss; infinity before the first.
  [[nodiscard]] double best() const noexcept { return best_; }
  /// After how many steps it was measured; -1 before the first.
  [[nodiscard]] std::int64_t best_step() const noexcept { return best_step_; }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("losses", self.losses_);
    f("validation_steps", self.validation_steps_);
    f("validation_losses", self.validation_losses_);
    f("best", self.best_);
    f("best_step", self.best_step_);
  }

 private:
  std::vector<double> losses_;                  // (steps)
  std::vector<std::int64_t> validation_steps_;  // (validations)
  std::vector<double> validation_losses_;       // (validations)
  double best_ = std::numeric_limits<double>::infinity();
  std::int64_t best_step_ = -1;
};
static_assert(Stateful<History>);

}  // namespace storylm::train
