// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief GradScaler is torch.amp.GradScaler, step by step; it resumes exactly, and says what it cannot do.
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/checkpoint.hpp>
#include <storylm/optim/grad_scaler.hpp>

#include "grad_scaler_support.hpp"
#include "io_support.hpp"
#include "optim_support.hpp"

using namespace storylm;
using test::error_of;
using test::ScaledModel;

namespace {

/// w -= lr * clip * gradient: there is no optimizer for half on the CPU.
void update(ScaledModel<Cpu>& model) {
  const StepState now = model.now();
  if (now.skip != 0) return;
  auto weight = model.weight.to_host();
  const auto gradient = model.weight.gradient_to_host();
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] -= static_cast<float>(now.lr) * (gradient[i] * static_cast<float>(now.clip));
  }
  model.weight.assign(weight);
}

}  // namespace

TEST_CASE("scale, growth tracker, skipped steps and weights are PyTorch's") {
  std::size_t cases = 0;
  for (const auto& entry : test::grad_scaler_file().cases()) {
    ScaledModel<Cpu> model{Cpu{}};
    optim::GradScaler scaler(model.store, test::grad_scaler_options(entry.value().get_object()));
    test::compare_grad_scaler(std::string(entry.key()), model, scaler, update);
    ++cases;
  }
  CHECK(cases == 5);
}

TEST_CASE("a scaler that resumes from a checkpoint goes on as if it had not stopped") {
  const auto options = test::grad_scaler_options(test::grad_scaler_file().options("odd_factors"));
  ScaledModel<Cpu> model{Cpu{}};
  optim::GradScaler first(model.store, options);
  test::compare_grad_scaler("odd_factors", model, first, update, 0, 151);  // two good steps into an interval
  const test::TemporaryFolder folder;
  io::CheckpointWriter writer({.library_version = "1"});
  writer.add("scaler", first);
  writer.save(folder / "checkpoint");
  optim::GradScaler second(model.store, options);
  CHECK(test::state_bytes(second) != test::state_bytes(first));
  io::CheckpointReader(folder / "checkpoint").load("scaler", second);
  CHECK(test::state_bytes(second) == test::state_bytes(first));
  test::compare_grad_scaler("odd_factors", model, second, update, 151);
}

TEST_CASE("it begins with PyTorch's defaults") {
  ScaledModel<Cpu> model{Cpu{}};
  optim::GradScaler scaler(model.store);
  CHECK(scaler.scale() == 65536.0);
  CHECK(scaler.good_steps() == 0);
  for (int s = 0; s < 2000; ++s) {
    model.begin(0.0);
    scaler.begin(model);
    CHECK(model.now().loss_scale == 65536.0);
    scaler.unscale(model);
    scaler.update(model);
  }
  CHECK(scaler.scale() == 131072.0);
  CHECK(scaler.good_steps() == 0);
}

TEST_CASE("a step whose gradients nobody looked at is a skipped one") {
  ScaledModel<Cpu> model{Cpu{}};
  optim::GradScaler scaler(model.store);
  model.begin(0.1);
  scaler.begin(model);
  CHECK(model.now().skip == 1);
  scaler.update(model);
  CHECK(scaler.scale() == 32768.0);
}

TEST_CASE("unscale divides by the scale and bounds nothing") {
  ScaledModel<Cpu> model{Cpu{}};
  optim::GradScaler scaler(model.store, {.init_scale = 4.0});
  model.begin(0.1);
  scaler.begin(model);
  model.set_gradient({0.0F, 1200.0F, 0.0F, -1600.0F, 0.0F});
  scaler.unscale(model);
  const StepState now = model.now();
  CHECK(now.clip == 0.25);
  CHECK(now.grad_norm == 500.0);
  CHECK(now.skip == 0);
}

TEST_CASE("options that make no sense are refused, and so is a model without gradients") {
  ScaledModel<Cpu> model{Cpu{}};
  const auto message = [&](const optim::GradScalerOptions& options) {
    return error_of<ArgumentError>([&] { const optim::GradScaler scaler(model.store, options); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(message({.init_scale = 0.0}) == "[GradScaler] init_scale must be positive and finite: 0");
  CHECK(message({.init_scale = 1e39}) == "[GradScaler] init_scale must be positive and finite: 1e+39");
  CHECK(!message({.init_scale = nan}).empty());
  CHECK(message({.growth_factor = 1.0}) == "[GradScaler] growth_factor must be greater than 1 and finite: 1");
  CHECK(!message({.growth_factor = nan}).empty());
  CHECK(message({.backoff_factor = 1.0}) == "[GradScaler] backoff_factor must be greater than 0 and less than 1: 1");
  CHECK(!message({.backoff_factor = 0.0}).empty());
  CHECK(message({.growth_interval = 0}) == "[GradScaler] growth_interval must be positive: 0");
  nn::ParameterStore<half, Cpu> frozen = nn::allocate<half>(model, Cpu{}, nn::Gradients::no);
  CHECK(error_of<ArgumentError>([&] { const optim::GradScaler scaler(frozen); }) ==
        "[GradScaler] the model was made without gradients");
}
