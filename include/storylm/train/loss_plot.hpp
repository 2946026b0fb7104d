// SPDX-License-Identifier: MIT
/// @file
/// @brief Training and validation loss as an SVG picture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/train/formatted.hpp>
#include <storylm/train/history.hpp>

namespace storylm::train {

namespace detail {

/// What is left out: NaN, infinity, and what no run comes back from, whose sums would overflow.
inline bool drawable(double loss) { return std::abs(loss) < 1e30; }

/// The picture's coordinates: steps to the right, losses up.
class LossAxes {
 public:
  static constexpr double width = 800, height = 480, left = 64, right = 24, top = 40, bottom = 56;

  explicit LossAxes(const History& history)
      : last_step_(std::max<double>(1.0, static_cast<double>(history.losses().size()))) {
    for (const auto step : history.validation_steps()) last_step_ = std::max(last_step_, static_cast<double>(step));
    for (const double loss : history.losses()) include(loss);
    for (const double loss : history.validation_losses()) include(loss);
    if (!(low_ <= high_)) low_ = 0.0, high_ = 1.0;
    const double margin = std::max({0.05 * (high_ - low_), 1e-3, 1e-3 * high_});  // ticks must differ as doubles do
    low_ = std::max(0.0, low_ - margin);
    high_ += margin;
    tick_ = nice((high_ - low_) / 6.0);
    step_tick_ = std::max(1.0, nice(last_step_ / 8.0));
  }

  [[nodiscard]] double x(double step) const { return left + step / last_step_ * (width - left - right); }
  [[nodiscard]] double y(double loss) const {
    return height - bottom - (loss - low_) / (high_ - low_) * (height - top - bottom);
  }
  /// Grid, labels and titles.
  [[nodiscard]] std::string frame() const {
    std::string svg;
    for (double loss = std::ceil(low_ / tick_) * tick_; loss <= high_; loss += tick_) {
      svg += formatted("<line class='grid' x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f'/>\n", left, y(loss), width - right,
                       y(loss));
      svg += formatted("<text x='%.1f' y='%.1f' text-anchor='end'>%.4g</text>\n", left - 8, y(loss) + 4, loss);
    }
    for (double step = 0; step <= last_step_; step += step_tick_) {
      svg +=
          formatted("<text x='%.1f' y='%.1f' text-anchor='middle'>%.0f</text>\n", x(step), height - bottom + 20, step);
    }
    svg += formatted("<rect class='frame' x='%.1f' y='%.1f' width='%.1f' height='%.1f'/>\n", left, top,
                     width - left - right, height - top - bottom);
    svg += formatted("<text x='%.1f' y='%.1f' text-anchor='middle'>step</text>\n", (left + width - right) / 2,
                     height - 16);
    svg += formatted("<text x='%.1f' y='%.1f'>loss (nats per token)</text>\n", left, top - 14);
    return svg;
  }

 private:
  void include(double loss) {
    if (!drawable(loss)) return;
    low_ = std::min(low_, loss);
    high_ = std::max(high_, loss);
  }
  /// The next of 1, 2 and 5 times a power of ten.
  static double nice(double value) {
    const double power = std::pow(10.0, std::floor(std::log10(value)));
    for (const double factor : {1.0, 2.0, 5.0})
      if (value <= factor * power) return factor * power;
    return 10.0 * power;
  }

  double last_step_;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
  double tick_ = 1.0;
  double step_tick_ = 1.0;
};

}  // namespace detail

/// The loss curves as the text of an SVG file, 800 x 480. Training losses are drawn as means over up to 400 stretches
/// of steps, so that the picture stays small; validation losses as points joined by a line.
/// @throws FormatError when what was loaded is not a history: a validation lost its step or its loss
[[nodiscard]] inline std::string loss_plot(const History& history) {
  expects<FormatError>(history.validation_steps().size() == history.validation_losses().size(), "loss_plot",
                       "the history has ", history.validation_losses().size(), " losses of validations after ",
                       history.validation_steps().size(), " steps");
  const detail::LossAxes axes(history);
  std::string svg =
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 800 480' width='800' height='480'>\n"
      "<style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.frame{fill:none;stroke:#888}"
      "polyline{fill:none;stroke-width:1.5}.train{stroke:#4477aa}.validation{stroke:#cc5533}"
      "circle{fill:#cc5533}</style>\n"
      "<rect width='800' height='480' fill='white'/>\n" +
      axes.frame();

  const std::vector<double>& losses = history.losses();
  const std::size_t stretch = std::max<std::size_t>(1, (losses.size() + 399) / 400);
  svg += "<polyline class='train' points='";
  for (std::size_t first = 0; first < losses.size(); first += stretch) {
    const std::size_t last = std::min(losses.size(), first + stretch);
    double sum = 0.0;
    int finite = 0;
    for (std::size_t i = first; i < last; ++i) {
      if (!detail::drawable(losses[i])) continue;
      sum += losses[i];
      ++finite;
    }
    const double middle = static_cast<double>(first + last + 1) / 2.0;
    if (finite > 0) svg += detail::formatted("%.1f,%.1f ", axes.x(middle), axes.y(sum / finite));
  }
  svg += "'/>\n<polyline class='validation' points='";
  std::string points;
  for (std::size_t i = 0; i < history.validation_losses().size(); ++i) {
    const double loss = history.validation_losses()[i];
    if (!detail::drawable(loss)) continue;
    const double x = axes.x(static_cast<double>(history.validation_steps()[i]));
    svg += detail::formatted("%.1f,%.1f ", x, axes.y(loss));
    points += detail::formatted("<circle cx='%.1f' cy='%.1f' r='3'/>\n", x, axes.y(loss));
  }
  svg += "'/>\n" + points;
  svg +=
      "<polyline class='train' points='560,24 590,24'/><text x='596' y='28'>training</text>\n"
      "<polyline class='validation' points='670,24 700,24'/><circle cx='685' cy='24' r='3'/>"
      "<text x='706' y='28'>validation</text>\n</svg>\n";
  return svg;
}

}  // namespace storylm::train
