// SPDX-License-Identifier: MIT
/// @file
/// @brief Continues stories token by token, many at a time, each the same as if it were alone.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/generate/decode_rows.hpp>
#include <storylm/generate/kv_cache.hpp>
#include <storylm/generate/sampler.hpp>
#include <storylm/nn/transformer_stack.hpp>
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
  std::vector<token_t> further_ends = {};   ///< so do these, such as a chat model's <|end_of_turn|>
  std::vector<token_t> banned = {0, 1, 3};  ///< never drawn: UNK, BOS and PAD; negative ids are left out
  /// Tokens of each story between two looks at them: callbacks and new stories wait for a look, and stories that end in
  /// between go on unseen. 0: 1 where the host computes, 16 where looking interrupts the device.
  index_t tokens_per_look = 0;

  /// True when the token ends a story.
  [[nodiscard]] bool ends(token_t token) const noexcept {
    return token >= 0 &&
           (token == eos || std::find(further_ends.begin(), further_ends.end(), token) != further_ends.end());
  }
};

/// A story that was written.
struct GeneratedStory {
  std::vector<token_t> ids;   ///< prompt and continuation, without EOS or another end
  index_t prompt_tokens = 0;  ///< how many of them are the prompt
  bool ended = false;         ///< by such a token; else it has max_tokens tokens, or writing was stopped
};

/// One token of a story, as it is drawn.
struct GeneratedToken {
  std::size_t request = 0;            ///< index of its request
  std::uint32_t story = 0;            ///< the request's number of the story
  index_t position = 0;               ///< counts the prompt
  token_t token = 0;                  ///< what was drawn
  bool last = false;                  ///< the story is done, by its end (then that is the token) or by length
  std::span<const token_t> ids = {};  ///< the story so far, prompt included and end not; valid in the callback only
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
  { stack.head.logits_stride() } -> std::convertible_to<index_t>;
};

