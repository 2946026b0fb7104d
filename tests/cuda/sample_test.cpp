// SPDX-License-Identifier: MIT
// TIMEOUT: 300
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <storylm/ops/sample.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Rows of logits and what the stories behind them have so far.
struct Rows {
  index_t count = 0;
  index_t vocab = 0;
  std::vector<double> logits;                 // (count, vocab)
  std::vector<std::vector<token_t>> stories;  // (count)
  std::vector<token_t> banned;

  [[nodiscard]] index_t capacity() const {
    std::size_t longest = 0;
    for (const auto& story : stories) longest = std::max(longest, story.size());
    return static_cast<index_t>(longest) + 1;
  }
};

/// Rows of logits that `value` makes, and stories of up to 9 of their tokens.
template <class T>
Rows make_rows(index_t count, index_t vocab, std::uint64_t seed, const std::function<double(RandomStream&)>& value) {
  RandomStream random(seed, 0, 0x5A);
  Rows rows{.count = count, .vocab = vocab, .logits = {}, .stories = {}, .banned = {}};
  for (index_t i = 0; i < count * vocab; ++i) rows.logits.push_back(test::rounded<T>(value(random)));
  for (index_t r = 0; r < count; ++r) {
    rows.stories.emplace_back(random.below(10));
    for (token_t& id : rows.stories.back()) id = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab)));
  }
  return rows;
}

/// The tokens, and the stories afterwards.
struct Drawn {
  std::vector<token_t> tokens;
  std::vector<token_t> history;
  friend bool operator==(const Drawn&, const Drawn&) = default;
};

/// By the kernel of a device, without the checks of ops/ that throw where nothing can be drawn. Rows lie `stride`
/// apart.
template <class T, Device D>
Drawn draw(const D& device, const Rows& rows, const SamplerOptions& options, index_t stride = 0) {
  stride = std::max(stride, rows.vocab);
  const index_t capacity = rows.capacity();
  std::vector<T> logits(static_cast<std::size_t>(rows.count * stride), T(static_cast<float>(infinity)));
  std::vector<token_t> history(static_cast<std::size_t>(rows.count * capacity), 0);
  std::vector<std::uint32_t> numbers;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;
  for (index_t r = 0; r < rows.count; ++r) {
    for (index_t c = 0; c < rows.vocab; ++c) {
      const double x = rows.logits[static_cast<std::size_t>(r * rows.vocab + c)];
      if constexpr (std::is_same_v<T, double>) {
        logits[static_cast<std::size_t>(r * stride + c)] = x;
      } else {
        logits[static_cast<std::size_t>(r * stride + c)] = T(static_cast<float>(x));
      }
    }
    const auto& story = rows.stories[static_cast<std::size_t>(r)];
    slots.push_back(static_cast<std::int32_t>(rows.count - 1 - r));
    std::copy(story.begin(), story.end(), history.begin() + slots.back() * capacity);
    positions.push_back(static_cast<std::int32_t>(story.size()));
    numbers.push_back(100 + static_cast<std::uint32_t>(r));
  }
  const auto x = Tensor<T, D>::from_host({rows.count, stride}, logits, device);
  auto h = Tensor<token_t, D>::from_host({rows.count, capacity}, history, device);
  const auto n = Tensor<std::uint32_t, D>::from_host({rows.count}, numbers, device);
  const auto p = Tensor<std::int32_t, D>::from_host({rows.count}, positions, device);
  const auto s = Tensor<std::int32_t, D>::from_host({rows.count}, slots, device);
  Tensor<token_t, D> banned;
  if (!rows.banned.empty())
    banned = Tensor<token_t, D>::from_host({static_cast<index_t>(rows.banned.size())}, rows.banned, device);
  Tensor<token_t, D> out({rows.count}, device);
  kernel<op::sample, D, T>::run(device, out.data(), MatrixView<const T>(x.data(), rows.count, rows.vocab, stride),
                                {.options = options,
                                 .banned = banned.data(),
                                 .banned_count = banned.size(),
                                 .stories = n.data(),
                                 .positions = p.data(),
                                 .history = h.data(),
                                 .capacity = capacity,
                                 .slots = s.data()});
  return {out.to_host(), h.to_host()};
}

