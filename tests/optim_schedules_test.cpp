// SPDX-License-Identifier: MIT
/// @file
/// @brief Learning-rate schedules against a transcription of PyTorch's plateau and against values worked out by hand.
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/optim/schedules.hpp>

using namespace storylm;
using optim::Cosine;
using optim::ReduceOnPlateau;
using optim::ReduceOnPlateauOptions;
using optim::WarmupStableDecay;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// torch/optim/lr_scheduler.py, ReduceLROnPlateau.step and _reduce_lr, line by line.
struct TorchPlateau {
  ReduceOnPlateauOptions options;
  double lr = options.lr;
  double best = infinity;
  long cooldown_counter = 0;
  long num_bad_epochs = 0;

  void step(double current) {
    const double rel_epsilon = 1.0 - options.threshold;
    if (current < best * rel_epsilon) {
      best = current;
      num_bad_epochs = 0;
    } else {
      num_bad_epochs += 1;
    }
    if (cooldown_counter > 0) {
      cooldown_counter -= 1;
      num_bad_epochs = 0;
    }
    if (num_bad_epochs > options.patience) {
      const double old_lr = lr;
      const double new_lr = old_lr * options.factor > options.min_lr ? old_lr * options.factor : options.min_lr;
      if (old_lr - new_lr > options.eps) lr = new_lr;
      cooldown_counter = options.cooldown;
      num_bad_epochs = 0;
    }
  }
};

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("the eleventh bad metric lowers the rate") {
  ReduceOnPlateau plateau({.lr = 3e-4});
  CHECK(plateau.best() == infinity);
  plateau.step(2.0);
  for (int bad = 1; bad <= 10; ++bad) {
    plateau.step(2.0);
    CHECK(plateau.lr() == 3e-4);
    CHECK(plateau.bad_metrics() == bad);
  }
  plateau.step(2.0);
  CHECK(plateau.lr() == 3e-4 * 0.3);
  CHECK(plateau.bad_metrics() == 0);
  CHECK(plateau.best() == 2.0);
  for (int bad = 0; bad < 11; ++bad) plateau.step(2.5);
  CHECK(plateau.lr() == 3e-4 * 0.3 * 0.3);
}

TEST_CASE("an improvement counts from one in ten thousand on") {
  ReduceOnPlateau plateau({.lr = 1.0, .patience = 1});
  plateau.step(1.0);
  plateau.step(0.9999);  // not below 1 - 1e-4
  CHECK(plateau.best() == 1.0);
  plateau.step(0.99989);
  CHECK(plateau.best() == 0.99989);
  CHECK(plateau.bad_metrics() == 0);
  CHECK(plateau.lr() == 1.0);
}

TEST_CASE("NaN and infinity are bad metrics, also the first ones") {
  ReduceOnPlateau plateau({.lr = 1.0, .factor = 0.5, .patience = 2});
  for (const double metric : {not_a_number, infinity, not_a_number}) plateau.step(metric);
  CHECK(plateau.lr() == 0.5);
  CHECK(plateau.best() == infinity);
  plateau.step(7.0);
  CHECK(plateau.best() == 7.0);
}

TEST_CASE("min_lr and eps bound the reductions, cooldown delays them") {
  ReduceOnPlateau bounded({.lr = 1.0, .factor = 0.1, .patience = 0, .min_lr = 0.05});
  for (int i = 0; i < 4; ++i) bounded.step(infinity);
  CHECK(bounded.lr() == 0.05);

  ReduceOnPlateau tiny({.lr = 1.2e-8, .factor = 0.5, .patience = 0});
  tiny.step(infinity);  // a reduction by 6e-9 is below eps
  CHECK(tiny.lr() == 1.2e-8);

  ReduceOnPlateau cooling({.lr = 1.0, .factor = 0.5, .patience = 0, .cooldown = 2});
  std::vector<double> rates;
  for (int i = 0; i < 7; ++i) {
    cooling.step(infinity);
    rates.push_back(cooling.lr());
  }
  CHECK(rates == std::vector<double>{0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125});
}

TEST_CASE("ReduceOnPlateau is PyTorch's, bit for bit, over random metrics") {
  RandomStream random(1);
  int reductions = 0;
  for (int run = 0; run < 200; ++run) {
    const ReduceOnPlateauOptions options{.lr = 0.1 * random.uniform() + 1e-4,
                                         .factor = random.uniform(),
                                         .patience = static_cast<index_t>(random.below(12)),
                                         .threshold = run % 3 == 0 ? 0.0 : 0.01 * random.uniform(),
                                         .cooldown = static_cast<index_t>(random.below(3)),
                                         .min_lr = run % 2 == 0 ? 0.0 : 1e-3 * random.uniform(),
                                         .eps = run % 5 == 0 ? 1e-3 : 1e-8};
    ReduceOnPlateau plateau(options);
    TorchPlateau torch{options};
    double level = 5.0;
    for (int i = 0; i < 200; ++i) {
      level *= 1.0 - 0.01 * random.uniform();
      double metric = level + 0.3 * random.normal();
      if (random.below(40) == 0) metric = random.below(2) == 0 ? not_a_number : infinity;
      const double before = plateau.lr();
      plateau.step(metric);
      torch.step(metric);
      reductions += plateau.lr() < before ? 1 : 0;
      REQUIRE(plateau.lr() == torch.lr);
      REQUIRE(plateau.best() == torch.best);
      REQUIRE(plateau.bad_metrics() == torch.num_bad_epochs);
    }
  }
  CHECK(reductions > 200);
}