/// Prompts run through the forward pass many tokens at a time, row-invariant, until all but their last tokens are
/// cached. Then all stories go on together, a token a step, in steps that are the same work each time (on a GPU one
/// CUDA graph), and the host looks at what was drawn every few steps. A story that is done leaves its slot to the next
/// request at the next look. A story's tokens depend on its prompt, its number, the sampler's options, banned ids and
/// the model alone: neither on the other stories nor on slots, batch size, threads or looks. A step in which no story
/// begins or ends allocates nothing.
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
        prompts_(capacity, Cpu{}),
        logits_({capacity.sequences, stack.head.logits_stride()}, stack.device()),
        ids_(static_cast<std::size_t>(kv_.slots() * kv_.capacity())) {
    if constexpr (!D::host_memory) prompts_on_device_.emplace(capacity, stack.device());
    const auto sequences = static_cast<std::size_t>(capacity.sequences);
    active_.reserve(sequences);
    slots_.reserve(sequences);
    draws_.reserve(sequences);
    rows_.reserve(sequences);
  }
  /// Makes its own memory.
  /// @param batch_size stories at a time
  /// @param longest tokens of a story at most: memory grows with it; 0: the model's max_len
  /// @throws ArgumentError when one is not positive, or `longest` exceeds max_len
  explicit Generator(const Stack& stack, index_t batch_size = 32, index_t longest = 0)
      : Generator(stack, Capacity{.tokens = std::max<index_t>(batch_size, prefill_tokens),
                                  .sequences = batch_size,
                                  .longest = longest != 0 ? longest : stack.shape().max_len}) {}

  /// Writes a story for each request, in their order.
  /// @param on_token called with a GeneratedToken after each draw, EOS included; when it returns false, writing stops
  /// and the stories are as far as they are
  /// @throws ArgumentError when a prompt is empty or too long, an id or an option out of range, or a logit a NaN
  template <class F>
  std::vector<GeneratedStory> generate(std::span<const GenerateRequest> requests, const GenerateOptions& options,
                                       F&& on_token) {
    for (const GenerateRequest& request : requests) check(request);
    prepare(options);
    std::vector<GeneratedStory> stories(requests.size());
    std::size_t next = 0;
    kv_.release_all();  // a call that ended by an exception may have left some
    active_.clear();
    bool going_on = true;
    while (going_on && start(requests, next, stories)) {
      cache_prompts(requests);
      const index_t steps = std::min(decode_->steps(), longest_way());
      const std::span<const token_t> drawn = decode(requests, steps);  // (steps, rows)
      const std::size_t rows = rows_.size();
      for (std::size_t at = 0; going_on && at < static_cast<std::size_t>(steps) * rows; at += rows) {
        for (std::size_t i = 0; i < active_.size(); ++i) {
          if (active_[i].done) continue;
          const GeneratedToken token = continue_story(active_[i], requests, options, drawn[at + i]);
          stories[token.request].ended = options.ends(token.token);
          going_on &= tell(on_token, token);
        }
      }
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
  /// Numbers of rows whose steps are replayed by now; none where the host computes.
  [[nodiscard]] std::size_t recorded() const noexcept {
    return static_cast<std::size_t>(std::count_if(recordings_.begin(), recordings_.end(),
                                                  [](const auto& entry) { return entry.second.recorded(); }));
  }
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
    index_t cached = 0;  ///< tokens of the prompt whose keys and values are cached
    index_t limit = 0;   ///< tokens it may have
    bool done = false;
  };

  Generator(const Stack& stack, const Capacity& capacity)
      : Generator(stack, make_kv(stack, checked(stack, capacity)), capacity) {}
  static KvCache<P, D> make_kv(const Stack& stack, const Capacity& capacity) {
    return {stack.shape(), capacity.sequences, capacity.longest, stack.device()};
  }
  static const Capacity& checked(const Stack& stack, const Capacity& capacity) {
    const TransformerConfig& c = stack.shape();
    expects<ArgumentError>(capacity.sequences > 0 && capacity.tokens >= capacity.sequences && capacity.longest > 0,
                           "Generator",
                           "capacity must be positive, with at least a token for each sequence: ", capacity.tokens,
                           " tokens, ", capacity.sequences, " sequences, the longest of ", capacity.longest);
    expects<ArgumentError>(capacity.longest <= c.max_len, "Generator", "stories of ", capacity.longest,
                           " tokens, the model's max_len is ", c.max_len);
    return capacity;
  }
  static const Capacity& checked(const Stack& stack, const KvCache<P, D>& kv, const Capacity& capacity) {
    checked(stack, capacity);
    const TransformerConfig& c = stack.shape();
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

  /// Makes what depends on the options, or leaves it as it is; recorded steps hold it.
  void prepare(const GenerateOptions& options) {
    expects<ArgumentError>(options.tokens_per_look >= 0, "Generator",
                           "tokens_per_look must not be negative: ", options.tokens_per_look);
    for (const token_t id : options.banned) {
      expects<ShapeError>(id < stack_->shape().vocab_size, "Generator", "banned token ", id,
                          " is not in the vocabulary of ", stack_->shape().vocab_size);
    }
    const index_t steps = options.tokens_per_look > 0 ? std::min(options.tokens_per_look, capacity_.longest)
                          : D::host_memory            ? 1
                                                      : 16;
    if (!sampler_ || sampler_->options() != options.sampler || banned_ != options.banned) {
      recordings_.clear();
      sampler_.emplace(options.sampler, options.banned, kv_.slots(), kv_.capacity(), stack_->device());
      banned_ = options.banned;
    }
    if (!decode_ || decode_->steps() != steps) {
      recordings_.clear();
      decode_.emplace(capacity_.sequences, steps, capacity_.longest, stack_->device());
    }
  }

  /// Gives free slots to the next requests; false when there is nothing left to do.
  bool start(std::span<const GenerateRequest> requests, std::size_t& next, std::vector<GeneratedStory>& stories) {
    while (next < requests.size() && static_cast<index_t>(active_.size()) < capacity_.sequences) {
      const GenerateRequest& request = requests[next];
      const auto length = static_cast<index_t>(request.prompt.size());
      stories[next].prompt_tokens = length;
      const Active story{
          .request = next++, .slot = kv_.acquire(), .length = length, .cached = 0, .limit = limit(request)};
      std::copy(request.prompt.begin(), request.prompt.end(), ids(story));
      sampler_->begin(story.slot, request.prompt);
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

  /// Keys and values of all tokens but the last of each story, first come first served.
  void cache_prompts(std::span<const GenerateRequest> requests) {
    while (true) {
      prompts_.clear();
      slots_.clear();
      for (Active& story : active_) {
        const index_t count = std::min(story.length - 1 - story.cached, capacity_.tokens - prompts_.tokens());
        if (count <= 0) continue;
        prompts_.append({ids(story) + story.cached, static_cast<std::size_t>(count)}, {}, requests[story.request].story,
                        story.cached);
        slots_.push_back(story.slot);
        story.cached += count;
      }
      if (prompts_.sequences() == 0) return;
      static_cast<void>(stack_->hidden(pass(batch_of_prompts()), cache_, kv_.views(slots_)));
    }
  }
  [[nodiscard]] PackedView batch_of_prompts() {
    if constexpr (D::host_memory) {
      return prompts_.view();
    } else {
      prompts_on_device_->assign(prompts_);
      return prompts_on_device_->view();
    }
  }

  /// Tokens that the story furthest from its limit may still get.
  [[nodiscard]] index_t longest_way() const {
    index_t longest = 0;
    for (const Active& story : active_) longest = std::max(longest, story.limit - story.length);
    return longest;
  }
  /// All stories go on by `steps` tokens, which it returns: (steps, rows), the rows of active_ first.
  [[nodiscard]] std::span<const token_t> decode(std::span<const GenerateRequest> requests, index_t steps) {
    slots_.clear();
    draws_.clear();
    rows_.clear();
    for (const Active& story : active_) {
      slots_.push_back(story.slot);
      draws_.push_back({.story = requests[story.request].story,
                        .position = static_cast<std::int32_t>(story.length),
                        .slot = story.slot});
      rows_.push_back({.id = ids(story)[story.length - 1], .position = static_cast<std::int32_t>(story.length - 1)});
    }
    if constexpr (!D::host_memory) {  // few different numbers of rows, for they are recorded; idle ones have free slots
      const auto rows = std::min(std::bit_ceil(active_.size()), static_cast<std::size_t>(capacity_.sequences));
      for (std::size_t idle = 0; rows_.size() < rows; ++idle) {
        slots_.push_back(kv_.free_slots()[idle]);
        draws_.push_back({.slot = slots_.back()});
        rows_.emplace_back();
      }
    }
    static_cast<void>(kv_.views(slots_));
    sampler_->assign(draws_);
    decode_->assign(rows_);
    auto& recording = recordings_[rows_.size()];
    for (index_t i = 0; i < steps; ++i) recording.run(stack_->device(), [&] { step(); });
    return decode_->look();
  }
  /// The next token of each row. The same work on the same memory each time, without the host.
  void step() {
    const Pass<D> step_pass = pass(decode_->batch(sampler_->stories()));
    const auto hidden = stack_->hidden(step_pass, cache_, kv_.views());
    const MatrixView<Element> y(logits_.data(), hidden.rows, stack_->shape().vocab_size, logits_.shape()[1]);
    stack_->logits(hidden, y, step_pass);
    const auto drawn = sampler_->draw(y);
    ops::advance_stories<Element>(step_pass.device, decode_->stories(sampler_->positions()), drawn);
  }
  [[nodiscard]] Pass<D> pass(const PackedView& batch) const {
    return {.device = stack_->device(), .batch = batch, .row_invariant = true};
  }
  /// A story gets a token. @throws ArgumentError when it is no_sample
  GeneratedToken continue_story(Active& story, std::span<const GenerateRequest> requests,
                                const GenerateOptions& options, token_t token) {
    const std::uint32_t number = requests[story.request].story;
    const index_t position = story.length;
    const auto place = static_cast<std::int32_t>(position);
    ops::expects_sampled({&token, 1}, &number, &place);
    const bool is_end = options.ends(token);
    if (!is_end) ids(story)[story.length++] = token;
    story.cached = story.length - 1;
    story.done = is_end || story.length == story.limit;
    return {.request = story.request,
            .story = number,
            .position = position,
            .token = token,
            .last = story.done,
            .ids = {ids(story), static_cast<std::size_t>(story.length)}};
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
  Packed<Cpu> prompts_;                         // parts of prompts under way
  std::optional<Packed<D>> prompts_on_device_;  // their copy, unless D is the host
  Tensor<Element, D> logits_;                   // (sequences, the head's logits_stride)
  std::vector<token_t> ids_;                    // (slots, capacity)  of the stories in the slots
  std::optional<Sampler<D>> sampler_;           // with the options of the last call
  std::vector<token_t> banned_;                 // of the last call
  std::optional<DecodeRows<D>> decode_;
  std::map<std::size_t, typename D::Recording> recordings_;  // of a step, by its rows
  std::vector<Active> active_;
  std::vector<std::int32_t> slots_;  // of the sequences under way, as the next two
  std::vector<Draw> draws_;
  std::vector<typename DecodeRows<D>::Row> rows_;
};

/// A TransformerLM is generated from as the stack it is: one instantiation for all configs.
template <class Model, class... Rest>
requires requires { typename Model::Stack; }
Generator(const Model&, Rest...)->Generator<typename Model::Stack>;

}  // namespace storylm
