// SPDX-License-Identifier: MIT
// LINK: io
// GradScaler on CUDA is torch.amp.GradScaler step by step, with the optimizer that goes with it.
#include <string>

#include <storylm/optim/grad_scaler.hpp>
#include <storylm/optim/sgd.hpp>

#include "cuda/support.hpp"
#include "grad_scaler_support.hpp"

using namespace storylm;
using test::cuda_device;
using test::ScaledModel;

TEST_CASE("scale, growth tracker, skipped steps and weights are PyTorch's") {
  std::size_t cases = 0;
  for (const auto& entry : test::grad_scaler_file().cases()) {
    ScaledModel<Cuda> model(cuda_device());
    optim::GradScaler scaler(model.store, test::grad_scaler_options(entry.value().get_object()));
    optim::Sgd sgd(model.store);
    test::compare_grad_scaler(std::string(entry.key()), model, scaler, [&](ScaledModel<Cuda>& m) { sgd.step(m); });
    ++cases;
  }
  CHECK(cases == 5);
}

TEST_CASE("a step with a scaler is recorded once and replayed") {
  ScaledModel<Cuda> model(cuda_device());
  optim::GradScaler scaler(model.store, {.growth_interval = 3});
  optim::Sgd sgd(model.store);
  Cuda::Recording recording;
  double scale = 65536.0;
  for (int step = 0; step < 12; ++step) {
    const bool bad = step == 5;
    model.begin(0.5);
    const auto before = model.weight.to_host();
    model.set_gradient({0.0F, static_cast<float>(scale), 0.0F, bad ? INFINITY : 0.0F, 0.0F});
    recording.run(cuda_device(), [&] {
      scaler.begin(model);
      scaler.unscale(model);
      sgd.step(model);
      scaler.update(model);
    });
    CHECK(model.weight.to_host()[1] == before[1] - (bad ? 0.0F : 0.5F));
    if (bad) scale *= 0.5;
    if (step == 2 || step == 8 || step == 11) scale *= 2.0;  // three good steps in a row
    CHECK(scaler.scale() == scale);
  }
  CHECK(recording.recorded());
}

TEST_CASE("a step whose gradients nobody looked at is a skipped one") {
  ScaledModel<Cuda> model(cuda_device());
  optim::GradScaler scaler(model.store);
  optim::Sgd sgd(model.store);
  model.begin(1.0);
  scaler.begin(model);
  model.set_gradient({1.0F, 1.0F, 1.0F, 1.0F, 1.0F});
  const auto before = model.weight.to_host();
  sgd.step(model);
  scaler.update(model);
  CHECK(model.weight.to_host() == before);
  CHECK(scaler.scale() == 32768.0);
}
