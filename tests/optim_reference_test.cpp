// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Optimizers, clipping, schedules and Xavier against PyTorch: reference/optim.safetensors, step by step.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <storylm/nn/init.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/schedules.hpp>
#include <storylm/optim/sgd.hpp>

#include "optim_support.hpp"
#include "reference_support.hpp"
#include "support.hpp"

using namespace storylm;
using test::option;
using test::ReferenceFile;
using test::StepOnHost;
using test::TwoParameters;

namespace {

const ReferenceFile& file() {
  static const ReferenceFile reference("optim.safetensors");
  return reference;
}

template <class T>
void set_gradient(nn::Parameter<T, Cpu>& parameter, const std::vector<T>& values) {
  std::copy(values.begin(), values.end(), parameter.gradient().data);
}

/// Ten steps of one case; the rate is halved after the sixth, as a schedule does.
template <class T, class Optimizer>
void compare_steps(const std::string& name, TwoParameters<T>& model, Optimizer& optimizer,
                   const boost::json::object& options) {
  StepOnHost step;
  step.values.lr = option(options, "lr", NAN);
  const double halved_after = option(options, "lr_halved_after", NAN);
  const std::array parameters{&model.matrix, &model.vector};
  for (std::size_t i = 0; i < 2; ++i) parameters[i]->assign(file().read<T>("initial." + std::to_string(i)));
  const auto count = static_cast<std::size_t>(file().shape("grads.0")[0]);
  REQUIRE(count == 10);
  for (std::size_t s = 0; s < count; ++s) {
    CAPTURE(s);
    if (static_cast<double>(s) == halved_after) step.values.lr *= 0.5;
    const auto slice = [&](const std::string& tensor, std::size_t i) {
      const auto all = file().read<T>(tensor + '.' + std::to_string(i));
      const auto size = all.size() / count;
      return std::vector<T>(all.begin() + static_cast<std::ptrdiff_t>(s * size),
                            all.begin() + static_cast<std::ptrdiff_t>((s + 1) * size));
    };
    for (std::size_t i = 0; i < 2; ++i) set_gradient(*parameters[i], slice("grads", i));
    optimizer.step(step);
    for (std::size_t i = 0; i < 2; ++i) {
      CAPTURE(i);
      const auto expected = slice(name + ".steps" + ReferenceFile::suffix<T>(), i);
      CHECK(test::relative_difference(parameters[i]->to_host(), expected) <= (sizeof(T) == 8 ? 1e-14 : 5e-7));
    }
  }
}

template <class T>
void compare_optimizer(const std::string& name, const boost::json::object& options) {
  CAPTURE(name);
  // PyTorch decays every parameter it is given; here the parameter itself says so.
  TwoParameters<T> model(true);
  const double decay = option(options, "weight_decay", 0.0);
  const auto kind = std::string(options.at("optimizer").get_string());
  if (kind == "SGD") {
    const optim::SgdOptions sgd{.momentum = option(options, "momentum", 0.0),
                                .dampening = option(options, "dampening", 0.0),
                                .weight_decay = decay,
                                .nesterov = options.contains("nesterov") && options.at("nesterov").get_bool()};
    optim::Sgd<T, Cpu> optimizer(model.store, sgd);
    return compare_steps(name, model, optimizer, options);
  }
  optim::AdamOptions adam{.eps = option(options, "eps", 1e-8), .weight_decay = decay};
  if (options.contains("betas")) {
    adam.beta1 = options.at("betas").at(0).to_number<double>();
    adam.beta2 = options.at("betas").at(1).to_number<double>();
  }
  if (kind == "AdamW") {
    optim::AdamW<T, Cpu> optimizer(model.store, adam);
    return compare_steps(name, model, optimizer, options);
  }
  REQUIRE(kind == "Adam");
  optim::Adam<T, Cpu> optimizer(model.store, adam);
  compare_steps(name, model, optimizer, options);
}

template <class T>
void compare_clip(const std::string& name, const boost::json::object& options) {
  CAPTURE(name);
  TwoParameters<T> model(true);
  set_gradient(model.matrix, file().read<T>(name + ".grads.0"));
  set_gradient(model.vector, file().read<T>(name + ".grads.1"));
  StepOnHost step;
  optim::clip_grad_norm(model.store, option(options, "max_norm", NAN), step);
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 1e-6;
  const double norm = static_cast<double>(file().read<T>(name + ".norm" + ReferenceFile::suffix<T>()).front());
  CHECK(std::abs(step.values.grad_norm - norm) <= tolerance * norm);
  CHECK(step.values.skip == 0);
  const auto clipped = [&](const nn::Parameter<T, Cpu>& parameter) {
    auto gradient = parameter.gradient_to_host();
    for (T& g : gradient) g *= static_cast<T>(step.values.clip);
    return gradient;
  };
  const std::string results = name + ".clipped" + ReferenceFile::suffix<T>();
  CHECK(test::relative_difference(clipped(model.matrix), file().read<T>(results + ".0")) <= tolerance);
  CHECK(test::relative_difference(clipped(model.vector), file().read<T>(results + ".1")) <= tolerance);
}

struct OneMatrix {
  nn::Parameter<float, Cpu> weight;
  static void visit(auto& self, auto&& f) { f("weight", self.weight); }
};

}  // namespace

