// SPDX-License-Identifier: MIT
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/generate/sampler.hpp>

namespace {

using namespace storylm;
using Draw = Sampler<Cpu>::Draw;

TEST_CASE("policies have names") {
  CHECK(sampling_policy("softmax") == SamplingPolicy::softmax);
  CHECK(sampling_policy("logits-as-weights") == SamplingPolicy::logits_as_weights);
  CHECK(sampling_policy("inverse-temperature") == SamplingPolicy::inverse_temperature);
  CHECK_THROWS_WITH_AS(static_cast<void>(sampling_policy("greedy")),
                       "[sampling_policy] there is no policy \"greedy\"; known are softmax, logits-as-weights and "
                       "inverse-temperature",
                       ArgumentError);
}

TEST_CASE("the repetition penalty sees the prompt and every token drawn since, of its own story only") {
  Sampler<Cpu> sampler({.temperature = 0.0, .repetition_penalty = 10.0}, {}, 2, 8, Cpu{});
  sampler.begin(0, std::vector<token_t>{2, 2});
  sampler.begin(1, std::vector<token_t>{0});
  const std::vector<float> rows{4.0F, 3.0F, 9.0F, 1.0F,   // story in slot 0: 2 is penalised
                                4.0F, 3.0F, 9.0F, 1.0F};  // story in slot 1: 0 is
  const MatrixView<const float> logits(rows.data(), 2, 4);
  const auto step = [&](std::int32_t i) {
    const auto drawn =
        sampler.sample(logits, std::vector<Draw>{{.story = 7, .position = 1 + i, .slot = 1},  // rows in another order
                                                 {.story = 6, .position = 2 + i, .slot = 0}});
    return std::vector<token_t>(drawn.begin(), drawn.end());
  };
  CHECK(step(0) == std::vector<token_t>{2, 0});
  CHECK(step(1) == std::vector<token_t>{1, 1});
  CHECK(step(2) == std::vector<token_t>{3, 3});
  CHECK(step(3) == std::vector<token_t>{2, 2});  // all are penalised now
  sampler.begin(1, std::vector<token_t>{3});     // another story in the slot: the first one's tokens are forgotten
  CHECK(step(0)[0] == 2);
}

TEST_CASE("banned ids are never drawn; negative ones stand for tokens that do not exist") {
  const std::vector<token_t> banned{-1, 0, 2};
  Sampler<Cpu> sampler({.temperature = 0.0}, banned, 1, 4, Cpu{});
  const std::vector<float> row{9.0F, 1.0F, 8.0F, 2.0F};
  const auto drawn = sampler.sample(MatrixView<const float>(row.data(), 1, 4), std::vector<Draw>{{}});
  CHECK(std::vector<token_t>(drawn.begin(), drawn.end()) == std::vector<token_t>{3});
}

TEST_CASE("what does not fit is refused") {
  CHECK_THROWS_AS((Sampler<Cpu>({.temperature = -1.0}, {}, 1, 4, Cpu{})), ArgumentError);
  CHECK_THROWS_AS((Sampler<Cpu>({}, {}, 0, 4, Cpu{})), ArgumentError);
  CHECK_THROWS_AS((Sampler<Cpu>({}, {}, 1, 0, Cpu{})), ArgumentError);
  Sampler<Cpu> sampler({}, {}, 1, 4, Cpu{});
  CHECK_THROWS_AS(sampler.begin(1, std::vector<token_t>{1}), ShapeError);
  CHECK_THROWS_AS(sampler.begin(0, std::vector<token_t>(5, 1)), ShapeError);
  std::vector<float> row{0.0F, 1.0F};
  const MatrixView<const float> logits(row.data(), 1, 2);
  CHECK_THROWS_AS(static_cast<void>(sampler.sample(logits, std::vector<Draw>(2))), ShapeError);
  CHECK_THROWS_AS(static_cast<void>(sampler.sample(logits, std::vector<Draw>{{.position = 4}})), ShapeError);
  row[0] = std::numeric_limits<float>::quiet_NaN();
  std::string message;
  try {
    static_cast<void>(sampler.sample(logits, std::vector<Draw>{{.story = 12, .position = 3}}));
  } catch (const ArgumentError& error) {
    message = error.what();
  }
  CHECK(message.find("position 3 of story 12") != std::string::npos);
}

}  // namespace
