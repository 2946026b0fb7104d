// SPDX-License-Identifier: MIT
/// @file
/// @brief adam, sgd and clip against plain transcriptions of PyTorch's single-tensor optimizers and clip_grad_norm_.
#include <cmath>
#include <limits>
#include <type_traits>

#include <doctest/doctest.h>

#include <storylm/ops/optimizer.hpp>

#include "row_ops_support.hpp"

using namespace row_ops_test;

namespace {

/// Two parameters in slots, with NaN in the gaps: who touches a gap is found out.
template <class T>
struct Model {
  using A = accumulator_t<T>;
  static constexpr bool has_masters = !std::is_same_v<T, A>;

  explicit Model(RandomStream& random) {
    for (auto* v : {&masters, &gradients, &first, &second}) v->assign(size, std::numeric_limits<A>::quiet_NaN());
    values.assign(size, from_double<T>(std::numeric_limits<double>::quiet_NaN()));
    for (const ParameterSegment& s : segments) {
      for (index_t i = s.offset; i < s.offset + s.size; ++i) {
        const auto at = static_cast<std::size_t>(i);
        masters[at] = static_cast<A>(random.normal());
        values[at] = T(masters[at]);
        first[at] = second[at] = A{0};
      }
    }
  }
  void new_gradients(RandomStream& random) {
    for (const ParameterSegment& s : segments) {
      for (index_t i = s.offset; i < s.offset + s.size; ++i) {
        gradients[static_cast<std::size_t>(i)] = static_cast<A>(random.normal() * std::pow(10.0, i % 5 - 3));
      }
    }
  }
  [[nodiscard]] ArenaView<T> arena() {
    return {.values = values.data(),
            .masters = has_masters ? masters.data() : nullptr,
            .gradients = gradients.data(),
            .size = static_cast<index_t>(size),
            .segments = segments.data(),
            .segment_count = static_cast<index_t>(segments.size())};
  }
  /// The weight that steps are added to.
  [[nodiscard]] A& weight(std::size_t i) {
    if constexpr (has_masters) {
      return masters[i];
    } else {
      return values[i];
    }
  }
  /// f(weight, gradient, first moment, second moment, whether decay applies) for every weight that is one.
  template <class F>
  void for_each(const F& f) {
    for (const ParameterSegment& s : segments) {
      for (index_t i = s.offset; i < s.offset + s.size; ++i) {
        const auto at = static_cast<std::size_t>(i);
        f(weight(at), gradients[at], first[at], second[at], s.decay);
      }
    }
  }
  /// Every value is its weight rounded, bit for bit.
  [[nodiscard]] bool values_are_rounded_weights() {
    bool same = true;
    for (const ParameterSegment& s : segments) {
      for (index_t i = s.offset; i < s.offset + s.size; ++i) {
        const auto at = static_cast<std::size_t>(i);
        same = same && values[at] == T(weight(at));
      }
    }
    return same;
  }
  [[nodiscard]] bool gaps_untouched() const {
    std::vector<bool> used(size);
    for (const ParameterSegment& s : segments) {
      for (index_t i = s.offset; i < s.offset + s.size; ++i) used[static_cast<std::size_t>(i)] = true;
    }
    for (std::size_t i = 0; i < size; ++i) {
      if (!used[i] && !(std::isnan(to_double(values[i])) && std::isnan(first[i]) && std::isnan(second[i])))
        return false;
      if (!used[i] && has_masters && !std::isnan(masters[i])) return false;
    }
    return true;
  }