TEST_CASE_TEMPLATE("Adam, AdamW and SGD are PyTorch's, step by step; clipping too", T, float, double) {
  std::size_t optimizers = 0;
  std::size_t clips = 0;
  for (const auto& entry : file().cases()) {
    const std::string name(entry.key());
    const boost::json::object& options = entry.value().get_object();
    if (options.contains("optimizer")) {
      compare_optimizer<T>(name, options);
      ++optimizers;
    } else if (name.starts_with("clip.")) {
      compare_clip<T>(name, options);
      ++clips;
    }
  }
  CHECK(optimizers == 10);
  CHECK(clips == 4);
}

TEST_CASE("ReduceOnPlateau is PyTorch's, bit for bit, with NaN and infinity among the losses") {
  const auto& options = file().options("plateau");
  optim::ReduceOnPlateau plateau({.lr = option(options, "lr", NAN),
                                  .factor = option(options, "factor", NAN),
                                  .patience = static_cast<index_t>(option(options, "patience", -1)),
                                  .threshold = option(options, "threshold", NAN),
                                  .cooldown = static_cast<index_t>(option(options, "cooldown", -1)),
                                  .min_lr = option(options, "min_lr", NAN),
                                  .eps = option(options, "eps", NAN)});
  const auto losses = file().read<double>("plateau.losses");
  const auto lr = file().read<double>("plateau.lr");
  const auto best = file().read<double>("plateau.best");
  const auto bad = file().read<std::int32_t>("plateau.bad");
  REQUIRE(losses.size() > 200);
  for (std::size_t i = 0; i < losses.size(); ++i) {
    CAPTURE(i);
    plateau.step(losses[i]);
    CHECK(plateau.lr() == lr[i]);
    CHECK(plateau.best() == best[i]);
    CHECK(plateau.bad_metrics() == bad[i]);
  }
  CHECK(plateau.lr() < 1e-7);
}

TEST_CASE("Cosine is the formula's; the rise begins one step later, for a first step with rate 0 does nothing") {
  const auto& options = file().options("cosine");
  const auto warmup = static_cast<std::size_t>(option(options, "warmup_steps", -1));
  const optim::Cosine cosine({.lr = option(options, "lr", NAN),
                              .warmup_steps = static_cast<index_t>(warmup),
                              .total_steps = static_cast<index_t>(option(options, "total_steps", -1)),
                              .min_lr = option(options, "min_lr", NAN)});
  const auto lr = file().read<double>("cosine.lr");
  REQUIRE(lr.size() == 65);
  for (std::size_t step = 0; step < lr.size(); ++step) {
    CAPTURE(step);
    const double expected = step < warmup ? lr[step + 1] : lr[step];
    CHECK(std::abs(cosine.lr(static_cast<index_t>(step)) - expected) <= 1e-15 * expected);
  }
}

TEST_CASE("xavier_uniform has PyTorch's bound, mean, variance and extremes") {
  const auto shapes = file().read<std::int32_t>("xavier.shapes");
  const auto bounds = file().read<double>("xavier.bound");
  const auto means = file().read<double>("xavier.mean");
  const auto variances = file().read<double>("xavier.variance");
  const auto least = file().read<double>("xavier.min");
  const auto most = file().read<double>("xavier.max");
  RandomStream random(1, 0, 0);
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    CAPTURE(i);
    OneMatrix module{nn::Parameter<float, Cpu>({shapes[2 * i], shapes[2 * i + 1]})};
    const auto store = nn::allocate<float>(module, Cpu{}, nn::Gradients::no);
    nn::init_xavier_uniform(module.weight, random);
    const auto values = module.weight.to_host();
    const auto n = static_cast<double>(values.size());
    double mean = 0.0;
    double variance = 0.0;
    for (const float v : values) mean += static_cast<double>(v) / n;
    for (const float v : values) variance += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean) / n;
    const double bound = bounds[i];
    const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
    // Five standard errors of the mean and of the variance of a uniform variable; both draws vary.
    CHECK(std::abs(mean - means[i]) <= 5.0 * bound * std::sqrt(2.0 / 3.0 / n));
    CHECK(std::abs(variance - variances[i]) <= 5.0 * bound * bound * std::sqrt(2.0 * 4.0 / 45.0 / n));
    CHECK(variance == doctest::Approx(bound * bound / 3.0).epsilon(5.0 * std::sqrt(0.8 / n)));
    // The extremes lie within the bound, by a gap of bound / n on average.
    CHECK(static_cast<double>(*lowest) >= -bound * (1.0 + 1e-7));
    CHECK(static_cast<double>(*highest) <= bound * (1.0 + 1e-7));
    CHECK(std::abs(static_cast<double>(*lowest) - least[i]) <= 40.0 * bound / n);
    CHECK(std::abs(static_cast<double>(*highest) - most[i]) <= 40.0 * bound / n);
  }
}
