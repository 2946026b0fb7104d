// SPDX-License-Identifier: MIT
#include <cstdint>
#include <set>

#include <doctest/doctest.h>

#include <storylm/nn/dropout.hpp>

namespace {
using namespace storylm;
using Sites = nn::DropoutSites;

TEST_CASE("what a kernel is told: probability, seed, site and step in training, nothing outside of it") {
  StepState state;
  const Pass<Cpu> training{.device = Cpu{}, .batch = {}, .state = &state, .seed = 77, .training = true};
  const DropoutSpec spec = nn::Dropout{0.25, 6}.in(training);
  CHECK(spec.active());
  CHECK(spec.probability == 0.25);
  CHECK(spec.seed == 77);
  CHECK(spec.site == 6);
  CHECK(spec.state == &state);
  CHECK_FALSE(nn::Dropout{0.0, 6}.in(training).active());
  CHECK_FALSE(nn::Dropout{0.25, 6}.in(Pass<Cpu>{.device = Cpu{}, .batch = {}, .state = &state}).active());
}

TEST_CASE("dropout without a step to take its masks from is refused, and not left out") {
  const Pass<Cpu> pass{.device = Cpu{}, .batch = {}, .training = true};
  CHECK_FALSE(nn::Dropout{}.in(pass).active());
  CHECK_THROWS_WITH_AS(static_cast<void>(nn::Dropout{0.25, 6}.in(pass)),
                       "[Dropout] a training pass needs a StepState: masks depend on the step", ArgumentError);
}

TEST_CASE("every use of dropout in a model has a site of its own") {
  std::set<std::uint32_t> sites = {Sites::embedding};
  for (std::uint32_t block = 0; block < 100; ++block) {
    for (const auto site : {Sites::attention(block), Sites::attention_branch(block), Sites::hidden(block),
                            Sites::feed_forward_branch(block)})
      CHECK(sites.insert(site).second);
  }
}

}  // namespace
