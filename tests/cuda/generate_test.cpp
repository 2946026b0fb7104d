// SPDX-License-Identifier: MIT
// TIMEOUT: 600
/// @file
/// @brief Generation on CUDA: the CPU's stories, the same alone and in any batch, by one recorded step.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/generate/generator.hpp>
#include <storylm/models/presets.hpp>

#include "cuda/support.hpp"
#include "generate_support.hpp"

using namespace storylm;

namespace {

constexpr int vocab = 61;
constexpr index_t longest = 24;

constexpr TransformerConfig reference_config() {
  return {.vocab_size = vocab,
          .d_model = 32,
          .d_ff = 48,
          .n_layers = 2,
          .n_heads = 2,
          .max_len = longest,
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
  config.d_model = 32;
  config.d_ff = 40;
  config.n_layers = 1;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 8;
  config.max_len = longest;
  config.sliding_window = 9;
  return config;
}
template <class T, Device D>
using Reference = nn::TransformerStack<T, D, nn::LayerNorm, nn::Mlp>;

/// A random model, the same on every device; its weights are larger than at the beginning of training, so that it has
/// opinions.
template <class Stack>
Stack make_stack(const TransformerConfig& config, const typename Stack::device_type& device) {
  Stack stack(config, device, {.seed = 9}, nn::Gradients::no);
  nn::for_each_parameter(stack, [](const std::string& name, auto& p) {
    if (name != "head.weight" && name != "embedding.weight") return;
    auto values = p.to_host();
    for (auto& v : values) v *= 4.0F;
    p.assign(values);
  });
  return stack;
}

std::vector<GenerateRequest> requests(std::uint32_t count) {
  std::vector<GenerateRequest> all;
  for (std::uint32_t story = 0; story < count; ++story) {
    RandomStream random(100 + story);
    GenerateRequest request{.prompt = {1}, .story = story, .max_tokens = story % 3 == 0 ? 0 : 9 + index_t{story % 14}};
    for (auto more = random.below(8); more > 0; --more)
      request.prompt.push_back(static_cast<token_t>(4 + random.below(vocab - 4)));
    all.push_back(request);
  }
  return all;
}

void same_stories(const std::vector<GeneratedStory>& a, const std::vector<GeneratedStory>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].ids == b[i].ids);
    CHECK(a[i].ended == b[i].ended);
    CHECK(a[i].prompt_tokens == b[i].prompt_tokens);
  }
}

template <template <class, class> class Norm, template <class, class> class FeedForward>
void same_as_cpu(const TransformerConfig& config) {
  const auto all = requests(7);
  const auto on_cpu = make_stack<nn::TransformerStack<float, Cpu, Norm, FeedForward>>(config, Cpu{});
  const auto on_cuda = make_stack<nn::TransformerStack<float, Cuda, Norm, FeedForward>>(config, test::cuda_device());
  Generator expected(on_cpu, 3);
  Generator actual(on_cuda, 3);
  for (const SamplerOptions& sampler : {SamplerOptions{.temperature = 0.0, .repetition_penalty = 1.3},
                                        SamplerOptions{.temperature = 1.1, .top_k = 20, .top_p = 0.95, .seed = 3}})
    same_stories(actual.generate(all, {.sampler = sampler}), expected.generate(all, {.sampler = sampler}));
  CHECK(actual.recorded() > 0);
}

TEST_CASE("stories in float are the CPU's, drawn and greedy, for every family of models") {
  same_as_cpu<nn::LayerNorm, nn::Mlp>(reference_config());
  same_as_cpu<nn::LayerNorm, nn::Mlp>(gpt2_config());
  same_as_cpu<nn::RmsNorm, nn::SwiGlu>(llama_config());
}

