// SPDX-License-Identifier: MIT
/// @file
/// @brief Judges: windows against their definition, scores against logits and logarithms written out, the same bits in
/// any company, and what is not computed.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <storylm/evaluate/judge.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "io_support.hpp"
#include "support.hpp"

using namespace storylm;
using evaluate::Denominator;
using evaluate::JudgePolicy;
using evaluate::JudgeStory;
using evaluate::JudgeWindow;
using evaluate::StoryScore;
using test::to_double;

namespace {

constexpr TransformerConfig config = {
    .vocab_size = 61, .d_model = 32, .d_ff = 80, .n_layers = 2, .n_heads = 2, .max_len = 96};
template <class T>
using Stack = nn::TransformerStack<T, Cpu, nn::LayerNorm, nn::Mlp>;

/// A random model whose probabilities are far from uniform.
template <class T>
Stack<T> make_stack(int threads = 1) {
  Stack<T> stack(config, Cpu({.threads = threads}), {.seed = 4}, nn::Gradients::no);
  auto weight = stack.head.weight->to_host();
  for (auto& w : weight) w *= 3;
  stack.head.weight->assign(weight);
  return stack;
}

JudgeStory random_story(index_t length, std::uint64_t seed) {
  RandomStream random(seed, 0, 0x7E57);
  JudgeStory story{.ids = std::vector<token_t>(static_cast<std::size_t>(length)), .bytes = 3 * length};
  for (auto& id : story.ids) id = static_cast<token_t>(random.below(config.vocab_size));
  return story;
}
std::vector<JudgeStory> random_stories(const std::vector<index_t>& lengths) {
  std::vector<JudgeStory> stories;
  for (const index_t length : lengths) stories.push_back(random_story(length, stories.size()));
  return stories;
}
const std::vector<index_t> lengths{5, 200, 1, 0, 96, 97, 30, 2, 64, 150, 7};

/// -log softmax of the last row of logits at `target`: the whole model, one prediction.
double loss_of(const Stack<float>& stack, std::vector<token_t> ids, token_t target) {
  const auto length = static_cast<index_t>(ids.size());
  Packed<Cpu> batch({.tokens = length, .sequences = 1, .longest = length}, Cpu{});
  batch.append(ids, {}, 0);
  auto cache = stack.make_inference_cache(batch.capacity());
  const Pass<Cpu> pass{.device = stack.device(), .batch = batch.view()};
  Tensor<float, Cpu> logits({1, config.vocab_size}, stack.device());
  stack.logits(stack.hidden(pass, cache).slice_rows(length - 1, 1), logits.matrix(), pass);
  const auto row = logits.to_host();
  double sum = 0.0;
  for (const float logit : row) sum += std::exp(static_cast<double>(logit));
  return std::log(sum) - static_cast<double>(row[static_cast<std::size_t>(target)]);
}

/// The loop of the perplexity guide of transformers, over one sequence, in windows instead of losses.
std::vector<JudgeWindow> guide_windows(index_t seq_len, index_t max_length, index_t stride) {
  std::vector<JudgeWindow> windows;
  index_t prev_end_loc = 0;
  for (index_t begin_loc = 0; begin_loc < seq_len; begin_loc += stride) {
    const index_t end_loc = std::min(begin_loc + max_length, seq_len);
    const index_t trg_len = end_loc - prev_end_loc;
    const index_t width = end_loc - begin_loc;
    const index_t first_label = std::max<index_t>(0, width - trg_len);
    const index_t valid = width - first_label;
    // Label 0 of a window is nobody's target: the model shifts labels by one.
    const index_t first = begin_loc + std::max<index_t>(1, first_label) - 1;
    if (first < end_loc - 1) windows.push_back({begin_loc, end_loc - 1, first, valid - 1});
    prev_end_loc = end_loc;
    if (end_loc == seq_len) break;
  }
  return windows;
}

TEST_CASE("windows: every token behind the first is predicted once, with the context that was promised") {
  for (index_t context = 1; context <= 9; ++context) {
    for (index_t stride = 1; stride <= context; ++stride) {
      for (index_t tokens = 0; tokens <= 40; ++tokens) {
        CAPTURE(context);
        CAPTURE(stride);
        CAPTURE(tokens);
        const JudgePolicy policy = evaluate::resolved({.context = context, .stride = stride}, 9);
        index_t next = 0;
        index_t at = 0;
        for (const JudgeWindow& window : evaluate::judge_windows(tokens, policy)) {
          CHECK(window.begin == at);
          CHECK(window.first == next);
          CHECK(window.scored() > 0);
          CHECK(window.counted == window.scored());
          CHECK(window.end - window.begin <= context);
          CHECK(window.first - window.begin + 1 >= std::min(window.first + 1, context - stride + 1));
          next = window.end;
          at += stride;
        }
        CHECK(next == std::max<index_t>(0, tokens - 1));
      }
    }
  }
}

TEST_CASE("windows of the guide are those of its loop") {
  for (index_t context = 2; context <= 9; ++context) {
    for (index_t stride = 1; stride <= context; ++stride) {
      for (index_t tokens = 0; tokens <= 40; ++tokens) {
        CAPTURE(context);
        CAPTURE(stride);
        CAPTURE(tokens);
        const JudgePolicy policy = evaluate::resolved(
            {.context = context, .stride = stride, .denominator = Denominator::transformers_guide}, 9);
        CHECK((evaluate::judge_windows(tokens, policy) == guide_windows(tokens, context, stride)));
      }
    }
  }
}

TEST_CASE("policies: defaults, refusals and words") {
  CHECK((evaluate::resolved({}, 96) == JudgePolicy{.context = 96, .stride = 48}));
  CHECK((evaluate::resolved({.context = 7}, 96) == JudgePolicy{.context = 7, .stride = 3}));
  CHECK((evaluate::resolved({}, 1) == JudgePolicy{.context = 1, .stride = 1}));
  const auto refused = [](const JudgePolicy& policy, const std::string& why) {
    CHECK(
        test::contains(test::error_of<ArgumentError>([&] { static_cast<void>(evaluate::resolved(policy, 96)); }), why));
  };
  refused({.context = 97}, "context must be in [1, 96]: 97");
  refused({.context = -1}, "context must be in [1, 96]: -1");
  refused({.context = 1, .denominator = Denominator::transformers_guide}, "context must be in [2, 96]: 1");
  refused({.context = 8, .stride = 9}, "stride must be in [1, 8], the context: 9");
  refused({.stride = -1}, "stride must be in [1, 96], the context: -1");
  refused({.bos = true}, "there is none: its id is -1");
  const std::string with =
      evaluate::words(evaluate::resolved({.context = 40, .stride = 10, .bos = true, .bos_id = 1}, 96));
  CHECK(test::contains(with, "BOS (id 1) before every story"));
  CHECK(test::contains(with, "windows of 40 that advance by 10"));
  CHECK(test::contains(with, "every predicted token"));
  const std::string without = evaluate::words(evaluate::resolved({.denominator = Denominator::transformers_guide}, 96));
  CHECK(test::contains(without, "no BOS"));
  CHECK(test::contains(without, "denominator of the Hugging Face perplexity guide"));
}

TEST_CASE("scores are sums of -log softmax(logits)[next], with BOS and without, in windows") {
  const auto stack = make_stack<float>();
  const auto stories = random_stories({5, 50, 1, 0, 23});
  for (const bool bos : {false, true}) {
    const JudgePolicy policy{.context = 20, .stride = 7, .bos = bos, .bos_id = 1};
    evaluate::Judge judge(stack, policy);
    const auto scores = judge.score(stories);
    REQUIRE(scores.size() == stories.size());
    for (std::size_t i = 0; i < stories.size(); ++i) {
      CAPTURE(bos);
      CAPTURE(i);
      std::vector<token_t> ids = stories[i].ids;
      if (bos && !ids.empty()) ids.insert(ids.begin(), 1);
      double nll = 0.0;
      for (std::size_t t = 1; t < ids.size(); ++t) {
        // The first window, 7 tokens behind the last, that reads the token before t.
        const std::size_t begin = t <= 20 ? 0 : (t - 20 + 6) / 7 * 7;
        nll += loss_of(stack,
                       {ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(t)},
                       ids[t]);
      }
      const auto count = static_cast<index_t>(ids.empty() ? 0 : ids.size() - 1);
      CHECK(scores[i].tokens == count);
      CHECK(scores[i].targets == count);
      CHECK(scores[i].bytes == (count > 0 ? stories[i].bytes : 0));
      CHECK(std::abs(scores[i].nll - nll) <= 2e-6 * nll);
      CHECK((count == 0) == (scores[i].nll == 0.0));
    }
  }
}

TEST_CASE("the guide's denominator: a window's mean loss times what it counts") {
  const auto stack = make_stack<float>();
  const auto stories = random_stories({50});
  const JudgePolicy policy{.context = 20, .stride = 7, .denominator = Denominator::transformers_guide};
  const auto score = evaluate::Judge(stack, policy).score(stories)[0];
  double nll = 0.0;
  index_t tokens = 0;
  for (const JudgeWindow& window : guide_windows(50, 20, 7)) {
    double sum = 0.0;
    const auto at = [&](index_t i) { return stories[0].ids.begin() + i; };
    for (index_t i = window.first; i < window.end; ++i)
      sum += loss_of(stack, {at(window.begin), at(i + 1)}, *at(i + 1));
    nll += sum / static_cast<double>(window.scored()) * static_cast<double>(window.counted);
    tokens += window.counted;
  }
  CHECK(tokens == 44);  // of 49: five windows behind the first
  CHECK(score.tokens == tokens);
  CHECK(score.targets == 49);
  CHECK(std::abs(score.nll - nll) <= 2e-6 * nll);
}

template <class T>
void same_in_any_company() {
  const auto stack = make_stack<T>();
  const auto stories = random_stories(lengths);
  const JudgePolicy policy{.stride = 40, .bos = true, .bos_id = 1};
  const auto expected = evaluate::Judge(stack, policy).score(stories);
  for (const index_t batch_tokens : {1, 97, 300}) {
    CAPTURE(batch_tokens);
    CHECK((evaluate::Judge(stack, policy, {.batch_tokens = batch_tokens}).score(stories) == expected));
  }
  evaluate::Judge judge(stack, policy);  // one after another, memory growing on the way
  for (std::size_t i = 0; i < stories.size(); ++i) {
    CAPTURE(i);
    CHECK(judge.score(std::vector{stories[i]})[0] == expected[i]);
  }
  auto backwards = stories;
  std::reverse(backwards.begin(), backwards.end());
  auto scores = judge.score(backwards);
  std::reverse(scores.begin(), scores.end());
  CHECK((scores == expected));
  CHECK((evaluate::Judge(make_stack<T>(3), policy).score(stories) == expected));
  CHECK(std::set<double>{expected[0].nll, expected[1].nll, expected[4].nll}.size() == 3);
}

TEST_CASE("a story's score has the same bits alone and in any batch, order, and with any number of threads") {
  same_in_any_company<float>();
  same_in_any_company<bf16>();
}

TEST_CASE("bf16: near float, though weights and activations are rounded; losses are not") {
  const auto stories = random_stories(lengths);
  const auto stack = make_stack<bf16>();
  const auto scores = evaluate::Judge(stack).score(stories);
  const auto expected = evaluate::Judge(make_stack<float>()).score(stories);
  const auto total = [](const auto& all) {
    return std::accumulate(all.begin(), all.end(), 0.0, [](double sum, const StoryScore& s) { return sum + s.nll; });
  };
  CHECK(std::abs(total(scores) / total(expected) - 1.0) < 3e-3);
  // Losses of the same hidden states, which are rounded, against logits that are not.
  const Packed<Cpu> batch = test::packed({40}, config.vocab_size);
  auto cache = stack.make_inference_cache(batch.capacity());
  const Pass<Cpu> pass{.device = stack.device(), .batch = batch.view()};
  const auto hidden = stack.hidden(pass, cache);
  std::vector<float> losses(40);
  stack.token_losses(hidden, losses, std::span(pass.batch.targets, 40), pass);
  for (index_t t = 0; t < 40; ++t) {
    CAPTURE(t);
    double sum = 0.0;
    double at_target = 0.0;
    for (index_t v = 0; v < config.vocab_size; ++v) {
      double logit = to_double(stack.head.bias->value()(0, v));
      for (index_t c = 0; c < hidden.cols; ++c)
        logit += to_double(hidden(t, c)) * to_double(stack.head.weight->value()(v, c));
      sum += std::exp(logit);
      if (v == pass.batch.targets[t]) at_target = logit;
    }
    const double loss = pass.batch.targets[t] < 0 ? 0.0 : std::log(sum) - at_target;
    CHECK(std::abs(static_cast<double>(losses[static_cast<std::size_t>(t)]) - loss) <= 1e-5 * (1.0 + loss));
  }
}

/// Notes what a Judge asks for.
struct Watched : Stack<float> {
  using Base = Stack<float>;
  explicit Watched(Base base) : Base(std::move(base)) {}
  [[nodiscard]] Cache make_inference_cache(const Capacity& capacity) const {
    capacities.push_back(capacity);
    return Base::make_inference_cache(capacity);
  }
  [[nodiscard]] MatrixView<const float> hidden(const Pass<Cpu>& pass, Cache& cache) const {
    read += pass.batch.tokens;
    ++batches;
    return Base::hidden(pass, cache);
  }
  void token_losses(MatrixView<const float> rows, std::span<float> losses, std::span<const token_t> targets,
                    const Pass<Cpu>& pass) const {
    predicted += rows.rows;
    Base::token_losses(rows, losses, targets, pass);
  }
  mutable std::vector<Capacity> capacities;
  mutable index_t read = 0;
  mutable index_t predicted = 0;
  mutable index_t batches = 0;
};

TEST_CASE("the head sees scored rows only; memory is for what comes, not for what could") {
  const Watched stack(make_stack<float>());
  evaluate::Judge judge(stack, {.context = 90, .stride = 30}, {.batch_tokens = 64});
  const auto short_ones = random_stories({11, 21, 31, 41, 1});
  static_cast<void>(judge.score(short_ones));
  CHECK(stack.read == 10 + 20 + 30 + 40);
  CHECK(stack.predicted == 100);
  CHECK(stack.batches == 2);
  REQUIRE(stack.capacities.size() == 1);
  CHECK((stack.capacities[0] == Capacity{.tokens = 64, .sequences = 64, .longest = 40}));
  static_cast<void>(judge.score(short_ones));
  CHECK(stack.capacities.size() == 1);

  stack.read = stack.predicted = stack.batches = 0;
  static_cast<void>(judge.score(random_stories({151})));  // windows of 90, 90 and 90 tokens that predict 90, 30 and 30
  CHECK(stack.read == 270);
  CHECK(stack.predicted == 150);
  CHECK(stack.batches == 3);
  REQUIRE(stack.capacities.size() == 2);
  CHECK((stack.capacities[1] == Capacity{.tokens = 90, .sequences = 90, .longest = 90}));

  static_cast<void>(evaluate::Judge(stack).score(random_stories({3})));  // nothing is made for 1,024 tokens
  CHECK(stack.capacities.back().tokens == 2);
  static_cast<void>(evaluate::Judge(stack).score(random_stories({0, 1, 0})));
  CHECK(stack.capacities.size() == 3);
}

TEST_CASE("progress; a callback that says stop") {
  const auto stack = make_stack<float>();
  const auto stories = random_stories({20, 20, 1, 20, 60, 20});
  evaluate::Judge judge(stack, {.context = 19, .stride = 19}, {.batch_tokens = 38});
  std::vector<std::pair<std::size_t, index_t>> seen;
  const auto all = judge.score(stories, [&](const evaluate::JudgeProgress& progress) {
    CHECK(progress.total_tokens == 4 * 19 + 59);
    seen.emplace_back(progress.stories, progress.tokens);
  });
  CHECK((seen == std::vector<std::pair<std::size_t, index_t>>{{3, 38}, {4, 76}, {4, 114}, {6, 135}}));
  const auto some = judge.score(stories, [](const evaluate::JudgeProgress&) { return false; });
  CHECK((some[1] == all[1]));
  CHECK(some[3].tokens == 0);
}

TEST_CASE("what is refused") {
  const auto stack = make_stack<float>();
  const auto refused = [](auto&& action, const std::string& why) {
    CHECK(test::contains(test::error_of<ArgumentError>(action), why));
  };
  refused([&] { evaluate::Judge(stack, {.context = 97}); }, "context must be in [1, 96]: 97");
  refused([&] { evaluate::Judge(stack, {.bos = true, .bos_id = 61}); }, "BOS is 61, the model has a vocabulary of 61");
  refused([&] { evaluate::Judge(stack, {}, {.batch_tokens = -1}); }, "batch_tokens must not be negative: -1");
  for (const token_t id : {-1, 61}) {
    const std::vector<JudgeStory> stories{{.ids = {1, 2}}, {.ids = {1, id}}};
    refused([&] { static_cast<void>(evaluate::Judge(stack).score(stories)); },
            "story 1: token " + std::to_string(id) + " is not in the model's vocabulary of 61");
  }
}

TEST_CASE("summary: over tokens, over stories, per byte, and the errors; skipped stories are not divided by") {
  const double ln2 = std::log(2.0);
  // 1 bit a token in the first, 3 bits in the second.
  const std::vector<StoryScore> stories{{.tokens = 6, .nll = 6 * ln2, .targets = 6, .bytes = 20},
                                        {},
                                        {.tokens = 2, .nll = 6 * ln2, .targets = 4, .bytes = 30},
                                        {}};
  const evaluate::Summary s = evaluate::summarise(stories);
  CHECK(s.stories == 4);
  CHECK(s.skipped == 2);
  CHECK(s.tokens == 8);
  CHECK(s.mean_nll == doctest::Approx(1.5 * ln2).epsilon(1e-14));
  CHECK(s.perplexity == doctest::Approx(std::pow(2.0, 1.5)).epsilon(1e-14));
  CHECK(s.perplexity_over_stories == doctest::Approx(5.0).epsilon(1e-14));
  CHECK(s.bits_per_byte == doctest::Approx(1.5 * 10 / 50).epsilon(1e-14));
  // Residuals 6 - 1.5 * 6 = -3 and 6 - 1.5 * 2 = 3 bits: sqrt(2 * 18) / 8.
  CHECK(s.standard_error == doctest::Approx(0.75 * ln2).epsilon(1e-14));
  CHECK(s.standard_error_over_stories == doctest::Approx(3.0).epsilon(1e-14));  // of 2 and 8

  const evaluate::Summary one = evaluate::summarise(std::span(stories).first(2));
  CHECK(one.perplexity == doctest::Approx(2.0).epsilon(1e-14));
  CHECK(std::isnan(one.standard_error));
  CHECK(std::isnan(one.standard_error_over_stories));
  for (const auto& none : {std::vector<StoryScore>{}, std::vector<StoryScore>(3)}) {
    const evaluate::Summary nothing = evaluate::summarise(none);
    CHECK(nothing.skipped == static_cast<index_t>(none.size()));
    CHECK(nothing.tokens == 0);
    for (const double value : {nothing.mean_nll, nothing.perplexity, nothing.perplexity_over_stories,
                               nothing.bits_per_byte, nothing.standard_error, nothing.standard_error_over_stories})
      CHECK(std::isnan(value));
  }
  const std::vector<StoryScore> alike(5, {.tokens = 3, .nll = 4.5, .targets = 3, .bytes = 9});
  CHECK(evaluate::summarise(alike).standard_error == 0.0);
}

}  // namespace
