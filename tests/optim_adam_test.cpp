// SPDX-License-Identifier: MIT
/// @file
/// @brief Adam and AdamW over a model: skipped steps, state, options. Their arithmetic: optim_reference_test.cpp.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/sgd.hpp>

#include "io_support.hpp"
#include "optim_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::state_bytes;
using test::StepOnHost;
using test::TwoParameters;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

void draw_gradients(TwoParameters<float>& model, RandomStream& random) {
  nn::for_each_parameter(model, [&](const std::string&, auto& p) {
    for (index_t i = 0; i < p.size(); ++i) p.gradient().data[i] = static_cast<float>(random.normal());
  });
}
std::vector<float> weights(const TwoParameters<float>& model) {
  auto values = model.matrix.to_host();
  const auto more = model.vector.to_host();
  values.insert(values.end(), more.begin(), more.end());
  return values;
}

}  // namespace

TEST_CASE("a step whose gradients are not finite leaves weights, moments and t as they were") {
  RandomStream random(1, 0, 0);
  TwoParameters<float> model(false);
  optim::AdamW<float, Cpu> adam(model.store, {.weight_decay = 0.1});
  StepOnHost step;
  step.values.lr = 0.1;
  for (int i = 0; i < 3; ++i) {
    draw_gradients(model, random);
    optim::clip_grad_norm(model.store, 1.0, step);
    adam.step(step);
  }
  CHECK(adam.steps() == 3);
  const auto state = state_bytes(adam);
  const auto values = weights(model);
  for (const float bad : {infinity, -infinity, not_a_number}) {
    draw_gradients(model, random);
    model.vector.gradient().data[3] = bad;
    optim::clip_grad_norm(model.store, 1.0, step);
    CHECK(step.values.skip == 1);
    adam.step(step);
    CHECK(state_bytes(adam) == state);
    CHECK(weights(model) == values);
    CHECK(adam.steps() == 3);
  }

  // The next good step is the fourth, as if the bad ones had not been.
  TwoParameters<float> other(false);
  optim::AdamW<float, Cpu> undisturbed(other.store, {.weight_decay = 0.1});
  RandomStream again(1, 0, 0);
  for (int i = 0; i < 3; ++i) {
    draw_gradients(other, again);
    optim::clip_grad_norm(other.store, 1.0, step);
    undisturbed.step(step);
  }
  REQUIRE(weights(other) == values);
  RandomStream fourth(4, 0, 0);
  draw_gradients(model, fourth);
  fourth = RandomStream(4, 0, 0);
  draw_gradients(other, fourth);
  optim::clip_grad_norm(model.store, 1.0, step);
  CHECK(step.values.skip == 0);
  adam.step(step);
  undisturbed.step(step);
  CHECK(weights(model) == weights(other));
  CHECK(weights(model) != values);
}

TEST_CASE_TEMPLATE("masters of bf16 and half take fp32's steps, bit for bit, and values are the masters rounded", T,
                   bf16, half) {
  RandomStream random(2, 0, 0);
  TwoParameters<float> single(false);
  TwoParameters<T> mixed(false);
  nn::for_each_parameter(mixed, [&](const std::string&, auto& p) {
    std::vector<float> values;
    for (index_t i = 0; i < p.size(); ++i) values.push_back(static_cast<float>(random.normal()));
    p.assign(values);
  });
  const auto masters = mixed.store.arena();
  const auto plain = single.store.arena();
  REQUIRE(masters.size == plain.size);
  const auto size = static_cast<std::size_t>(plain.size);
  std::copy_n(masters.masters, size, plain.values);
  REQUIRE(plain.values[0] != 0.0F);

  optim::AdamW<float, Cpu> single_adam(single.store, {.weight_decay = 0.1});
  optim::AdamW<T, Cpu> mixed_adam(mixed.store, {.weight_decay = 0.1});
  optim::Sgd<float, Cpu> single_sgd(single.store, {.momentum = 0.9});
  optim::Sgd<T, Cpu> mixed_sgd(mixed.store, {.momentum = 0.9});
  StepOnHost step;
  step.values.lr = 0.01;
  for (int i = 0; i < 4; ++i) {
    draw_gradients(single, random);
    std::copy_n(plain.gradients, size, masters.gradients);
    const auto take_steps = [&](auto& model, auto& adam, auto& sgd) {
      optim::clip_grad_norm(model.store, 1.0, step);
      adam.step(step);
      sgd.step(step);
    };
    take_steps(single, single_adam, single_sgd);
    take_steps(mixed, mixed_adam, mixed_sgd);
    CHECK(std::equal(plain.values, plain.values + size, masters.masters));
    CHECK(std::equal(plain.values, plain.values + size, masters.values, [](float a, T b) { return T(a) == b; }));
  }
}

