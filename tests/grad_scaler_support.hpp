// SPDX-License-Identifier: MIT
/// @file
/// @brief GradScaler beside reference/grad_scaler.safetensors, on any device.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/optim/clip.hpp>
#include <storylm/optim/grad_scaler.hpp>

#include "reference_support.hpp"

namespace storylm::test {

inline const ReferenceFile& grad_scaler_file() {
  static const ReferenceFile reference("grad_scaler.safetensors");
  return reference;
}

inline optim::GradScalerOptions grad_scaler_options(const boost::json::object& options) {
  return {.init_scale = option(options, "init_scale", NAN),
          .growth_factor = option(options, "growth_factor", NAN),
          .backoff_factor = option(options, "backoff_factor", NAN),
          .growth_interval = static_cast<std::int32_t>(option(options, "growth_interval", -1))};
}

/// A vector of five, with a StepState beside it.
template <Device D>
struct ScaledModel {
  nn::Parameter<half, D> weight{Shape{5}};
  nn::ParameterStore<half, D> store;
  Tensor<std::uint8_t, D> memory;

  explicit ScaledModel(const D& device)
      : store(nn::allocate<half>(*this, device, nn::Gradients::yes)),
        memory({static_cast<index_t>(sizeof(StepState))}, device) {
    weight.assign(std::vector<float>{-1.0F, -0.5F, 0.0F, 0.5F, 1.0F});
  }
  static void visit(auto& self, auto&& f) { f("weight", self.weight); }

  /// What train::Step::begin does.
  void begin(double lr) {
    const StepState fresh{.lr = lr};
    device().copy_from_host(memory.data(), &fresh, sizeof(StepState));
  }
  void set_gradient(const std::vector<float>& values) {
    device().copy_from_host(weight.gradient().data, values.data(), values.size() * sizeof(float));
  }
  [[nodiscard]] StepState now() const {
    StepState values;
    device().copy_to_host(&values, memory.data(), sizeof(StepState));
    device().synchronize();
    return values;
  }
  // A StepHandle.
  [[nodiscard]] const D& device() const { return store.device(); }
  [[nodiscard]] StepState* state() const {
    return reinterpret_cast<StepState*>(const_cast<std::uint8_t*>(memory.data()));
  }
};

/// Goes through one case of the file from step `begin` to `end`; `update(model)` takes the optimizer's step with rate
/// lr.
template <Device D, class Update>
void compare_grad_scaler(const std::string& name, ScaledModel<D>& model, optim::GradScaler<half, D>& scaler,
                         const Update& update, std::size_t begin = 0, std::size_t end = 240) {
  CAPTURE(name);
  const auto& file = grad_scaler_file();
  const double max_norm = option(file.options(name), "max_norm", NAN);
  const auto coefficients = file.read<float>("coefficients");
  const auto scales = file.read<double>(name + ".scales");
  const auto trackers = file.read<std::int32_t>(name + ".trackers");
  const auto skipped = file.read<std::int32_t>(name + ".skipped");
  const auto weights = file.read<float>(name + ".weights");
  REQUIRE(scales.size() == 240);
  const std::size_t width = coefficients.size() / scales.size();
  for (std::size_t s = begin; s < end; ++s) {
    CAPTURE(s);
    model.begin(0.0625);
    scaler.begin(model);
    std::vector<float> gradient(width);  // of sum(weight * coefficients) * scale, as backward computes it
    for (std::size_t i = 0; i < width; ++i) {
      gradient[i] = coefficients[s * width + i] * static_cast<float>(model.now().loss_scale);
    }
    model.set_gradient(gradient);
    if (max_norm > 0.0) {
      optim::clip_grad_norm(model.store, max_norm, model);
    } else {
      scaler.unscale(model);
    }
    CHECK(model.now().skip == static_cast<std::uint32_t>(skipped[s]));
    update(model);
    scaler.update(model);
    CHECK(scaler.scale() == scales[s]);
    CHECK(scaler.good_steps() == trackers[s]);
    const auto values = model.weight.to_host();
    for (std::size_t i = 0; i < width; ++i) {
      const float expected = weights[s * width + i];
      if (!std::isfinite(expected)) break;  // 1 / scale has overflowed
      CHECK(std::abs(values[i] - expected) <= 1e-5F);
    }
  }
}

}  // namespace storylm::test
