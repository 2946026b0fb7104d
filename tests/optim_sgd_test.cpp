// SPDX-License-Identifier: MIT
/// @file
/// @brief SGD over a model: skipped steps, state with and without momentum, options.
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/sgd.hpp>

#include "io_support.hpp"
#include "optim_support.hpp"

using namespace storylm;
using test::error_of;
using test::state_bytes;
using test::StepOnHost;
using test::TwoParameters;

namespace {

void set_gradients(TwoParameters<float>& model, float value) {
  nn::for_each_parameter(model, [&](const std::string&, auto& p) { std::fill_n(p.gradient().data, p.size(), value); });
}

}  // namespace

TEST_CASE("the first step sets momentum to the gradient, whatever dampening says; the next ones damp") {
  TwoParameters<float> model(false);
  optim::Sgd<float, Cpu> sgd(model.store, {.momentum = 0.5, .dampening = 0.25});
  StepOnHost step;
  step.values.lr = 1.0;
  set_gradients(model, 1.0F);
  sgd.step(step);
  CHECK(model.matrix.to_host().front() == -1.0F);
  sgd.step(step);  // 0.5 * 1 + 0.75 * 1
  CHECK(model.matrix.to_host().front() == -2.25F);
  CHECK(model.vector.to_host().back() == -2.25F);
}

TEST_CASE("a skipped first step is not the first step") {
  TwoParameters<float> model(false);
  optim::Sgd<float, Cpu> sgd(model.store, {.momentum = 0.5, .dampening = 0.25});
  StepOnHost step;
  step.values.lr = 1.0;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const auto before = state_bytes(sgd);
    set_gradients(model, 1.0F);
    model.matrix.gradient().data[19] = bad;
    optim::clip_grad_norm(model.store, 0.0, step);
    sgd.step(step);
    CHECK(state_bytes(sgd) == before);
    CHECK(model.matrix.to_host() == std::vector<float>(20, 0.0F));
    CHECK(model.vector.to_host() == std::vector<float>(7, 0.0F));
  }
  set_gradients(model, 1.0F);
  optim::clip_grad_norm(model.store, 0.0, step);
  sgd.step(step);
  CHECK(model.matrix.to_host() == std::vector<float>(20, -1.0F));
}

TEST_CASE("the state names momentum only where there is some") {
  TwoParameters<float> model(false);
  const auto names = [&](const optim::SgdOptions& options) {
    const optim::Sgd<float, Cpu> sgd(model.store, options);
    std::string all;
    for (const auto& [name, bytes] : state_bytes(sgd)) all += name + ' ' + std::to_string(bytes.size()) + ' ';
    return all;
  };
  CHECK(names({}) == "steps 8 ");
  CHECK(names({.momentum = 0.9}) == "momentum.matrix 80 momentum.vector 28 steps 8 ");
}

TEST_CASE("weight decay goes into the gradient of matrices") {
  TwoParameters<float> model(false);
  optim::Sgd<float, Cpu> sgd(model.store, {.weight_decay = 0.25});
  nn::for_each_parameter(model, [](const std::string&, auto& p) {
    p.assign(std::vector<float>(static_cast<std::size_t>(p.size()), 2.0F));
  });
  StepOnHost step;
  step.values.lr = 1.0;
  sgd.step(step);
  CHECK(model.matrix.to_host() == std::vector<float>(20, 1.5F));
  CHECK(model.vector.to_host() == std::vector<float>(7, 2.0F));
}

TEST_CASE("options out of range are named") {
  TwoParameters<float> model(false);
  const auto message = [&](auto& store, const optim::SgdOptions& options) {
    return error_of<ArgumentError>([&] { const optim::Sgd<float, Cpu> sgd(store, options); });
  };
  CHECK(message(model.store, {.momentum = 0.9, .nesterov = true}).empty());
  CHECK(message(model.store, {.momentum = -0.5}) == "[Sgd] momentum and weight_decay must not be negative: -0.5, 0");
  CHECK(message(model.store, {.weight_decay = -1.0}) == "[Sgd] momentum and weight_decay must not be negative: 0, -1");
  CHECK(message(model.store, {.nesterov = true}) == "[Sgd] nesterov needs momentum and no dampening: 0, 0");
  CHECK(message(model.store, {.momentum = 0.9, .dampening = 0.1, .nesterov = true}) ==
        "[Sgd] nesterov needs momentum and no dampening: 0.9, 0.1");
  TwoParameters<float> frozen(false, nn::Gradients::no);
  CHECK(message(frozen.store, {}) == "[Sgd] the model was made without gradients");
}