TEST_CASE("the state names the moments of every parameter and t, and nothing else") {
  TwoParameters<float> model(false);
  optim::Adam<float, Cpu> adam(model.store);
  std::vector<std::string> names;
  optim::Adam<float, Cpu>::visit_state(adam, [&](std::string_view name, auto&&) { names.emplace_back(name); });
  CHECK(names == std::vector<std::string>{"first_moment.vector", "second_moment.vector", "first_moment.matrix",
                                          "second_moment.matrix", "steps"});
  const auto bytes = state_bytes(adam);
  CHECK(bytes.at("first_moment.vector").size() == 7 * sizeof(float));
  CHECK(bytes.at("second_moment.matrix").size() == 20 * sizeof(float));
  CHECK(bytes.at("steps") == std::string(8, '\0'));
}

TEST_CASE("weight decay: Adam puts it into the gradient, AdamW takes it off the weight, vectors have none") {
  const auto stepped = [](auto make) {
    TwoParameters<float> model(false);
    nn::for_each_parameter(model, [](const std::string&, auto& p) {
      p.assign(std::vector<float>(static_cast<std::size_t>(p.size()), 2.0F));
    });
    auto optimizer = make(model.store);
    StepOnHost step;
    step.values.lr = 0.5;
    optimizer.step(step);  // all gradients are zero
    return weights(model);
  };
  const auto decoupled = stepped([](auto& store) { return optim::AdamW<float, Cpu>(store, {.weight_decay = 0.1}); });
  const auto coupled = stepped([](auto& store) { return optim::Adam<float, Cpu>(store, {.weight_decay = 0.1}); });
  const auto by_default = stepped([](auto& store) { return optim::AdamW<float, Cpu>(store); });
  const auto none = stepped([](auto& store) { return optim::Adam<float, Cpu>(store); });
  CHECK(decoupled.front() == doctest::Approx(2.0 * (1.0 - 0.5 * 0.1)));
  CHECK(by_default.front() == doctest::Approx(2.0 * (1.0 - 0.5 * 0.01)));
  CHECK(coupled.front() == doctest::Approx(2.0 - 0.5));  // lr in the direction of the gradient, which is the decay
  CHECK(none.front() == 2.0F);
  for (const auto& values : {decoupled, coupled, by_default, none}) CHECK(values.back() == 2.0F);
}

TEST_CASE("options out of range are named") {
  TwoParameters<float> model(false);
  const auto message = [&](const optim::AdamOptions& options) {
    return error_of<ArgumentError>([&] { const optim::Adam<float, Cpu> adam(model.store, options); });
  };
  CHECK(message({.beta1 = 0.0, .beta2 = 0.0, .eps = 0.0}).empty());
  CHECK(message({.beta1 = 1.0}) == "[Adam] beta1 must be in [0, 1): 1");
  CHECK(message({.beta1 = -0.1}) == "[Adam] beta1 must be in [0, 1): -0.1");
  CHECK(message({.beta2 = 1.5}) == "[Adam] beta2 must be in [0, 1): 1.5");
  CHECK(message({.eps = -1e-8}) == "[Adam] eps must be at least 0: -1e-08");
  CHECK(message({.weight_decay = -1.0}) == "[Adam] weight_decay must be at least 0: -1");
  CHECK(contains(message({.beta1 = static_cast<double>(not_a_number)}), "beta1 must be in [0, 1): "));
  CHECK(contains(message({.eps = static_cast<double>(not_a_number)}), "eps must be at least 0: "));
  TwoParameters<float> frozen(false, nn::Gradients::no);
  CHECK(error_of<ArgumentError>([&] { const optim::AdamW<float, Cpu> adam(frozen.store); }) ==
        "[Adam] the model was made without gradients");
}
