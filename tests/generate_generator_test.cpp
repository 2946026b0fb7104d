// SPDX-License-Identifier: MIT
// TIMEOUT: 300
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/generate/generator.hpp>
#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>

#include "allocation_counter.hpp"
#include "generate_support.hpp"
#include "support.hpp"

namespace {

using namespace storylm;

constexpr int vocab = 61;

constexpr TransformerConfig reference_config() {
  return {.vocab_size = vocab,
          .d_model = 32,
          .d_ff = 64,
          .n_layers = 2,
          .n_heads = 2,
          .max_len = 40,
          .scale_embedding = true};
}
constexpr TransformerConfig gpt2_config() {
  TransformerConfig config = reference_config();
  config.pre_norm = true;
  config.feed_forward = FeedForwardKind::gelu_tanh;
  config.positions = PositionKind::learned;
  config.tie_head = true;
  return config;
}
constexpr TransformerConfig llama_config() {
  TransformerConfig config = presets::story_llama_tiny;
  config.vocab_size = vocab;
  config.max_len = 40;
  config.sliding_window = 11;
  return config;
}
using Reference = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// A random model; its weights are larger than at the beginning of training, so that it has opinions.
template <class Stack>
Stack make_stack(const TransformerConfig& config, int threads = 2) {
  Stack stack(config, Cpu({.threads = threads}), {.seed = 9}, nn::Gradients::no);
  nn::for_each_parameter(stack, [](const std::string& name, auto& p) {
    if (name != "head.weight" && name != "embedding.weight") return;
    auto values = p.to_host();
    for (auto& v : values) v *= 4.0F;
    p.assign(values);
  });
  return stack;
}
template <class F>
void for_each_family(const F& f) {
  for (const TransformerConfig& config : {reference_config(), gpt2_config(), llama_config()}) {
    nn::with_stack_type<float, Cpu>(config, [&]<class Stack>(std::type_identity<Stack>) {
      f([config](int threads) { return make_stack<Stack>(config, threads); });
    });
  }
}

GenerateRequest request(std::uint32_t story, index_t max_tokens = 0) {
  RandomStream random(100 + story);
  GenerateRequest made{.prompt = {1}, .story = story, .max_tokens = max_tokens};
  const auto more = random.below(12);
  for (std::uint64_t i = 0; i < more; ++i) made.prompt.push_back(static_cast<token_t>(4 + random.below(vocab - 4)));
  return made;
}
std::vector<GenerateRequest> requests(std::uint32_t count) {
  std::vector<GenerateRequest> all;
  for (std::uint32_t i = 0; i < count; ++i) all.push_back(request(i, i % 3 == 0 ? 0 : 15 + i % 20));
  return all;
}

void same_stories(const std::vector<GeneratedStory>& a, const std::vector<GeneratedStory>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].ended == b[i].ended);
    CHECK(a[i].prompt_tokens == b[i].prompt_tokens);
  }
}

/// A stack that keeps the logits it gave: the Generator's tokens alone would hide small differences.
template <class Stack>
class Recording : public test::ForwardingStack<Stack> {
  using Base = test::ForwardingStack<Stack>;

 public:
  using typename Base::Element;

  explicit Recording(const Stack& stack) : Base(stack) {}
  void logits(MatrixView<const Element> x, MatrixView<Element> y, const Pass<Cpu>& pass) const {
    Base::logits(x, y, pass);
    last = y;
    row = 0;
  }
  /// Logits of the next token reported, which come in the order of rows.
  [[nodiscard]] std::vector<float> next_row() const {
    const float* data = last.row(row++);
    return {data, data + last.cols};
  }

 private:
  mutable MatrixView<Element> last;
  mutable index_t row = 0;
};

using Rows = std::map<std::pair<std::uint32_t, index_t>, std::vector<float>>;

