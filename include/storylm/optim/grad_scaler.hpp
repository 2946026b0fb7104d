// SPDX-License-Identifier: MIT
/// @file
/// @brief The scale of the loss for training in half. PyTorch equivalent: torch.amp.GradScaler.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>

#include <storylm/core/state.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/optimizer.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm::optim {

/// PyTorch's names and defaults.
struct GradScalerOptions {
  double init_scale = 65536.0;          ///< to begin with
  double growth_factor = 2.0;           ///< of the scale after growth_interval good steps in a row
  double backoff_factor = 0.5;          ///< of the scale after a step whose gradients were not finite
  std::int32_t growth_interval = 2000;  ///< good steps until the scale grows
};

/// Multiplies the gradient of the loss by a factor, so that small gradients do not vanish in half, and finds the
/// largest factor that overflows rarely. Equal to torch.amp.GradScaler step by step; the scale lies on the device, and
/// a step does not wait for it. Micikevicius et al., arXiv:1710.03740. A loop reads
///
///     step.begin(batch, lr);
///     scaler.begin(step);
///     for (const auto& micro : batch) { model.forward(micro, step); model.backward(micro, step); }
///     scaler.unscale(step);  // or optim::clip_grad_norm(model.parameters(), 1.0, step)
///     optimizer.step(step);
///     scaler.update(step);
///
/// A step in which neither unscale() nor clip_grad_norm() looked at the gradients is a skipped one, and so is every
/// step once the scale has fallen to zero (PyTorch's weights become NaN there). The store must outlive it.
/// @tparam T dtype of the model
template <FloatDtype T, Device D>
class GradScaler {
  static_assert(std::same_as<T, half>,
                "storylm: GradScaler is for half only, the other dtypes have the range of float");

 public:
  /// @throws ArgumentError when an option is out of its range or the store has no gradients
  explicit GradScaler(nn::ParameterStore<T, D>& store, const GradScalerOptions& options = {})
      : store_(&store),
        constants_{options.growth_factor, options.backoff_factor, options.growth_interval},
        scale_(Tensor<float, D>::from_host({1}, std::array{static_cast<float>(options.init_scale)}, store.device())),
        good_steps_({1}, store.device()) {
    const auto check = [](bool ok, const char* what, auto value) {
      expects<ArgumentError>(ok, "GradScaler", what, ": ", value);
    };
    check(options.init_scale > 0.0 && std::isfinite(static_cast<float>(options.init_scale)),
          "init_scale must be positive and finite", options.init_scale);
    check(options.growth_factor > 1.0 && std::isfinite(options.growth_factor),
          "growth_factor must be greater than 1 and finite", options.growth_factor);
    check(options.backoff_factor > 0.0 && options.backoff_factor < 1.0,
          "backoff_factor must be greater than 0 and less than 1", options.backoff_factor);
    check(options.growth_interval > 0, "growth_interval must be positive", options.growth_interval);
    expects<ArgumentError>(store.has_gradients(), "GradScaler", "the model was made without gradients");
  }

  /// After Step::begin, before the first backward: writes StepState::loss_scale.
  template <StepHandle Step>
  void begin(const Step& step) {
    ops::begin_grad_scale<T>(store_->device(), scale_.data(), step.state());
  }
  /// After the last backward: has the optimizer divide by the scale, and skip the step when a gradient is not finite.
  /// clip_grad_norm() does the same, and bounds the norm of the unscaled gradients besides.
  template <StepHandle Step>
  void unscale(const Step& step) {
    clip_grad_norm(*store_, 0.0, step);
  }
  /// After the optimizer: the scale of the next step.
  template <StepHandle Step>
  void update(const Step& step) {
    ops::update_grad_scale<T>(store_->device(), scale_.data(), good_steps_.data(), constants_, step.state());
  }

  /// The factor of the next step. Waits for the device.
  [[nodiscard]] double scale() const { return static_cast<double>(scale_.to_host().front()); }
  /// Good steps in a row since the scale changed; PyTorch's growth tracker. Waits for the device.
  [[nodiscard]] std::int32_t good_steps() const { return good_steps_.to_host().front(); }

  /// See Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("scale", self.scale_);
    f("good_steps", self.good_steps_);
  }

 private:
  nn::ParameterStore<T, D>* store_;
  GradScaleConstants constants_;
  Tensor<float, D> scale_;              // (1)
  Tensor<std::int32_t, D> good_steps_;  // (1)
};
static_assert(Stateful<GradScaler<half, Cpu>>);

}  // namespace storylm::optim