TEST_CASE_TEMPLATE(
    "a story has the same tokens alone and in any batch, slot, schedule, and however often it is looked at", T,
    STORYLM_CUDA_DTYPES) {
  auto stack = make_stack<Reference<T, Cuda>>(reference_config(), test::cuda_device());
  auto bias = stack.head.bias->to_host();
  bias[2] = 3.0F;  // so that some stories end
  stack.head.bias->assign(bias);
  const auto all = requests(6);
  const auto run = [&](const Capacity& capacity, index_t tokens_per_look, std::span<const GenerateRequest> asked) {
    Generator generator(stack, KvCache<T, Cuda>(stack.shape(), capacity.sequences + 1, longest, stack.device()),
                        capacity);
    return generator.generate(asked, {.sampler = {.temperature = 1.5, .top_p = 0.98, .repetition_penalty = 1.1},
                                      .tokens_per_look = tokens_per_look});
  };
  std::vector<GeneratedStory> expected;
  for (const GenerateRequest& one : all) {
    auto story = run({.tokens = longest, .sequences = 1, .longest = longest}, 1, std::span(&one, 1));
    expected.push_back(std::move(story[0]));
  }
  CHECK(std::any_of(expected.begin(), expected.end(), [](const auto& s) { return s.ended; }));
  CHECK(std::any_of(expected.begin(), expected.end(), [](const auto& s) { return !s.ended; }));
  const auto compare = [&](const Capacity& capacity, index_t tokens_per_look) {
    CAPTURE(capacity.sequences);
    CAPTURE(tokens_per_look);
    same_stories(run(capacity, tokens_per_look, all), expected);
  };
  test::for_each_schedule([&](unsigned) { compare({.tokens = 30, .sequences = 6, .longest = longest}, 16); }, 2);
  compare({.tokens = 5, .sequences = 5, .longest = longest}, 5);  // no room: prompts come in piece by piece
  compare({.tokens = 9, .sequences = 2, .longest = longest}, 100);
}

/// Logits of each step of given stories, a token at a time after a prompt of three, in slots of one's choice.
template <class T>
std::vector<std::vector<std::uint8_t>> logits_of(const Reference<T, Cuda>& stack,
                                                 const std::vector<std::vector<token_t>>& stories,
                                                 const std::vector<std::int32_t>& slots) {
  const Cuda& device = test::cuda_device();
  const auto count = static_cast<index_t>(stories.size());
  const Capacity capacity{.tokens = 3 * count, .sequences = count, .longest = longest};
  KvCache<T, Cuda> kv(stack.shape(), 8, longest, device);
  auto cache = stack.make_inference_cache(capacity);
  Tensor<T, Cuda> y({3 * count, vocab}, device);
  std::vector<std::vector<std::uint8_t>> bits(stories.size());
  for (std::size_t first = 0; first < stories[0].size();) {
    const std::size_t tokens = first == 0 ? 3 : 1;
    Packed<Cpu> batch(capacity, Cpu{});
    for (const auto& story : stories)
      batch.append(std::span(story).subspan(first, tokens), {}, 0, static_cast<index_t>(first));
    Packed<Cuda> on_device(capacity, device);
    on_device.assign(batch);
    const Pass<Cuda> pass{.device = device, .batch = on_device.view(), .row_invariant = true};
    stack.logits(stack.hidden(pass, cache, kv.views(slots)), y.rows(on_device.tokens()), pass);
    const auto rows = y.to_host();
    for (std::size_t s = 0; s < stories.size(); ++s) {
      const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(s * tokens * vocab);
      const auto more = test::bits_of(std::vector<T>(begin, begin + static_cast<std::ptrdiff_t>(tokens * vocab)));
      bits[s].insert(bits[s].end(), more.begin(), more.end());
    }
    first += tokens;
  }
  return bits;
}

TEST_CASE_TEMPLATE("logits are the same, bit for bit, alone and beside others", T, STORYLM_CUDA_DTYPES) {
  const auto stack = make_stack<Reference<T, Cuda>>(reference_config(), test::cuda_device());
  RandomStream random(4);
  std::vector<std::vector<token_t>> stories(7, std::vector<token_t>(9));
  for (auto& story : stories) {
    for (auto& id : story) id = static_cast<token_t>(random.below(vocab));
  }
  const auto together = logits_of<T>(stack, stories, {6, 1, 7, 0, 3, 2, 5});
  for (const std::size_t s : {std::size_t{0}, std::size_t{3}, std::size_t{6}})
    CHECK(logits_of<T>(stack, {stories[s]}, {static_cast<std::int32_t>(s)})[0] == together[s]);
}

/// A stack that counts how often the host asks for a pass: what is replayed it does not see.
template <class Stack>
class Counting : public test::ForwardingStack<Stack> {
  using Base = test::ForwardingStack<Stack>;

 public:
  using typename Base::Cache;
  using typename Base::Element;