TEST_CASE("a plateau goes on from its visited state") {
  const ReduceOnPlateauOptions options{.lr = 1.0, .factor = 0.5, .patience = 2, .cooldown = 3};
  ReduceOnPlateau first(options);
  for (const double metric : {3.0, 3.0, 3.0, 3.0, 2.0, 2.0}) first.step(metric);
  std::vector<double> values;
  ReduceOnPlateau::visit_state(std::as_const(first),
                               [&](auto, const auto& value) { values.push_back(static_cast<double>(value)); });
  REQUIRE(values.size() == 4);
  ReduceOnPlateau second(options);
  std::size_t next = 0;
  ReduceOnPlateau::visit_state(second, [&](auto, auto& value) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(values[next++]);
  });
  for (int i = 0; i < 20; ++i) {
    first.step(2.0);
    second.step(2.0);
    CHECK(second.lr() == first.lr());
    CHECK(second.bad_metrics() == first.bad_metrics());
  }
  CHECK(first.lr() < 0.5);
}

TEST_CASE("Cosine rises, then falls by half a cosine, then stays") {
  const Cosine schedule({.lr = 1.0, .warmup_steps = 4, .total_steps = 12, .min_lr = 0.2});
  CHECK(schedule.lr(0) == 0.25);
  CHECK(schedule.lr(3) == 1.0);
  CHECK(schedule.lr(4) == 1.0);
  CHECK(schedule.lr(6) == doctest::Approx(0.2 + 0.8 * 0.85355339059327).epsilon(1e-13));  // (1 + cos 45 degrees) / 2
  CHECK(schedule.lr(8) == doctest::Approx(0.6).epsilon(1e-14));
  CHECK(schedule.lr(11) > 0.2);
  CHECK(schedule.lr(12) == 0.2);
  CHECK(schedule.lr(1000) == 0.2);
  CHECK(Cosine({.lr = 2.0, .total_steps = 1}).lr(0) == 2.0);
  CHECK(Cosine({.lr = 2.0, .warmup_steps = 2, .total_steps = 2}).lr(1) == 2.0);
}

TEST_CASE("WarmupStableDecay rises, stays, falls in a line") {
  const WarmupStableDecay schedule({.lr = 1.0, .warmup_steps = 4, .decay_steps = 5, .total_steps = 20, .min_lr = 0.5});
  CHECK(schedule.lr(0) == 0.25);
  CHECK(schedule.lr(3) == 1.0);
  CHECK(schedule.lr(10) == 1.0);
  CHECK(schedule.lr(15) == 1.0);
  CHECK(schedule.lr(16) == doctest::Approx(0.9).epsilon(1e-14));
  CHECK(schedule.lr(19) == doctest::Approx(0.6).epsilon(1e-14));
  CHECK(schedule.lr(20) == 0.5);
  CHECK(schedule.lr(21) == 0.5);
  const WarmupStableDecay constant({.lr = 1.0, .total_steps = 10});
  CHECK(constant.lr(0) == 1.0);
  CHECK(constant.lr(9) == 1.0);
}

TEST_CASE("schedules say which option is wrong") {
  CHECK(error_of([] { ReduceOnPlateau({}); }) == "[ReduceOnPlateau] lr must be positive and finite: 0");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .factor = 1.0}); }) ==
        "[ReduceOnPlateau] factor must be at least 0 and less than 1: 1");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .patience = -1}); }) ==
        "[ReduceOnPlateau] patience must not be negative: -1");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .threshold = not_a_number}); }) ==
        "[ReduceOnPlateau] threshold must be at least 0 and less than 1: nan");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .cooldown = -2}); }) ==
        "[ReduceOnPlateau] cooldown must not be negative: -2");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .min_lr = -1.0}); }) ==
        "[ReduceOnPlateau] min_lr must be finite and not negative: -1");
  CHECK(error_of([] { ReduceOnPlateau({.lr = 1.0, .eps = -1.0}); }) ==
        "[ReduceOnPlateau] eps must not be negative: -1");
  CHECK(error_of([] { Cosine({.lr = 1.0, .total_steps = 0}); }) ==
        "[Cosine] total_steps must be positive and have room for 0 steps of warm-up and 0 of decay: 0");
  CHECK(error_of([] { Cosine({.lr = 1.0, .total_steps = 9, .min_lr = 2.0}); }) ==
        "[Cosine] min_lr must lie between 0 and lr = 1: 2");
  CHECK(error_of([] { Cosine({.lr = not_a_number, .total_steps = 9}); }) ==
        "[Cosine] lr must be positive and finite: nan");
  CHECK(error_of([] { WarmupStableDecay({.lr = 1.0, .warmup_steps = 4, .decay_steps = 7, .total_steps = 10}); }) ==
        "[WarmupStableDecay] total_steps must be positive and have room for 4 steps of warm-up and 7 of decay: 10");
  CHECK(error_of([] { WarmupStableDecay({.lr = 1.0, .warmup_steps = -4, .total_steps = 10}); }) ==
        "[WarmupStableDecay] warmup_steps must not be negative: -4");
}