TEST_CASE("a story has the same tokens and logits, bit for bit, alone and in any batch, slot and number of threads") {
  const auto all = requests(35);
  const GenerateOptions options{.sampler = {.temperature = 1.1, .top_k = 20, .repetition_penalty = 1.1, .seed = 3}};
  for_each_family([&](const auto& make) {
    const auto run = [&](int threads, const Capacity& capacity, std::span<const GenerateRequest> asked, Rows& rows) {
      const auto stack = make(threads);
      const Recording recording(stack);
      Generator generator(recording, KvCache<float, Cpu>(stack.shape(), capacity.sequences + 1, 40, stack.device()),
                          capacity);
      return generator.generate(asked, options, [&](const GeneratedToken& token) {
        rows[{token.story, token.position}] = recording.next_row();
      });
    };
    Rows alone;
    std::vector<GeneratedStory> expected;
    for (const GenerateRequest& one : all) {
      auto story = run(1, {.tokens = 40, .sequences = 1, .longest = 40}, std::span(&one, 1), alone);
      expected.push_back(std::move(story[0]));
    }
    CHECK(std::count_if(expected.begin(), expected.end(), [](const auto& s) { return s.ended; }) > 2);
    CHECK(std::count_if(expected.begin(), expected.end(), [](const auto& s) { return !s.ended; }) > 2);
    const auto compare = [&](int threads, const Capacity& capacity) {
      CAPTURE(threads);
      CAPTURE(capacity.sequences);
      CAPTURE(capacity.tokens);
      Rows rows;
      same_stories(run(threads, capacity, all, rows), expected);
      REQUIRE(rows.size() == alone.size());
      int different = 0;
      for (const auto& [key, row] : rows) {
        const auto& other = alone.at(key);
        if (std::memcmp(row.data(), other.data(), row.size() * sizeof(float)) != 0) ++different;
      }
      CHECK(different == 0);
    };
    for (const index_t sequences : {1, 2, 4, 33}) compare(2, {.tokens = 100, .sequences = sequences, .longest = 40});
    compare(1, {.tokens = 33, .sequences = 33, .longest = 40});  // no room: prompts come in piece by piece
    compare(3, {.tokens = 7, .sequences = 4, .longest = 40});
    auto backwards = all;  // other slots and neighbours
    std::reverse(backwards.begin(), backwards.end());
    Rows rows;
    auto reversed = run(3, {.tokens = 50, .sequences = 5, .longest = 40}, backwards, rows);
    std::reverse(reversed.begin(), reversed.end());
    same_stories(reversed, expected);
    CHECK(rows == alone);
  });
}

/// Greedy by the training forward over the whole context for each token.
template <class Stack>
std::vector<token_t> greedy_without_cache(const Stack& stack, std::vector<token_t> ids, index_t limit, token_t eos,
                                          double penalty) {
  auto cache = stack.make_inference_cache({.tokens = limit, .sequences = 1, .longest = limit});
  Tensor<float, Cpu> y({limit, vocab}, stack.device());
  while (static_cast<index_t>(ids.size()) < limit) {
    Packed<Cpu> batch({.tokens = limit, .sequences = 1, .longest = limit}, Cpu{});
    batch.append(ids, {}, 0);
    const Pass<Cpu> pass{.device = stack.device(), .batch = batch.view()};
    stack.logits(stack.hidden(pass, cache), y.rows(batch.tokens()), pass);
    token_t best = -1;
    double highest = -std::numeric_limits<double>::infinity();
    for (token_t id = 0; id < vocab; ++id) {
      double logit = static_cast<double>(y.matrix()(batch.tokens() - 1, id));
      if (std::find(ids.begin(), ids.end(), id) != ids.end()) logit = logit > 0.0 ? logit / penalty : logit * penalty;
      if (id == 0 || id == 1 || id == 3 || logit <= highest) continue;
      highest = logit;
      best = id;
    }
    if (best == eos) break;
    ids.push_back(best);
  }
  return ids;
}

