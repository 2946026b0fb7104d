// SPDX-License-Identifier: MIT
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/embedding.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;
using nn::AddedPositions;

constexpr index_t vocab_size = 11;
constexpr index_t width = 9;
constexpr index_t max_len = 8;

nn::EmbeddingOptions options(AddedPositions positions, bool scale, double dropout) {
  return {.vocab_size = vocab_size,
          .width = width,
          .max_len = max_len,
          .positions = positions,
          .scale = scale,
          .dropout = dropout};
}

TEST_CASE("sinusoidal positions by the paper's formula") {
  const Cpu cpu;
  const auto table = nn::sinusoidal_positions<double>(5, 7, cpu);  // an odd width ends with a sine
  for (index_t p = 0; p < 5; ++p) {
    for (index_t i = 0; i < 7; ++i) {
      const double angle = static_cast<double>(p) / std::pow(10000.0, static_cast<double>(i / 2 * 2) / 7.0);
      CHECK(std::abs(table.matrix()(p, i) - (i % 2 == 0 ? std::sin(angle) : std::cos(angle))) < 1e-14);
    }
  }
}

TEST_CASE("the sum of scaled token and position, dropped, and its gradient by differences") {
  const test::TrainingPass training({1, 0, 7, 2}, vocab_size);
  for (const AddedPositions positions : {AddedPositions::none, AddedPositions::sinusoidal, AddedPositions::learned}) {
    for (const bool scale : {false, true}) {
      for (const double dropout : {0.0, 0.1}) {
        CAPTURE(static_cast<int>(positions));
        CAPTURE(scale);
        CAPTURE(dropout);
        nn::Embedding<double, Cpu> embedding(options(positions, scale, dropout), training.cpu);
        auto store = nn::allocate<double>(embedding, training.cpu, nn::Gradients::yes);
        test::randomise(embedding);
        auto cache = embedding.make_cache(training.cpu, training.capacity());
        const auto forward = [&] { return test::rows_to_host(embedding.forward(training.pass, cache), training.cpu); };

        const auto sinusoids = nn::sinusoidal_positions<double>(max_len, width, training.cpu);
        std::vector<double> expected;
        for (index_t t = 0; t < training.tokens(); ++t) {
          for (index_t c = 0; c < width; ++c) {
            const index_t position = training.pass.batch.positions[t];
            const double token = embedding.weight.value()(training.pass.batch.ids[t], c) * (scale ? 3.0 : 1.0);
            const double added = positions == AddedPositions::sinusoidal ? sinusoids.matrix()(position, c)
                                 : positions == AddedPositions::learned  ? embedding.positions->value()(position, c)
                                                                         : 0.0;
            expected.push_back(token + added);
          }
        }
        expected = test::dropped(expected, width, {dropout, nn::DropoutSites::embedding}, training.pass);
        CHECK(test::relative_difference(forward(), expected) <= Case::tolerance);

        const auto dy = test::random<Case>({training.tokens(), width}, 4, training.cpu);
        embedding.backward(dy.matrix(), training.pass);
        test::check_parameter_differences<Case>(embedding, [&] { return test::weighted_sum(forward(), dy.to_host()); });
        const auto once = test::gradients_of(embedding);
        CHECK(once.size() == (positions == AddedPositions::learned ? 2 : 1));
        embedding.backward(dy.matrix(), training.pass);  // adds
        const auto twice = test::gradients_of(embedding);
        for (std::size_t i = 0; i < once.size(); ++i) {
          auto sum = once[i].second;
          for (auto& g : sum) g *= 2;
          CHECK(test::relative_difference(twice[i].second, sum) <= Case::tolerance);
        }
      }
    }
  }
}

TEST_CASE("ids and sequences without a row in their table are refused") {
  const Cpu cpu;
  nn::Embedding<double, Cpu> embedding(options(AddedPositions::learned, false, 0.0), cpu);
  auto store = nn::allocate<double>(embedding, cpu, nn::Gradients::no);
  const auto forward = [&](const std::vector<token_t>& ids, index_t first_position = 0) {
    Packed<Cpu> batch({.tokens = 20, .sequences = 2, .longest = 20}, cpu);
    batch.append(ids, {}, 0, first_position);
    const Pass<Cpu> pass{.device = cpu, .batch = batch.view()};
    auto cache = embedding.make_cache(cpu, batch.capacity());
    static_cast<void>(embedding.forward(pass, cache));
  };
  forward({0, 10, 5, 5, 5, 5, 5, 5});
  CHECK_THROWS_WITH_AS(forward({3, 11}), "[embedding] id 1 is 11, expected less than 11 and not negative", ShapeError);
  CHECK_THROWS_WITH_AS(forward({-1}), "[embedding] id 0 is -1, expected less than 11 and not negative", ShapeError);
  CHECK_THROWS_WITH_AS(forward(std::vector<token_t>(9, 1)),
                       "[embedding] the longest sequence has 9 tokens, positions are for 8", ShapeError);
  CHECK_THROWS_WITH_AS(forward({1, 2}, 7), "[embedding] position 1 is 8, expected less than 8 and not negative",
                       ShapeError);
}

}  // namespace
