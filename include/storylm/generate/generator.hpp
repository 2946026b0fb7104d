// SPDX-License-Identifier: MIT
/// @file
/// @brief Continues stories token by token, many at a time, each the same as if it were alone.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/generate/kv_cache.hpp>
#include <storylm/generate/sampler.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/ops/elementwise.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/pass.hpp>

namespace storylm {

/// A story to write.
struct GenerateRequest {
  std::vector<token_t> prompt;  ///< ids, BOS first if the model was trained so; at least one
  std::uint32_t story = 0;      ///< number of the story: with the seed it decides every draw
  index_t max_tokens = 0;       ///< prompt included; 0: as many as there is room for
};

/// What holds for all stories of a call.
struct GenerateOptions {
  SamplerOptions sampler{};                 ///< how tokens are drawn
  token_t eos = 2;                          ///< ends a story; negative: nothing does but its length
  std::vector<token_t> banned = {0, 1, 3};  ///< never drawn: UNK, BOS and PAD; negative ids are left out
};

/// A story that was written.
struct GeneratedStory {
  std::vector<token_t> ids;   ///< prompt and continuation, without EOS
  index_t prompt_tokens = 0;  ///< how many of them are the prompt
  bool ended = false;         ///< by EOS; else it has max_tokens tokens, or writing was stopped
};

/// One token of a story, as it is drawn.
struct GeneratedToken {
  std::size_t request = 0;            ///< index of its request
  std::uint32_t story = 0;            ///< the request's number of the story
  index_t position = 0;               ///< counts the prompt
  token_t token = 0;                  ///< what was drawn
  bool last = false;                  ///< the story is done, by EOS (then that is the token) or by length
  std::span<const token_t> ids = {};  ///< the story so far, prompt included and EOS not; valid in the callback only
};

/// What Generator needs of a model; nn::TransformerStack is one.
template <class S>
concept GenerativeStack = requires(const S& stack, const Pass<typename S::device_type>& pass, typename S::Cache& cache,
                                   const nn::KvViews<typename S::precision>& kv, const Capacity& capacity,
                                   MatrixView<typename S::Element> y) {
  { stack.shape() } -> std::convertible_to<TransformerConfig>;
  { stack.device() } -> std::convertible_to<typename S::device_type>;
  { stack.make_inference_cache(capacity) } -> std::same_as<typename S::Cache>;
  { stack.hidden(pass, cache, kv) } -> std::same_as<MatrixView<const typename S::Element>>;
  stack.logits(y, y, pass);
};

/// Prompts and continuations run through the same forward pass, row-invariant, in steps: a story in a slot gives either
/// the next part of its prompt or its latest token, and only rows that end a story so far get logits. A story that is
/// done leaves its slot to the next request at once. A story's tokens depend on its prompt, its number, the options and
/// the model alone: neither on the other stories nor on slots, batch size or threads. A step in which no story begins
/// or ends allocates nothing.
template <GenerativeStack Stack>
class Generator {
 public:
  using P = typename Stack::precision;      ///< dtype or Precision of the model
  using D = typename Stack::device_type;    ///< where it computes
  using Element = typename Stack::Element;  ///< dtype of activations

  /// @param stack must outlive this
  /// @param kv memory of keys and values, made for the shape of `stack`
  /// @param capacity tokens in one step (a longer prompt takes several), stories at a time, tokens of a story
  /// @throws ArgumentError when capacity, kv and stack do not fit each other
  Generator(const Stack& stack, KvCache<P, D> kv, const Capacity& capacity)
      : stack_(&stack),
        capacity_(checked(stack, kv, capacity)),
        kv_(std::move(kv)),
        cache_(stack.make_inference_cache(capacity)),
        batch_(capacity, stack.device()),
        last_rows_({capacity.sequences}, stack.device()),
        last_hidden_({capacity.sequences, stack.shape().d_model}, stack.device()),
        logits_({capacity.sequences, stack.shape().vocab_size}, stack.device()),
        ids_(static_cast<std::size_t>(kv_.slots() * kv_.capacity())) {
    const auto sequences = static_cast<std::size_t>(capacity.sequences);
    active_.reserve(sequences);
    slots_.reserve(sequences);
    rows_.reserve(sequences);
    draws_.reserve(sequences);
    drawing_.reserve(sequences);
  }
  /// Makes its own memory: `batch_size` stories at a time, of up to max_len tokens.
  explicit Generator(const Stack& stack, index_t batch_size = 32)
      : Generator(stack, KvCache<P, D>(stack.shape(), batch_size, stack.shape().max_len, stack.device()),
                  {.tokens = std::max<index_t>(batch_size, prefill_tokens),
                   .sequences = batch_size,
                   .longest = stack.shape().max_len}) {}