TEST_CASE_TEMPLATE("with narrower weights and cache too, a story is the same alone and in any batch", T, bf16, half) {
  using Stack = nn::TransformerStack<T, Cpu, nn::RmsNorm, nn::SwiGlu>;
  std::vector<GenerateRequest> requests;
  for (std::uint32_t story = 0; story < 7; ++story) requests.push_back(request(story));
  const auto generate = [&](std::span<const GenerateRequest> some, index_t batch, index_t prompt_tokens, int threads) {
    const Stack stack(llama_config(), Cpu({.threads = threads}), {.seed = 9}, nn::Gradients::no);
    KvCache<T, Cpu> cache(stack.shape(), batch, 40, stack.device());
    Generator generator(stack, std::move(cache), {.tokens = prompt_tokens, .sequences = batch, .longest = 40});
    return generator.generate(some, {.eos = -1});
  };
  const auto together = generate(requests, 7, 64, 2);
  const auto in_turns = generate(requests, 3, 3, 1);
  std::set<token_t> drawn;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto alone = generate(std::span(requests).subspan(i, 1), 1, 40, 3);
    CHECK(alone[0].ids.size() == 40);
    CHECK(together[i].ids == alone[0].ids);
    CHECK(in_turns[i].ids == alone[0].ids);
    drawn.insert(alone[0].ids.begin(), alone[0].ids.end());
  }
  CHECK(drawn.size() > 30);  // not the same token again and again
}

TEST_CASE("greedy is the argmax of the whole context computed anew for every token") {
  for_each_family([](const auto& make) {
    const auto stack = make(2);
    Generator generator(stack, 3);
    for (const double penalty : {1.0, 1.4}) {
      const auto all = requests(8);
      const auto stories = generator.generate(all, {.sampler = {.temperature = 0.0, .repetition_penalty = penalty}});
      for (std::size_t i = 0; i < all.size(); ++i) {
        const index_t limit = all[i].max_tokens > 0 ? all[i].max_tokens : 40;
        CHECK(stories[i].ids == greedy_without_cache(stack, all[i].prompt, limit, 2, penalty));
      }
    }
  });
}

TEST_CASE("seeds repeat; other seeds and other story numbers give other stories") {
  const auto stack = make_stack<Reference>(reference_config());
  Generator generator(stack, 4);
  const auto write = [&](std::uint64_t seed, std::uint32_t story) {
    const std::vector<GenerateRequest> one{{.prompt = {1, 5}, .story = story}};
    return generator.generate(one, {.sampler = {.temperature = 2.0, .seed = seed}, .eos = -1})[0].ids;
  };
  CHECK(write(1, 0) == write(1, 0));
  CHECK(write(1, 0) != write(2, 0));
  CHECK(write(1, 0) != write(1, 1));
}

/// Adds to some logits of every row.
void push(Reference& stack, const std::vector<token_t>& ids, float by) {
  auto values = stack.head.bias->to_host();
  for (const token_t id : ids) values[static_cast<std::size_t>(id)] += by;
  stack.head.bias->assign(values);
}

TEST_CASE("UNK, BOS and PAD are never drawn, not even by greedy, nor are other banned ids") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {0, 1, 3, 7}, 1000.0F);
  push(stack, {2}, -2000.0F);
  Generator generator(stack, 4);
  const auto drawn = [&](const GenerateOptions& options) {
    std::set<token_t> ids;
    static_cast<void>(generator.generate(requests(6), options, [&](const GeneratedToken& t) { ids.insert(t.token); }));
    return ids;
  };
  CHECK(drawn({.sampler = {.temperature = 0.0}}) == std::set<token_t>{7});
  CHECK(drawn({.sampler = {.temperature = 3.0}}) == std::set<token_t>{7});
  const auto others = drawn({.sampler = {.temperature = 3.0}, .banned = {0, 1, 3, 7, -1}});
  CHECK(others.size() > 5);
  for (const token_t id : {0, 1, 3, 7}) CHECK(!others.contains(id));
}

TEST_CASE("EOS ends a story and is reported, but is not part of it") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, 1000.0F);
  Generator generator(stack, 2);
  std::vector<GeneratedToken> tokens;
  const auto all = requests(3);
  const auto stories = generator.generate(all, {}, [&](const GeneratedToken& t) {
    CHECK(std::vector<token_t>(t.ids.begin(), t.ids.end()) == all[t.request].prompt);
    tokens.push_back(t);
  });
  REQUIRE(tokens.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(stories[i].ended);
    CHECK(stories[i].ids == all[i].prompt);
    CHECK(tokens[i].token == 2);
    CHECK(tokens[i].last);
    CHECK(tokens[i].position == static_cast<index_t>(all[i].prompt.size()));
  }
}