template <class T>
void same_as_cpu(const Rows& rows, const SamplerOptions& options, index_t stride = 0) {
  CAPTURE(rows.vocab);
  CAPTURE(options.temperature);
  CAPTURE(options.top_k);
  CAPTURE(options.top_p);
  CAPTURE(options.min_p);
  CAPTURE(options.repetition_penalty);
  const Drawn expected = draw<double>(Cpu{}, rows, options);
  const Drawn actual = draw<T>(test::cuda_device(), rows, options, stride);
  CHECK(actual.tokens == expected.tokens);
  CHECK(actual.history == expected.history);
}

double normal(RandomStream& random) { return 3.0 * random.normal(); }
/// With many equal ones.
double coarse(RandomStream& random) { return std::round(4.0 * random.normal()) / 2.0; }

TEST_CASE_TEMPLATE("thousands of draws are the CPU's, for every policy and filter", T, STORYLM_CUDA_DTYPES) {
  RandomStream random(11);
  const auto pick = [&](std::initializer_list<double> values) { return values.begin()[random.below(values.size())]; };
  for (int round = 0; round < 90; ++round) {
    const auto vocab = static_cast<index_t>(1 + random.below(round % 3 == 0 ? 20 : 700));
    Rows rows = make_rows<T>(12, vocab, random.bits(), round % 2 == 0 ? normal : coarse);
    for (int i = 0; vocab > 4 && i < 3; ++i)
      rows.banned.push_back(static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab))));
    const SamplerOptions options{.temperature = pick({0.0, 0.3, 1.0, 2.5, 50.0}),
                                 .top_k = static_cast<index_t>(pick({0, 0, 1, 2, 7, 64, 150, 400})),
                                 .top_p = pick({0.3, 0.9, 1.0, 1.0}),
                                 .min_p = pick({0.0, 0.0, 0.07}),
                                 .repetition_penalty = pick({1.0, 1.3, 0.8}),
                                 .policy = static_cast<SamplingPolicy>(random.below(3)),
                                 .seed = random.bits()};
    same_as_cpu<T>(rows, options, round % 4 == 1 ? vocab + 3 : vocab);
  }
}

TEST_CASE("rows far from the usual: flat, steep, equal, with gaps, of one token, of many") {
  using T = float;
  const auto row = [](index_t vocab, const std::function<double(index_t)>& value) {
    Rows rows{.count = 3, .vocab = vocab, .logits = {}, .stories = {{}, {0}, {0, 0}}, .banned = {}};
    for (index_t i = 0; i < 3 * vocab; ++i) rows.logits.push_back(test::rounded<T>(value(i % vocab)));
    return rows;
  };
  const auto small = [](index_t i) { return 1e-3 * static_cast<double>(i); };
  const std::vector<Rows> all{
      row(1, [](index_t) { return -4.0; }),
      row(700, [](index_t) { return 1.5; }),                                   // all equal, more than a chunk
      row(700, [](index_t i) { return i == 31 ? 3e38 : -3e38; }),              // differences overflow a float
      row(900, [&](index_t i) { return i % 3 == 0 ? -infinity : small(i); }),  // a line
      row(600, [](index_t i) { return i < 300 ? 0.0 : -0.0; }),                // equal, with other bits
      row(800, [&](index_t i) { return i == 5 ? -1e30 : small(i % 7); }),      // an outlier below
      row(800, [&](index_t i) { return i == 5 ? 1e30 : 1e-30 * small(i % 2); }),
      row(513, [](index_t i) { return i % 2 == 0 ? -1.0 : -2.0; }),  // none positive
      row(600, [](index_t i) { return std::ldexp(1.0, static_cast<int>(i % 250) - 125); })};
  for (const Rows& rows : all) {
    for (const auto policy :
         {SamplingPolicy::softmax, SamplingPolicy::logits_as_weights, SamplingPolicy::inverse_temperature}) {
      for (const SamplerOptions& options :
           {SamplerOptions{.policy = policy}, SamplerOptions{.temperature = 0.0, .policy = policy},
            SamplerOptions{.top_k = 290, .top_p = 0.8, .policy = policy},
            SamplerOptions{.top_p = 0.6, .repetition_penalty = 1.5, .policy = policy},
            SamplerOptions{.temperature = 1e-300, .min_p = 0.5, .policy = policy}})
        same_as_cpu<T>(rows, options);
    }
  }
}

TEST_CASE_TEMPLATE("a vocabulary of thousands", T, STORYLM_CUDA_DTYPES) {
  Rows rows = make_rows<T>(4, 5120, 3, normal);
  rows.banned = {0, 1, 3, 5119};
  for (const SamplerOptions& options :
       {SamplerOptions{}, SamplerOptions{.temperature = 3.0}, SamplerOptions{.top_k = 50, .repetition_penalty = 1.1},
        SamplerOptions{.temperature = 1.5, .top_p = 0.95}, SamplerOptions{.temperature = 0.0}})
    same_as_cpu<T>(rows, options);
}