  /// Writes a story for each request, in their order.
  /// @param on_token called with a GeneratedToken after each draw, EOS included; when it returns false, writing stops
  /// and the stories are as far as they are
  /// @throws ArgumentError when a prompt is empty or too long, an id or an option out of range, or a logit a NaN
  template <class F>
  std::vector<GeneratedStory> generate(std::span<const GenerateRequest> requests, const GenerateOptions& options,
                                       F&& on_token) {
    for (const GenerateRequest& request : requests) check(request);
    Sampler<D> sampler(options.sampler, options.banned, kv_.slots(), kv_.capacity(), stack_->device());
    std::vector<GeneratedStory> stories(requests.size());
    std::size_t next = 0;
    kv_.release_all();  // a call that ended by an exception may have left some
    active_.clear();
    while (start(requests, next, stories, sampler)) {
      forward(requests);
      if (draws_.empty()) continue;  // only parts of prompts
      const std::span<const token_t> tokens = sampler.sample(draw_logits(), std::span<const Draw>(draws_));
      bool going_on = true;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        Active& story = active_[drawing_[i]];
        const bool is_eos = options.eos >= 0 && tokens[i] == options.eos;
        const index_t position = story.length;
        if (!is_eos) ids(story)[story.length++] = tokens[i];
        story.done = is_eos || story.length == story.limit;
        stories[story.request].ended = is_eos;
        going_on &= tell(on_token, {.request = story.request,
                                    .story = requests[story.request].story,
                                    .position = position,
                                    .token = tokens[i],
                                    .last = story.done,
                                    .ids = {ids(story), static_cast<std::size_t>(story.length)}});
      }
      if (!going_on) break;
      std::erase_if(active_, [&](const Active& story) { return story.done && finish(story, stories); });
    }
    for (const Active& story : active_) finish(story, stories);
    active_.clear();
    return stories;
  }
  /// The same without a callback.
  std::vector<GeneratedStory> generate(std::span<const GenerateRequest> requests, const GenerateOptions& options = {}) {
    return generate(requests, options, [](const GeneratedToken&) {});
  }

  /// What it was made for.
  [[nodiscard]] const Capacity& capacity() const noexcept { return capacity_; }
  /// Its memory of keys and values.
  [[nodiscard]] const KvCache<P, D>& kv_cache() const noexcept { return kv_; }

 private:
  using Draw = typename Sampler<D>::Draw;
  static constexpr index_t prefill_tokens = 256;

  /// A story that has a slot.
  struct Active {
    std::size_t request = 0;
    std::int32_t slot = 0;
    index_t length = 0;  ///< tokens it has
    index_t cached = 0;  ///< tokens whose keys and values are cached
    index_t limit = 0;   ///< tokens it may have
    bool done = false;
  };

  static const Capacity& checked(const Stack& stack, const KvCache<P, D>& kv, const Capacity& capacity) {
    const TransformerConfig& c = stack.shape();
    expects<ArgumentError>(capacity.sequences > 0 && capacity.tokens >= capacity.sequences && capacity.longest > 0,
                           "Generator",
                           "capacity must be positive, with at least a token for each sequence: ", capacity.tokens,
                           " tokens, ", capacity.sequences, " sequences, the longest of ", capacity.longest);
    expects<ArgumentError>(capacity.longest <= c.max_len, "Generator", "stories of ", capacity.longest,
                           " tokens, the model's max_len is ", c.max_len);
    expects<ArgumentError>(kv.slots() >= capacity.sequences && kv.capacity() >= capacity.longest, "Generator",
                           "the KV cache has ", kv.slots(), " slots of ", kv.capacity(), " positions, needed are ",
                           capacity.sequences, " of ", capacity.longest);
    const index_t width = index_t{c.kv_heads()} * c.head_size();
    expects<ArgumentError>(kv.blocks() == c.n_layers && kv.width() == width, "Generator", "the KV cache is made for ",
                           kv.blocks(), " blocks of width ", kv.width(), ", the model has ", c.n_layers, " of ", width);
    return capacity;
  }

  void check(const GenerateRequest& request) const {
    const auto length = static_cast<index_t>(request.prompt.size());
    const auto require = [&](bool ok, const auto&... parts) {
      expects<ArgumentError>(ok, "Generator", "story ", request.story, ": ", parts...);
    };
    require(length > 0, "the prompt has no tokens, not even BOS");
    require(length <= stack_->shape().max_len, "the prompt has ", length, " tokens, the model's max_len is ",
            stack_->shape().max_len);
    require(request.max_tokens >= 0 && request.max_tokens <= capacity_.longest, "max_tokens is ", request.max_tokens,
            ", it may be up to ", capacity_.longest);
    require(length <= limit(request), "the prompt has ", length, " tokens, with it the story may have ",
            limit(request));
    for (const token_t id : request.prompt) {
      require(id >= 0 && id < stack_->shape().vocab_size, "token ", id, " of the prompt is not in the vocabulary of ",
              stack_->shape().vocab_size);
    }
  }
  [[nodiscard]] index_t limit(const GenerateRequest& request) const {
    return request.max_tokens > 0 ? request.max_tokens : capacity_.longest;
  }
  [[nodiscard]] token_t* ids(const Active& story) { return ids_.data() + story.slot * kv_.capacity(); }