TEST_CASE("further ids end a story as EOS does; negative ones are no ids") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {7}, 1000.0F);
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 2);
  const auto all = requests(3);
  const auto stories = generator.generate(all, {.further_ends = {-1, 9, 7}}, [](const GeneratedToken& t) {
    CHECK(t.token == 7);
    CHECK(t.last);
  });
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(stories[i].ended);
    CHECK(stories[i].ids == all[i].prompt);
  }
  const auto endless = generator.generate(all, {.sampler = {.temperature = 0.0}, .eos = -1, .further_ends = {-1}});
  CHECK(endless[0].ids.size() == 40);
  CHECK(endless[0].ids.back() == 7);
  CHECK(!endless[0].ended);
}

TEST_CASE("memory is that of the longest story asked for, not of max_len") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator whole(stack, 3);
  Generator generator(stack, 3, 15);
  CHECK(generator.kv_cache().capacity() == 15);
  CHECK(generator.kv_cache().bytes() * 40 == whole.kv_cache().bytes() * 15);
  const std::vector<GenerateRequest> two{{.prompt = {1, 9, 8}, .story = 4}, {.prompt = {1, 9}, .max_tokens = 7}};
  const auto stories = generator.generate(two, {});
  CHECK(stories[0].ids.size() == 15);
  CHECK(stories[1].ids.size() == 7);
  const auto longer = whole.generate(two, {});
  CHECK(std::equal(stories[0].ids.begin(), stories[0].ids.end(), longer[0].ids.begin()));
  const std::vector<GenerateRequest> too_long{{.prompt = {1}, .max_tokens = 16}};
  CHECK_THROWS_AS(static_cast<void>(generator.generate(too_long, {})), ArgumentError);
  const std::vector<GenerateRequest> no_room{{.prompt = std::vector<token_t>(16, 9)}};
  CHECK_THROWS_WITH_AS(static_cast<void>(generator.generate(no_room, {})),
                       "[Generator] story 0: the prompt has 16 tokens, with it the story may have 15", ArgumentError);
  CHECK_THROWS_AS(Generator(stack, 3, 41), ArgumentError);
  // Refused before memory is asked for, of which there is not as much.
  CHECK_THROWS_WITH_AS(Generator(stack, 3, index_t{1} << 40),
                       "[Generator] stories of 1099511627776 tokens, the model's max_len is 40", ArgumentError);
  CHECK_THROWS_AS(Generator(stack, 3, -1), ArgumentError);
}

TEST_CASE("max_tokens counts the prompt and defaults to max_len; tokens are reported in order") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 2);
  const std::vector<GenerateRequest> all{{.prompt = {1, 9, 8}, .story = 4, .max_tokens = 10},
                                         {.prompt = {1, 9, 8}, .story = 5, .max_tokens = 3},  // nothing to do
                                         {.prompt = {1, 9}, .story = 6},
                                         {.prompt = std::vector<token_t>(40, 9), .story = 7}};
  std::map<std::size_t, std::vector<token_t>> told;
  std::set<std::size_t> done;
  const auto stories = generator.generate(all, {}, [&](const GeneratedToken& t) {
    CHECK(!done.contains(t.request));
    CHECK(t.story == all[t.request].story);
    CHECK(t.position == static_cast<index_t>(all[t.request].prompt.size() + told[t.request].size()));
    told[t.request].push_back(t.token);
    CHECK(static_cast<index_t>(t.ids.size()) == t.position + 1);
    CHECK(t.ids.back() == t.token);
    CHECK(t.ids.front() == all[t.request].prompt.front());
    if (t.last) done.insert(t.request);
  });
  CHECK(stories[0].ids.size() == 10);
  CHECK(stories[1].ids == all[1].prompt);
  CHECK(stories[2].ids.size() == 40);
  CHECK(stories[3].ids == all[3].prompt);
  CHECK(done == std::set<std::size_t>{0, 2});
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}}) {
    auto ids = all[i].prompt;
    ids.insert(ids.end(), told[i].begin(), told[i].end());
    CHECK(stories[i].ids == ids);
    CHECK(stories[i].prompt_tokens == static_cast<index_t>(all[i].prompt.size()));
    CHECK(!stories[i].ended);
  }
  CHECK(generator.generate({}, {}).empty());
}