TEST_CASE_TEMPLATE("rows that cannot be drawn from say so and leave the others alone", T, STORYLM_CUDA_DTYPES) {
  Rows rows = make_rows<T>(5, 300, 9, normal);
  const auto at = [&](index_t r, index_t c) -> double& { return rows.logits[static_cast<std::size_t>(r * 300 + c)]; };
  at(0, 7) = not_a_number;
  at(2, 299) = infinity;
  for (index_t c = 0; c < 300; ++c) at(3, c) = c == 4 ? 1.0 : -infinity;
  rows.banned = {4};
  const Drawn drawn = draw<T>(test::cuda_device(), rows, {.repetition_penalty = 1.2});
  CHECK(drawn.tokens == draw<double>(Cpu{}, rows, {.repetition_penalty = 1.2}).tokens);
  CHECK(drawn.tokens[0] == no_sample);
  CHECK(drawn.tokens[2] == no_sample);
  CHECK(drawn.tokens[3] == no_sample);
  CHECK(drawn.tokens[1] >= 0);
  CHECK(drawn.tokens[4] >= 0);
  at(4, 4) = infinity;  // a banned token's, too
  CHECK(draw<T>(test::cuda_device(), rows, {}).tokens[4] == no_sample);
}

TEST_CASE("tokens are the same in every schedule, and a row's whatever the others are") {
  const Rows rows = make_rows<bf16>(6, 600, 21, coarse);
  const SamplerOptions options{.temperature = 2.0, .top_k = 300, .top_p = 0.97, .repetition_penalty = 1.1};
  const Drawn expected = draw<bf16>(test::cuda_device(), rows, options);
  test::for_each_schedule([&](unsigned) { CHECK(draw<bf16>(test::cuda_device(), rows, options) == expected); });
  Rows changed = rows;
  for (std::size_t i = 600; i < changed.logits.size(); ++i) changed.logits[i] = -changed.logits[i];
  const Drawn other = draw<bf16>(test::cuda_device(), changed, options);
  CHECK(other.tokens[0] == expected.tokens[0]);
  CHECK(other.tokens != expected.tokens);
}

TEST_CASE_TEMPLATE("stories advance as on the CPU", T, STORYLM_CUDA_DTYPES) {
  constexpr index_t rows = 300;  // more than a block has threads
  constexpr index_t steps = 3;
  struct State {
    std::vector<token_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> next;
    std::vector<token_t> drawn;
    std::vector<std::int32_t> step;
    bool operator==(const State&) const = default;
  };
  const auto run = [&]<class D, class Real>(const D& device, Real) {
    std::vector<std::int32_t> zeros(rows, 0);
    std::vector<std::int32_t> next(rows);
    for (index_t r = 0; r < rows; ++r) next[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(r % 7);
    auto ids = Tensor<token_t, D>::from_host({rows}, zeros, device);
    auto positions = Tensor<std::int32_t, D>::from_host({rows}, zeros, device);
    auto following = Tensor<std::int32_t, D>::from_host({rows}, next, device);
    Tensor<token_t, D> drawn({steps, rows}, device);
    Tensor<std::int32_t, D> step({1}, device);
    const StoryRows stories{.ids = ids.data(),
                            .positions = positions.data(),
                            .next = following.data(),
                            .drawn = drawn.data(),
                            .step = step.data(),
                            .rows = rows,
                            .last = 6};
    for (index_t s = 0; s < steps; ++s) {
      std::vector<token_t> tokens(rows);
      for (index_t r = 0; r < rows; ++r)
        tokens[static_cast<std::size_t>(r)] = (r + s) % 5 == 0 ? no_sample : static_cast<token_t>(10 * r + s);
      const auto out = Tensor<token_t, D>::from_host({rows}, tokens, device);
      ops::advance_stories<Real>(device, stories, std::span<const token_t>(out.data(), tokens.size()));
    }
    return State{ids.to_host(), positions.to_host(), following.to_host(), drawn.to_host(), step.to_host()};
  };
  const State expected = run(Cpu{}, 0.0);
  CHECK(expected.step[0] == steps);
  test::for_each_schedule([&](unsigned) { CHECK(run(test::cuda_device(), T{}) == expected); });
}

}  // namespace
