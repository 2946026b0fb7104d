// SPDX-License-Identifier: MIT
/// @file
/// @brief Gradient clipping over a model: what it measures, what it leaves alone, what it refuses.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/optim/clip.hpp>
#include <storylm/optim/sgd.hpp>

#include "io_support.hpp"
#include "optim_support.hpp"

using namespace storylm;
using test::error_of;
using test::StepOnHost;
using test::TwoParameters;

namespace {

/// Gradients of norm 5: 3 in the matrix, 4 in the vector.
void set_gradients(TwoParameters<float>& model) {
  model.store.zero_gradients();
  model.matrix.gradient().data[7] = -3.0F;
  model.vector.gradient().data[6] = 4.0F;
}

}  // namespace

TEST_CASE("one norm over all parameters; the factor goes into the step, once") {
  TwoParameters<float> model(false);
  set_gradients(model);
  StepOnHost step;
  step.values.lr = 1.0;
  optim::clip_grad_norm(model.store, 1.0, step);
  CHECK(step.values.grad_norm == 5.0);
  CHECK(step.values.clip == doctest::Approx(0.2).epsilon(1e-6));
  CHECK(model.matrix.gradient_to_host()[7] == -3.0F);
  CHECK(model.vector.gradient_to_host()[6] == 4.0F);
  optim::Sgd<float, Cpu> sgd(model.store);
  sgd.step(step);
  CHECK(model.matrix.to_host()[7] == doctest::Approx(0.6));  // not 0.12
  CHECK(model.vector.to_host()[6] == doctest::Approx(-0.8));
}

TEST_CASE("gradients within the bound are left alone, and 0 measures only") {
  TwoParameters<float> model(false);
  set_gradients(model);
  for (const double max_norm : {5.1, 100.0, std::numeric_limits<double>::infinity(), 0.0}) {
    CAPTURE(max_norm);
    StepOnHost step;
    optim::clip_grad_norm(model.store, max_norm, step);
    CHECK(step.values.grad_norm == 5.0);
    CHECK(step.values.clip == 1.0);
    CHECK(step.values.skip == 0);
  }
  StepOnHost step;
  model.store.zero_gradients();
  optim::clip_grad_norm(model.store, 1.0, step);
  CHECK(step.values.grad_norm == 0.0);
  CHECK(step.values.clip == 1.0);
}

TEST_CASE("gradients that are not finite skip the step, with and without a bound") {
  TwoParameters<float> model(false);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const double max_norm : {0.0, 1.0}) {
      set_gradients(model);
      model.matrix.gradient().data[0] = bad;
      StepOnHost step;
      optim::clip_grad_norm(model.store, max_norm, step);
      CHECK(step.values.skip == 1);
      CHECK(!std::isfinite(step.values.grad_norm));
      set_gradients(model);
      optim::clip_grad_norm(model.store, max_norm, step);
      CHECK(step.values.skip == 0);
    }
  }
  // The largest finite floats have a finite norm: their squares are summed in double.
  set_gradients(model);
  model.matrix.gradient().data[0] = std::numeric_limits<float>::max();
  StepOnHost step;
  optim::clip_grad_norm(model.store, 1.0, step);
  CHECK(step.values.skip == 0);
  CHECK(step.values.grad_norm == static_cast<double>(std::numeric_limits<float>::max()));
}

TEST_CASE("a bound that is negative or no number, and a model without gradients, are refused") {
  TwoParameters<float> model(false);
  const auto message = [](auto& store, double max_norm) {
    const StepOnHost step;
    return error_of<ArgumentError>([&] { optim::clip_grad_norm(store, max_norm, step); });
  };
  CHECK(message(model.store, -1.0) == "[clip_grad_norm] max_norm must not be negative: -1");
  CHECK(!message(model.store, std::numeric_limits<double>::quiet_NaN()).empty());
  TwoParameters<float> frozen(false, nn::Gradients::no);
  CHECK(message(frozen.store, 1.0) == "[clip_grad_norm] the model was made without gradients");
}