TEST_CASE("writing stops when the callback says so, and the generator can be used again") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 2);
  const std::vector<GenerateRequest> all(5, GenerateRequest{.prompt = {1, 9}});
  int count = 0;
  const auto stopped = generator.generate(all, {}, [&](const GeneratedToken&) { return ++count < 6; });
  CHECK(count == 6);
  CHECK(stopped[0].ids.size() == 5);
  CHECK(stopped[1].ids.size() == 5);
  CHECK(stopped[4].ids.empty());
  CHECK(generator.kv_cache().available() == 2);
  const auto whole = generator.generate(all, {});
  CHECK(whole[4].ids.size() == 40);
}

TEST_CASE("a steady decoding step allocates nothing") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 4);
  std::vector<GenerateRequest> all;
  for (std::uint32_t i = 0; i < 4; ++i) all.push_back({.prompt = {1, 9, 4}, .story = i, .max_tokens = 39});
  std::vector<long> seen;
  seen.reserve(1000);
  const GenerateOptions options{.sampler = {.temperature = 1.0, .top_p = 0.9, .repetition_penalty = 1.1}};
  static_cast<void>(generator.generate(all, options, [&](const GeneratedToken& token) {
    if (!token.last) seen.push_back(allocations);
  }));
  REQUIRE(seen.size() == 4 * 35);
  CHECK(seen.back() == seen[8]);  // from the third step on, while no story begins or ends
  CHECK(seen.back() > 0);         // the counter counts
}

TEST_CASE("how often the host looks changes nothing: stories go on unseen, and new ones begin later") {
  const auto all = requests(35);
  for_each_family([&](const auto& make) {
    const auto stack = make(2);
    Generator generator(stack, KvCache<float, Cpu>(stack.shape(), 6, 40, stack.device()),
                        {.tokens = 17, .sequences = 5, .longest = 40});
    const auto run = [&](index_t tokens_per_look, double penalty) {
      std::map<std::size_t, std::vector<token_t>> told;
      const GenerateOptions options{.sampler = {.temperature = 1.1, .top_p = 0.95, .repetition_penalty = penalty},
                                    .tokens_per_look = tokens_per_look};
      const auto stories = generator.generate(all, options, [&](const GeneratedToken& token) {
        CHECK(token.position == static_cast<index_t>(all[token.request].prompt.size() + told[token.request].size()));
        told[token.request].push_back(token.token);
        CHECK(token.ids.size() == static_cast<std::size_t>(token.position) + (token.token != 2 ? 1 : 0));
      });
      for (std::size_t i = 0; i < all.size(); ++i) {  // nothing is told of a story after its end
        auto ids = all[i].prompt;
        ids.insert(ids.end(), told[i].begin(), told[i].end());
        if (stories[i].ended) ids.pop_back();
        CHECK(stories[i].ids == ids);
      }
      return stories;
    };
    for (const double penalty : {1.0, 1.2}) {
      const auto expected = run(1, penalty);
      CHECK(std::count_if(expected.begin(), expected.end(), [](const auto& s) { return s.ended; }) > 2);
      for (const index_t tokens_per_look : {0, 2, 7, 16, 1000}) same_stories(run(tokens_per_look, penalty), expected);
    }
  });
}

TEST_CASE("writing stops at the token at which the callback says so, though more have been drawn") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 2);
  const std::vector<GenerateRequest> all(3, GenerateRequest{.prompt = {1, 9}});
  int count = 0;
  const GenerateOptions options{.tokens_per_look = 16};
  const auto stopped = generator.generate(all, options, [&](const GeneratedToken&) { return ++count < 6; });
  CHECK(count == 6);
  CHECK(stopped[0].ids.size() == 5);
  CHECK(stopped[1].ids.size() == 5);
  CHECK(stopped[2].ids.empty());
  const auto whole = generator.generate(all, options);
  CHECK(std::equal(stopped[0].ids.begin(), stopped[0].ids.end(), whole[0].ids.begin()));
}