  static constexpr std::size_t size = 20608;
  std::vector<ParameterSegment> segments = {{0, 20011, true}, {20224, 33, false}, {20480, 0, true}};
  std::vector<T> values;
  std::vector<A> masters, gradients, first, second;
};

template <class T>
std::vector<accumulator_t<T>> weights_of(Model<T>& model) {
  std::vector<accumulator_t<T>> weights;
  model.for_each([&](auto& weight, auto&, auto&, auto&, bool) { weights.push_back(weight); });
  return weights;
}

/// torch/optim/adam.py, _single_tensor_adam.
template <class Storage>
void torch_adam(Model<Storage>& model, double t, const AdamConstants& c, const StepState& state) {
  using T = accumulator_t<Storage>;
  const double step_size = state.lr / (1.0 - std::pow(c.beta1, t));
  const double root_correction2 = std::sqrt(1.0 - std::pow(c.beta2, t));
  model.for_each([&](T& param, T& gradient, T& exp_avg, T& exp_avg_sq, bool decay) {
    T grad = gradient * static_cast<T>(state.clip);
    if (decay && c.weight_decay != 0.0) {
      if (c.decoupled) {
        param *= static_cast<T>(1.0 - state.lr * c.weight_decay);
      } else {
        grad += static_cast<T>(c.weight_decay) * param;
      }
    }
    const auto weight = static_cast<T>(1.0 - c.beta1);
    exp_avg = weight < T{0.5} ? exp_avg + weight * (grad - exp_avg) : grad - (grad - exp_avg) * (T{1} - weight);
    exp_avg_sq = exp_avg_sq * static_cast<T>(c.beta2) + static_cast<T>(1.0 - c.beta2) * grad * grad;
    const T denom = std::sqrt(exp_avg_sq) / static_cast<T>(root_correction2) + static_cast<T>(c.eps);
    param += static_cast<T>(-step_size) * exp_avg / denom;
  });
}

/// torch/optim/sgd.py, _single_tensor_sgd.
template <class Storage>
void torch_sgd(Model<Storage>& model, bool first, const SgdConstants& c, const StepState& state) {
  using T = accumulator_t<Storage>;
  model.for_each([&](T& param, T& gradient, T& buffer, T&, bool decay) {
    T grad = gradient * static_cast<T>(state.clip);
    if (decay) grad += static_cast<T>(c.weight_decay) * param;
    if (c.momentum != 0.0) {
      buffer = first ? grad : buffer * static_cast<T>(c.momentum) + static_cast<T>(1.0 - c.dampening) * grad;
      grad = c.nesterov ? grad + static_cast<T>(c.momentum) * buffer : buffer;
    }
    param += static_cast<T>(-state.lr) * grad;
  });
}

const std::vector<AdamConstants> adams = {{},
                                          {.beta1 = 0.4, .beta2 = 0.95, .eps = 1e-6},
                                          {.beta1 = 0.0},
                                          {.weight_decay = 0.1},
                                          {.beta2 = 0.95, .weight_decay = 0.1, .decoupled = true}};
const std::vector<SgdConstants> sgds = {{},
                                        {.weight_decay = 0.1},
                                        {.momentum = 0.9},
                                        {.momentum = 0.9, .dampening = 0.2},
                                        {.momentum = 0.8, .weight_decay = 0.1, .nesterov = true}};

}  // namespace

TEST_CASE_TEMPLATE("adam takes PyTorch's steps", T, float, double, bf16, half) {
  for (const AdamConstants& constants : adams) {
    RandomStream random(1);
    Model<T> model(random);
    Model<T> expected = model;
    StepState state{.lr = 1e-2, .clip = 0.7};
    std::int64_t t = 0;
    for (int step = 1; step <= 12; ++step) {
      if (step == 7) state.lr *= 0.5;
      model.new_gradients(random);
      expected.gradients = model.gradients;
      ops::adam(Cpu({.threads = 2}), model.arena(), std::span(model.first), std::span(model.second), &t, constants,
                &state);
      torch_adam(expected, step, constants, state);
    }
    CHECK(t == 12);
    CHECK(difference(weights_of(model), weights_of(expected)) < tolerance<accumulator_t<T>>);
    CHECK(model.values_are_rounded_weights());
    CHECK(model.gaps_untouched());
  }
}

TEST_CASE("adam's first step is lr in the direction of the gradient, its decay as AdamW says") {
  RandomStream random(3);
  Model<double> model(random);
  model.new_gradients(random);
  const Model<double> before = model;
  const StepState state{.lr = 0.01};
  std::int64_t t = 0;
  ops::adam(Cpu(), model.arena(), std::span(model.first), std::span(model.second), &t,
            {.eps = 0.0, .weight_decay = 0.1, .decoupled = true}, &state);
  for (const std::size_t i : {std::size_t{0}, std::size_t{20010}}) {
    CHECK(model.values[i] ==
          doctest::Approx(before.values[i] * (1.0 - 0.001) - std::copysign(0.01, before.gradients[i])).epsilon(1e-12));
  }
  CHECK(model.values[20224] ==
        doctest::Approx(before.values[20224] - std::copysign(0.01, before.gradients[20224])).epsilon(1e-12));
}

TEST_CASE_TEMPLATE("sgd takes PyTorch's steps", T, float, double, bf16, half) {
  for (const SgdConstants& constants : sgds) {
    RandomStream random(4);
    Model<T> model(random);
    Model<T> expected = model;
    model.for_each([](auto&, auto&, auto& momentum, auto&, bool) { momentum = NAN; });
    StepState state{.lr = 1e-2, .clip = 0.7};
    std::int64_t t = 0;
    for (int step = 1; step <= 12; ++step) {
      model.new_gradients(random);
      expected.gradients = model.gradients;
      const auto momentum = constants.momentum != 0.0 ? std::span(model.first) : std::span<accumulator_t<T>>();
      ops::sgd(Cpu({.threads = 2}), model.arena(), momentum, &t, constants, &state);
      torch_sgd(expected, step == 1, constants, state);
    }
    CHECK(t == 12);
    CHECK(difference(weights_of(model), weights_of(expected)) < tolerance<accumulator_t<T>>);
    CHECK(model.values_are_rounded_weights());
    CHECK(model.gaps_untouched());
  }
}