  /// Gives free slots to the next requests; false when there is nothing left to do.
  bool start(std::span<const GenerateRequest> requests, std::size_t& next, std::vector<GeneratedStory>& stories,
             Sampler<D>& sampler) {
    while (next < requests.size() && static_cast<index_t>(active_.size()) < capacity_.sequences) {
      const GenerateRequest& request = requests[next];
      const auto length = static_cast<index_t>(request.prompt.size());
      stories[next].prompt_tokens = length;
      const Active story{
          .request = next++, .slot = kv_.acquire(), .length = length, .cached = 0, .limit = limit(request)};
      std::copy(request.prompt.begin(), request.prompt.end(), ids(story));
      sampler.begin(story.slot, request.prompt);
      length < story.limit ? active_.push_back(story) : static_cast<void>(finish(story, stories));
    }
    return !active_.empty();
  }

  /// Takes a story out of its slot.
  bool finish(const Active& story, std::vector<GeneratedStory>& stories) {
    stories[story.request].ids.assign(ids(story), ids(story) + story.length);
    kv_.release(story.slot);
    return true;
  }

  /// Fills the batch: every story gets a row, and the room that is left goes to prompts, first come first served.
  void forward(std::span<const GenerateRequest> requests) {
    batch_.clear();
    slots_.clear();
    rows_.clear();
    draws_.clear();
    drawing_.clear();
    index_t spare = capacity_.tokens - static_cast<index_t>(active_.size());
    for (std::size_t i = 0; i < active_.size(); ++i) {
      Active& story = active_[i];
      const std::uint32_t number = requests[story.request].story;
      const index_t count = std::min(story.length - story.cached, spare + 1);
      spare -= count - 1;
      batch_.append({ids(story) + story.cached, static_cast<std::size_t>(count)}, {}, number, story.cached);
      slots_.push_back(story.slot);
      story.cached += count;
      if (story.cached < story.length) continue;
      rows_.push_back(static_cast<std::int32_t>(batch_.tokens() - 1));
      draws_.push_back({.story = number, .position = static_cast<std::int32_t>(story.length), .slot = story.slot});
      drawing_.push_back(i);
    }
    hidden_ = stack_->hidden(pass(), cache_, kv_.views(slots_));
  }
  /// Logits of the rows that end their stories: (draws, vocab_size).
  [[nodiscard]] MatrixView<const Element> draw_logits() {
    const D& device = stack_->device();
    const auto count = static_cast<index_t>(rows_.size());
    device.copy_from_host(last_rows_.data(), rows_.data(), rows_.size() * sizeof(std::int32_t));
    ops::gather_rows(device, last_hidden_.rows(count), hidden_,
                     std::span<const std::int32_t>(last_rows_.data(), rows_.size()));
    stack_->logits(last_hidden_.rows(count), logits_.rows(count), pass());
    return logits_.rows(count);
  }
  [[nodiscard]] Pass<D> pass() const {
    return {.device = stack_->device(), .batch = batch_.view(), .row_invariant = true};
  }

  template <class F>
  static bool tell(F& on_token, const GeneratedToken& token) {
    if constexpr (std::convertible_to<std::invoke_result_t<F&, const GeneratedToken&>, bool>) {
      return static_cast<bool>(on_token(token));
    } else {
      on_token(token);
      return true;
    }
  }

  const Stack* stack_;
  Capacity capacity_;
  KvCache<P, D> kv_;
  typename Stack::Cache cache_;
  Packed<D> batch_;                    // the rows of the step under way
  MatrixView<const Element> hidden_;   // (tokens, d_model)        a view into cache_
  Tensor<std::int32_t, D> last_rows_;  // (sequences)              rows of hidden_ that get logits
  Tensor<Element, D> last_hidden_;     // (sequences, d_model)
  Tensor<Element, D> logits_;          // (sequences, vocab_size)
  std::vector<token_t> ids_;           // (slots, capacity)        of the stories in the slots
  std::vector<Active> active_;
  std::vector<std::int32_t> slots_;   // of the step's sequences
  std::vector<std::int32_t> rows_;    // host copy of last_rows_
  std::vector<Draw> draws_;           // one per row that gets logits
  std::vector<std::size_t> drawing_;  // the active story it belongs to
};

/// A TransformerLM is generated from as the stack it is: one instantiation for all configs.
template <class Model, class... Rest>
requires requires { typename Model::Stack; }
Generator(const Model&, Rest...)->Generator<typename Model::Stack>;

}  // namespace storylm