TEST_CASE("a NaN names story and position, and leaves the generator usable") {
  auto stack = make_stack<Reference>(reference_config());
  push(stack, {2}, -1000.0F);
  Generator generator(stack, 2);
  const std::vector<GenerateRequest> all{{.prompt = {1, 9, 9}, .story = 31}};
  const auto good = stack.head.bias->to_host();
  push(stack, {5}, std::numeric_limits<float>::quiet_NaN());
  std::string message;
  try {
    static_cast<void>(generator.generate(all, {}));
  } catch (const ArgumentError& error) {
    message = error.what();
  }
  CHECK(message.find("position 3 of story 31") != std::string::npos);
  stack.head.bias->assign(good);
  CHECK(generator.generate(all, {})[0].ids.size() == 40);
}

TEST_CASE("requests and capacities that do not fit are refused with their values") {
  const auto stack = make_stack<Reference>(reference_config());
  Generator generator(stack, 2);
  const auto refused = [&](const GenerateRequest& asked, const char* message) {
    CHECK_THROWS_WITH_AS(static_cast<void>(generator.generate(std::vector{asked}, {})), message, ArgumentError);
  };
  refused({.prompt = {}, .story = 3}, "[Generator] story 3: the prompt has no tokens, not even BOS");
  refused({.prompt = std::vector<token_t>(41, 9)},
          "[Generator] story 0: the prompt has 41 tokens, the model's max_len is 40");
  refused({.prompt = {1, 9, 9}, .max_tokens = 2},
          "[Generator] story 0: the prompt has 3 tokens, with it the story may have 2");
  refused({.prompt = {1}, .max_tokens = 41}, "[Generator] story 0: max_tokens is 41, it may be up to 40");
  refused({.prompt = {1, vocab}}, "[Generator] story 0: token 61 of the prompt is not in the vocabulary of 61");
  refused({.prompt = {-1}}, "[Generator] story 0: token -1 of the prompt is not in the vocabulary of 61");
  CHECK_THROWS_AS(static_cast<void>(generator.generate(requests(1), {.sampler = {.top_p = 2.0}})), ArgumentError);
  CHECK_THROWS_AS(static_cast<void>(generator.generate(requests(1), {.banned = {vocab}})), ShapeError);
  CHECK_THROWS_AS(static_cast<void>(generator.generate(requests(1), {.tokens_per_look = -1})), ArgumentError);

  using Cache = KvCache<float, Cpu>;
  const auto with = [&](Cache kv, const Capacity& capacity) {
    static_cast<void>(Generator<Reference>(stack, std::move(kv), capacity));
  };
  const auto cache = [&](index_t slots, index_t capacity) { return Cache(stack.shape(), slots, capacity, Cpu{}); };
  CHECK_NOTHROW(with(cache(2, 40), {.tokens = 2, .sequences = 2, .longest = 40}));
  CHECK_THROWS_AS(with(cache(2, 40), {.tokens = 1, .sequences = 2, .longest = 40}), ArgumentError);
  CHECK_THROWS_AS(with(cache(2, 41), {.tokens = 9, .sequences = 2, .longest = 41}), ArgumentError);
  CHECK_THROWS_AS(with(cache(1, 40), {.tokens = 9, .sequences = 2, .longest = 40}), ArgumentError);
  CHECK_THROWS_AS(with(cache(2, 39), {.tokens = 9, .sequences = 2, .longest = 40}), ArgumentError);
  CHECK_THROWS_AS(with(Cache(presets::story_tiny, 2, 40, Cpu{}), {.tokens = 9, .sequences = 2, .longest = 40}),
                  ArgumentError);
  CHECK_THROWS_AS(Generator(stack, 0), ArgumentError);
}

TEST_CASE("a TransformerLM is generated from as the stack it is") {
  const TransformerLM<reference_config()> model;
  Generator generator(model, 2);
  static_assert(std::is_same_v<decltype(generator), Generator<Reference>>);
  CHECK(generator.generate(requests(1), {})[0].ids.size() > 0);
}

}  // namespace