TEST_CASE_TEMPLATE("a skipped step changes nothing, t included", T, float, bf16) {
  RandomStream random(5);
  Model<T> model(random);
  model.new_gradients(random);
  model.gradients[5] = std::numeric_limits<float>::infinity();
  const Model<T> before = model;
  StepState state{.lr = 0.1};
  ops::clip(Cpu(), std::span<const float>(model.gradients).first(20011), 1.0, &state);
  CHECK(state.skip == 1);
  std::int64_t t = 3;
  ops::adam(Cpu(), model.arena(), std::span(model.first), std::span(model.second), &t, {}, &state);
  ops::sgd(Cpu(), model.arena(), std::span(model.first), &t, {.momentum = 0.9}, &state);
  CHECK(t == 3);
  CHECK(same_bits(model.values, before.values));
  CHECK(same_bits(model.masters, before.masters));
  CHECK(same_bits(model.first, before.first));
  CHECK(same_bits(model.second, before.second));
}

TEST_CASE_TEMPLATE("clip is clip_grad_norm_: norm over all, factor at most one", T, float, double) {
  RandomStream random(6);
  std::vector<T> gradients(40001);
  long double squares = 0.0L;
  for (T& g : gradients) {
    g = static_cast<T>(random.normal());
    squares += static_cast<long double>(g) * static_cast<long double>(g);
  }
  const auto norm = static_cast<double>(std::sqrt(squares));
  const auto run = [&](double max_norm, double loss_scale) {
    StepState state{.loss_scale = loss_scale, .clip = -1.0, .grad_norm = -1.0, .skip = 1};
    const auto before = gradients;
    ops::clip(Cpu({.threads = 2}), std::span(gradients), max_norm, &state);
    CHECK(same_bits(gradients, before));
    CHECK(state.skip == 0);
    CHECK(state.grad_norm == doctest::Approx(norm / loss_scale).epsilon(1e-13));
    return state.clip;
  };
  CHECK(run(1.0, 1.0) == doctest::Approx(1.0 / (norm + 1e-6)).epsilon(1e-13));
  CHECK(run(1e6, 1.0) == 1.0);
  CHECK(run(0.0, 1.0) == 1.0);
  CHECK(run(-1.0, 4.0) == 0.25);
  CHECK(run(1.0, 4.0) == doctest::Approx(1.0 / (norm / 4.0 + 1e-6) / 4.0).epsilon(1e-13));
  CHECK(run(1e6, 4.0) == 0.25);

  StepState state;
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    gradients[17] = static_cast<T>(bad);
    ops::clip(Cpu(), std::span(gradients), 1.0, &state);
    CHECK(state.skip == 1);
  }
  gradients[17] = T{0};
  ops::clip(Cpu(), std::span(gradients), 1.0, &state);
  CHECK(state.skip == 0);
  // A loss may be infinite where the gradient is not: softmax minus one, of a logit of minus infinity.
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    state.loss_sum = bad;
    ops::clip(Cpu(), std::span(gradients), 1.0, &state);
    CHECK(state.skip == 1);
  }
  state.loss_sum = 12.0;
  ops::clip(Cpu(), std::span(gradients), 1.0, &state);
  CHECK(state.skip == 0);
  ops::clip(Cpu(), std::span<const T>(), 1.0, &state);
  CHECK(state.grad_norm == 0.0);
  CHECK(state.clip == 1.0);
}

TEST_CASE_TEMPLATE("optimizers: the same bits with any number of threads, and no allocation", T, float, bf16) {
  RandomStream random(7);
  Model<T> start(random);
  start.new_gradients(random);
  std::vector<Model<T>> models(3, start);
  std::vector<StepState> states(3, StepState{.lr = 0.01});
  for (std::size_t i = 0; i < 3; ++i) {
    const Cpu device({.threads = static_cast<int>(i) + 1});
    Model<T>& m = models[i];
    std::int64_t t = 0;
    const std::span<const float> gradients = std::span(m.gradients).first(20011);
    CHECK(second_call_allocations([&] {
            ops::clip(device, gradients, 1.0, &states[i]);
            ops::adam(device, m.arena(), std::span(m.first), std::span(m.second), &t, {.weight_decay = 0.1},
                      &states[i]);
            ops::sgd(device, m.arena(), std::span(m.first), &t, {.momentum = 0.9}, &states[i]);
          }) == 0);
    CHECK(states[i].clip == states[0].clip);
    CHECK(same_bits(m.values, models[0].values));
  }
}

TEST_CASE("optimizers say which moment is wrong") {
  RandomStream random(8);
  Model<float> m(random);
  const StepState state;
  std::int64_t t = 0;
  CHECK(error_of([&] {
          ops::adam(Cpu(), m.arena(), std::span(m.first), std::span(m.second).first(2), &t, {}, &state);
        }) == "[adam] v has 2 elements, expected 20608");
  CHECK(error_of([&] { ops::sgd(Cpu(), m.arena(), std::span<float>(), &t, {.momentum = 0.9}, &state); }) ==
        "[sgd] momentum has 0 elements, expected 20608");
}
