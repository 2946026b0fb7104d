// SPDX-License-Identifier: MIT
/// @file
/// @brief Learning-rate schedules: small values that a training loop asks for the rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/core/state.hpp>

namespace storylm::optim {

/// PyTorch's names; factor's default is the reference system's.
struct ReduceOnPlateauOptions {
  double lr = 0.0;          ///< to begin with
  double factor = 0.3;      ///< of each reduction, in [0, 1)
  index_t patience = 10;    ///< bad metrics in a row that are put up with; one more reduces
  double threshold = 1e-4;  ///< a metric is better when it is below best * (1 - threshold)
  index_t cooldown = 0;     ///< metrics after a reduction that do not count as bad
  double min_lr = 0.0;      ///< never below
  double eps = 1e-8;        ///< smaller reductions are not made
};

/// Lowers the learning rate when a metric (less is better) stops improving. Equal, in every bit, to PyTorch's
/// torch.optim.lr_scheduler.ReduceLROnPlateau with mode "min" and threshold_mode "rel".
class ReduceOnPlateau {
 public:
  /// @throws ArgumentError when an option is outside its range
  explicit ReduceOnPlateau(const ReduceOnPlateauOptions& options) : options_(options), lr_(options.lr) {
    const auto check = [](bool ok, const char* what, auto value) {
      expects<ArgumentError>(ok, "ReduceOnPlateau", what, ": ", value);
    };
    check(options.lr > 0.0 && std::isfinite(options.lr), "lr must be positive and finite", options.lr);
    check(options.factor >= 0.0 && options.factor < 1.0, "factor must be at least 0 and less than 1", options.factor);
    check(options.patience >= 0, "patience must not be negative", options.patience);
    check(options.threshold >= 0.0 && options.threshold < 1.0, "threshold must be at least 0 and less than 1",
          options.threshold);
    check(options.cooldown >= 0, "cooldown must not be negative", options.cooldown);
    check(options.min_lr >= 0.0 && std::isfinite(options.min_lr), "min_lr must be finite and not negative",
          options.min_lr);
    check(options.eps >= 0.0, "eps must not be negative", options.eps);
  }

  /// Takes note of one validation's metric. A NaN is a bad one.
  void step(double metric) {
    if (metric < best_ * (1.0 - options_.threshold)) {
      best_ = metric;
      bad_ = 0;
    } else {
      ++bad_;
    }
    if (cooldown_ > 0) {
      --cooldown_;
      bad_ = 0;
    }
    if (bad_ > options_.patience) {
      const double reduced = std::max(lr_ * options_.factor, options_.min_lr);
      if (lr_ - reduced > options_.eps) lr_ = reduced;
      cooldown_ = options_.cooldown;
      bad_ = 0;
    }
  }

  /// The rate of the next step.
  [[nodiscard]] double lr() const noexcept { return lr_; }
  /// The best metric so far; infinity before the first.
  [[nodiscard]] double best() const noexcept { return best_; }
  /// Bad metrics since the best one, the last reduction or the last one in cooldown.
  [[nodiscard]] index_t bad_metrics() const noexcept { return bad_; }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("lr", self.lr_);
    f("best", self.best_);
    f("bad", self.bad_);
    f("cooldown", self.cooldown_);
  }

 private:
  ReduceOnPlateauOptions options_;
  double lr_;
  double best_ = std::numeric_limits<double>::infinity();
  index_t bad_ = 0;
  index_t cooldown_ = 0;
};
static_assert(Stateful<ReduceOnPlateau>);

namespace detail {

/// The rate of a step of a linear rise; its last step has lr itself.
constexpr double warmup(double lr, index_t step, index_t warmup_steps) {
  return lr * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
}

inline void check_steps(const char* schedule, double lr, double min_lr, index_t warmup_steps, index_t decay_steps,
                        index_t total_steps) {
  expects<ArgumentError>(lr > 0.0 && std::isfinite(lr), schedule, "lr must be positive and finite: ", lr);
  expects<ArgumentError>(min_lr >= 0.0 && min_lr <= lr, schedule, "min_lr must lie between 0 and lr = ", lr, ": ",
                         min_lr);
  expects<ArgumentError>(warmup_steps >= 0, schedule, "warmup_steps must not be negative: ", warmup_steps);
  expects<ArgumentError>(decay_steps >= 0, schedule, "decay_steps must not be negative: ", decay_steps);
  expects<ArgumentError>(total_steps > 0 && warmup_steps <= total_steps - decay_steps, schedule,
                         "total_steps must be positive and have room for ", warmup_steps, " steps of warm-up and ",
                         decay_steps, " of decay: ", total_steps);
}

}  // namespace detail

/// What a Cosine is made with.
struct CosineOptions {
  double lr = 0.0;           ///< at the end of the warm-up
  index_t warmup_steps = 0;  ///< linear rise: the first step has lr / warmup_steps
  index_t total_steps = 0;   ///< from here on min_lr
  double min_lr = 0.0;       ///< where it ends
};

/// A linear rise, then half a cosine down to min_lr. Loshchilov and Hutter, arXiv:1608.03983, without restarts.
class Cosine {
 public:
  /// @throws ArgumentError when an option is outside its range
  explicit Cosine(const CosineOptions& options) : options_(options) {
    detail::check_steps("Cosine", options.lr, options.min_lr, options.warmup_steps, 0, options.total_steps);
  }

  /// The rate of a step; steps count from 0.
  [[nodiscard]] double lr(index_t step) const {
    if (step < options_.warmup_steps) return detail::warmup(options_.lr, step, options_.warmup_steps);
    if (step >= options_.total_steps) return options_.min_lr;
    const double progress = static_cast<double>(step - options_.warmup_steps) /
                            static_cast<double>(options_.total_steps - options_.warmup_steps);
    return options_.min_lr + (options_.lr - options_.min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }

 private:
  CosineOptions options_;
};

/// What a WarmupStableDecay is made with.
struct WarmupStableDecayOptions {
  double lr = 0.0;           ///< between warm-up and decay
  index_t warmup_steps = 0;  ///< linear rise: the first step has lr / warmup_steps
  index_t decay_steps = 0;   ///< linear fall over the last steps
  index_t total_steps = 0;   ///< from here on min_lr
  double min_lr = 0.0;       ///< where it ends
};

/// A linear rise, a long constant stretch, a short linear fall to min_lr. Hu et al. (MiniCPM), arXiv:2404.06395; the
/// linear form as in Haegele et al., arXiv:2405.18392.
class WarmupStableDecay {
 public:
  /// @throws ArgumentError when an option is outside its range
  explicit WarmupStableDecay(const WarmupStableDecayOptions& options) : options_(options) {
    detail::check_steps("WarmupStableDecay", options.lr, options.min_lr, options.warmup_steps, options.decay_steps,
                        options.total_steps);
  }

  /// The rate of a step; steps count from 0.
  [[nodiscard]] double lr(index_t step) const {
    if (step < options_.warmup_steps) return detail::warmup(options_.lr, step, options_.warmup_steps);
    if (step >= options_.total_steps) return options_.min_lr;
    const index_t decayed = step - (options_.total_steps - options_.decay_steps);
    if (decayed <= 0) return options_.lr;
    return options_.lr -
           (options_.lr - options_.min_lr) * static_cast<double>(decayed) / static_cast<double>(options_.decay_steps);
  }

 private:
  WarmupStableDecayOptions options_;
};

}  // namespace storylm::optim