  explicit Counting(const Stack& stack) : Base(stack) {}
  [[nodiscard]] MatrixView<const Element> hidden(const Pass<typename Base::device_type>& pass, Cache& cache,
                                                 const nn::KvViews<typename Base::precision>& kv) const {
    ++passes;
    return Base::hidden(pass, cache, kv);
  }

  mutable int passes = 0;
};

TEST_CASE("a step is recorded once for a number of rows, and replayed: no allocation, no work of the host") {
  auto stack = make_stack<Reference<float, Cuda>>(reference_config(), test::cuda_device());
  const Counting counting(stack);
  using Stack = std::remove_const_t<decltype(counting)>;
  const Capacity capacity{.tokens = 16, .sequences = 4, .longest = longest};
  Generator<Stack> generator(counting, KvCache<float, Cuda>(stack.shape(), 4, longest, stack.device()), capacity);
  std::vector<GenerateRequest> all;
  for (std::uint32_t i = 0; i < 3; ++i) all.push_back({.prompt = {1, 9, 4}, .story = i});
  const GenerateOptions options{.eos = -1};
  const auto first = generator.generate(all, options);
  CHECK(first[2].ids.size() == static_cast<std::size_t>(longest));
  CHECK(counting.passes == 3);  // the prompts, a step done as it is, a step that is recorded
  CHECK(generator.recorded() == 1);
  const std::uint64_t allocations = test::cuda_device().allocations();
  same_stories(generator.generate(all, options), first);
  CHECK(counting.passes == 4);  // the prompts
  CHECK(test::cuda_device().allocations() == allocations);
  const auto shorter = generator.generate(all, {.sampler = {.temperature = 0.0}, .eos = -1});  // recorded anew
  CHECK(counting.passes == 7);
  CHECK(shorter[0].ids != first[0].ids);
  {  // other work makes scratch memory grow, so that it moves
    auto scratch = stack.device().scratch();
    static_cast<void>(scratch.take<float>(1 << 20));
  }
  same_stories(generator.generate(all, {.sampler = {.temperature = 0.0}, .eos = -1}), shorter);
  CHECK(generator.recorded() == 1);
}

TEST_CASE("callbacks, limits, stops and errors are as on the CPU") {
  auto stack = make_stack<Reference<float, Cuda>>(reference_config(), test::cuda_device());
  Generator generator(stack, 2);
  const std::vector<GenerateRequest> all{{.prompt = {1, 9, 8}, .story = 4, .max_tokens = 10},
                                         {.prompt = {1, 9, 8}, .story = 5, .max_tokens = 3},  // nothing to do
                                         {.prompt = {1}, .story = 6},
                                         {.prompt = std::vector<token_t>(longest, 9), .story = 7}};
  std::vector<std::vector<token_t>> told(4);
  const auto stories = generator.generate(all, {.eos = -1}, [&](const GeneratedToken& t) {
    told[t.request].push_back(t.token);
    CHECK(t.ids.back() == t.token);
    CHECK(static_cast<index_t>(t.ids.size()) == t.position + 1);
    CHECK(t.last == (t.position + 1 == (t.request == 0 ? 10 : longest)));
  });
  CHECK(stories[0].ids.size() == 10);
  CHECK(stories[1].ids == all[1].prompt);
  CHECK(stories[2].ids.size() == static_cast<std::size_t>(longest));
  CHECK(stories[3].ids == all[3].prompt);
  CHECK(told[0].size() == 7);
  CHECK(std::equal(told[2].begin(), told[2].end(), stories[2].ids.begin() + 1));

  int count = 0;
  const auto stopped = generator.generate(all, {.eos = -1}, [&](const GeneratedToken&) { return ++count < 5; });
  CHECK(count == 6);  // the step is told to its end
  CHECK(std::equal(stopped[0].ids.begin(), stopped[0].ids.end(), stories[0].ids.begin()));
  CHECK_THROWS_AS(static_cast<void>(generator.generate(all, {.banned = {vocab}})), ShapeError);

  const auto good = stack.head.bias->to_host();
  auto bad = good;
  bad[5] = std::numeric_limits<float>::quiet_NaN();
  stack.head.bias->assign(bad);
  std::string message;
  try {
    static_cast<void>(generator.generate(all, {.eos = -1}));
  } catch (const ArgumentError& error) {
    message = error.what();
  }
  CHECK(message.find("position 3 of story 4") != std::string::npos);
  stack.head.bias->assign(good);
  same_stories(generator.generate(all, {.eos = -1}), stories);
}

}  // namespace
