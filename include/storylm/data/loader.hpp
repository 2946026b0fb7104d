// SPDX-License-Identifier: MIT
/// @file
/// @brief From tokenized stories to packed batches: split, shuffling, micro-batches, a cursor that can be saved.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/core/state.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/tensor/packed.hpp>

namespace storylm {

/// Which part of the stories a loader gives out.
enum class Split { train, validation };

/// How a StoryLoader splits, cuts, shuffles and packs.
struct LoaderOptions {
  index_t batch_size = 512;            ///< stories a step
  index_t max_len = 256;               ///< tokens of an item, BOS and EOS among them; longer stories are cut
  double validation_fraction = 0.005;  ///< of the stories; at least one of two or more, none when 0
  std::uint64_t seed = 1;              ///< of split and shuffling
  token_t bos = 1;                     ///< begins every item
  token_t eos = 2;                     ///< ends every item
  Capacity capacity{};                 ///< of one micro-batch; what is 0 is made large enough for the whole batch
  index_t epochs = std::numeric_limits<index_t>::max();  ///< where iteration with begin() and end() stops
};

/// The stories of one step as micro-batches. Sums over them are scaled once, by 1 / targets(), so that the result is
/// that of the whole batch however it is cut.
class StepBatch {
 public:
  /// The first micro-batch.
  [[nodiscard]] const Packed<Cpu>* begin() const noexcept { return micro_batches_.data(); }
  /// Behind the last one.
  [[nodiscard]] const Packed<Cpu>* end() const noexcept { return micro_batches_.data() + used_; }
  /// Number of micro-batches.
  [[nodiscard]] std::size_t size() const noexcept { return used_; }
  /// Micro-batch i in [0, size()).
  [[nodiscard]] const Packed<Cpu>& operator[](std::size_t i) const noexcept { return micro_batches_[i]; }

  /// Target tokens of all micro-batches together.
  [[nodiscard]] index_t targets() const noexcept { return targets_; }
  /// Which stories of the source these are; story i has ordinal i in the micro-batches.
  [[nodiscard]] std::span<const std::uint32_t> stories() const noexcept { return stories_; }
  /// The epoch they belong to, from 0.
  [[nodiscard]] index_t epoch() const noexcept { return epoch_; }

 private:
  template <StorySource Source>
  friend class StoryLoader;

  std::vector<Packed<Cpu>> micro_batches_;  // the first used_ are filled
  std::size_t used_ = 0;
  std::vector<std::uint32_t> stories_;  // (stories)
  index_t targets_ = 0;
  index_t epoch_ = 0;
};

/// Gives out the stories of one split, batch by batch. An item is BOS + the first max_len - 2 tokens + EOS; inputs are
/// all of it but the last token, targets all but the first.
///
/// The order of an epoch is a function of (seed, epoch), so the state is the cursor (epoch, index) and a resumed run
/// sees the very batches it would have seen. The last batch of an epoch is as short as it comes. Validation stories
/// come in the order of the source. After construction nothing is allocated. While a batch is in use, a source that has
/// `prefetch(story, count)` is told what the next one will read.
template <StorySource Source>
class StoryLoader {
 public:
  /// @throws ArgumentError when there is nothing to train on, or an option is out of range
  explicit StoryLoader(Source source, const LoaderOptions& options = {}, Split split = Split::train)
      : source_(std::move(source)), options_(options), split_(split) {
    expects<ArgumentError>(options.batch_size > 0, op, "batch_size must be positive: ", options.batch_size);
    expects<ArgumentError>(options.max_len >= 2, op, "max_len must be at least 2, BOS and EOS: ", options.max_len);
    expects<ArgumentError>(options.validation_fraction >= 0.0 && options.validation_fraction < 1.0, op,
                           "validation_fraction must be in [0, 1): ", options.validation_fraction);
    expects<ArgumentError>(source_.size() <= std::int64_t{0xFFFFFFFF}, op,
                           "more stories than 32 bits count: ", source_.size());
    choose_members();
    expects<ArgumentError>(split == Split::validation || !members_.empty(), op, "there are no stories to train on");
    order_ = members_;
    allocate();
    item_.resize(static_cast<std::size_t>(options.max_len));

    const std::array<std::uint64_t, 4> identity{source_.fingerprint(), options.seed,
                                                std::bit_cast<std::uint64_t>(options.validation_fraction),
                                                static_cast<std::uint64_t>(split)};
    own_fingerprint_ = detail::hash64(std::as_bytes(std::span(identity)));
    fingerprint_ = own_fingerprint_;
  }

  /// The batch at the cursor; the cursor moves behind it. Valid until the next call.
  /// @throws ArgumentError when the split is empty, or a state was loaded that belongs to other data
  const StepBatch& next() {
    const bool in_range = epoch_ >= 0 && index_ >= 0 && (index_ < size() || size() == 0);
    if (fingerprint_ != own_fingerprint_ || !in_range) {  // hash_text() allocates: not in a steady step
      detail::fail<ArgumentError>(op, "the saved cursor (epoch ", epoch_, ", story ", index_,
                                  ") belongs to other data, another seed or another split: fingerprint ",
                                  detail::hash_text(fingerprint_), ", expected ", detail::hash_text(own_fingerprint_));
    }
    expects<ArgumentError>(size() > 0, op, "the ", split_ == Split::train ? "training" : "validation",
                           " split is empty");
    arrange();
    const std::span<const std::uint32_t> stories = upcoming();
    batch_.epoch_ = epoch_;
    batch_.stories_.assign(stories.begin(), stories.end());  // order_ may change below
    pack();
    index_ += static_cast<index_t>(stories.size());
    if (index_ == size()) {
      index_ = 0;
      ++epoch_;
    }
    prefetch();
    return batch_;
  }

  /// Back to the first batch of the first epoch: before each validation.
  void rewind() noexcept { epoch_ = index_ = 0; }

  /// Number of stories in this split.
  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(members_.size()); }
  /// Steps an epoch.
  [[nodiscard]] index_t batches_per_epoch() const noexcept {
    return (size() + options_.batch_size - 1) / options_.batch_size;
  }
  /// The epoch of the next batch, from 0.
  [[nodiscard]] index_t epoch() const noexcept { return epoch_; }
  /// Stories of this epoch already given out.
  [[nodiscard]] index_t index() const noexcept { return index_; }
  /// Most that a micro-batch holds: what caches and scratch are sized by.
  [[nodiscard]] const Capacity& capacity() const noexcept { return options_.capacity; }
  /// What it was made with; a capacity of 0 filled in.
  [[nodiscard]] const LoaderOptions& options() const noexcept { return options_; }
  /// Where the stories come from.
  [[nodiscard]] const Source& source() const noexcept { return source_; }

  /// `for (const StepBatch& batch : loader)` goes on from the cursor to the end of epoch `options.epochs`.
  class Iterator {
   public:
    /// @cond
    using iterator_concept = std::input_iterator_tag;
    using value_type = StepBatch;
    using difference_type = std::ptrdiff_t;

    explicit Iterator(StoryLoader& loader) : loader_(&loader) { advance(); }
    const StepBatch& operator*() const noexcept { return *batch_; }
    Iterator& operator++() {
      advance();
      return *this;
    }
    void operator++(int) { advance(); }
    friend bool operator==(const Iterator& iterator, std::default_sentinel_t) noexcept {
      return iterator.batch_ == nullptr;
    }

    /// @endcond
   private:
    void advance() {
      const bool more = loader_->size() > 0 && loader_->epoch_ < loader_->options_.epochs;
      batch_ = more ? &loader_->next() : nullptr;
    }
    StoryLoader* loader_;
    const StepBatch* batch_ = nullptr;
  };
  /// The batch at the cursor; each step of the iterator calls next().
  [[nodiscard]] Iterator begin() { return Iterator(*this); }
  /// The end of epoch `options.epochs`.
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// The cursor, and what tells that it belongs to this data.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("epoch", self.epoch_);
    f("index", self.index_);
    f("fingerprint", self.fingerprint_);
  }

 private:
  static constexpr std::string_view op = "StoryLoader";
  static constexpr std::uint32_t split_site = 0x73706C74U;    // tells the draws of the split
  static constexpr std::uint32_t shuffle_site = 0x73687566U;  // from those of the shuffling

  /// Places first ... last - 1 of `values` get a random choice out of all from `first` on, in random order (Fisher and
  /// Yates): done for all places piece by piece, it is one shuffle.
  static void shuffle(std::span<std::uint32_t> values, std::size_t first, std::size_t last, RandomStream& random) {
    for (std::size_t i = first; i < last && i + 1 < values.size(); ++i) {
      std::swap(values[i], values[i + static_cast<std::size_t>(random.below(values.size() - i))]);
    }
  }

  void choose_members() {
    const auto stories = static_cast<std::size_t>(source_.size());
    members_.resize(stories);
    std::iota(members_.begin(), members_.end(), 0U);
    std::size_t chosen = 0;
    if (stories >= 2 && options_.validation_fraction > 0.0) {
      const double wanted = std::round(options_.validation_fraction * static_cast<double>(stories));
      chosen = std::clamp<std::size_t>(static_cast<std::size_t>(wanted), 1, stories - 1);
    }
    RandomStream random(options_.seed, 0, split_site);
    shuffle(members_, 0, chosen, random);
    const auto boundary = members_.begin() + static_cast<std::ptrdiff_t>(chosen);
    if (split_ == Split::train) {
      members_.erase(members_.begin(), boundary);
    } else {
      members_.erase(boundary, members_.end());
    }
    std::sort(members_.begin(), members_.end());
    members_.shrink_to_fit();
  }

  /// Micro-batches for the worst batch there can be, so that no step has to make one.
  void allocate() {
    Capacity& capacity = options_.capacity;
    const index_t stories = std::max<index_t>(std::min(options_.batch_size, size()), 1);
    const index_t longest = options_.max_len - 1;
    index_t all_tokens = stories * longest;
    if (all_tokens / longest != stories) all_tokens = std::numeric_limits<std::int32_t>::max();
    if (capacity.longest == 0) capacity.longest = longest;
    if (capacity.tokens == 0) capacity.tokens = all_tokens;
    if (capacity.sequences == 0) capacity.sequences = stories;
    expects<ArgumentError>(capacity.longest >= longest && capacity.tokens >= longest && capacity.sequences >= 1, op,
                           "a micro-batch of ", capacity.tokens, " tokens and ", capacity.sequences,
                           " sequences of at most ", capacity.longest, " cannot hold a story of ", longest, " tokens");
    expects<ArgumentError>(capacity.tokens <= std::numeric_limits<std::int32_t>::max(), op, "a micro-batch of ",
                           capacity.tokens, " tokens is more than 32 bits count: lower batch_size or capacity.tokens");
    // A micro-batch ends for want of tokens or of sequences. Of two neighbours where the first ended for want of
    // tokens, the sum is over capacity.tokens.
    index_t count = 1;
    if (capacity.tokens < all_tokens || capacity.sequences < stories) {
      count = std::min(stories, 2 * (all_tokens / capacity.tokens) + stories / capacity.sequences + 2);
    }
    batch_.stories_.reserve(static_cast<std::size_t>(stories));
    batch_.micro_batches_.reserve(static_cast<std::size_t>(count));
    for (index_t i = 0; i < count; ++i) batch_.micro_batches_.emplace_back(capacity, Cpu{});
  }

  /// The stories of the batch at the cursor, when order_ is arranged.
  [[nodiscard]] std::span<const std::uint32_t> upcoming() const noexcept {
    return std::span(order_).subspan(static_cast<std::size_t>(index_),
                                     static_cast<std::size_t>(std::min(options_.batch_size, size() - index_)));
  }

  /// Has the source fetch the next batch while this one is computed, so that no step waits for a disk. That is a hint:
  /// neither state nor content depends on it.
  void prefetch() {
    if constexpr (requires(index_t count) { source_.prefetch(count, count); }) {
      if (epoch_ >= options_.epochs) return;
      arrange();
      for (const std::uint32_t story : upcoming()) {
        source_.prefetch(story, std::min(source_.length(story), options_.max_len - 2));
      }
    }
  }

  /// Puts the stories of the batch at the cursor into their places in order_. An epoch is shuffled batch by batch, so
  /// that none of millions of stories makes one step longer than another.
  void arrange() {
    if (split_ == Split::validation) return;
    if (ordered_epoch_ != epoch_) {
      std::copy(members_.begin(), members_.end(), order_.begin());
      random_ = RandomStream(options_.seed, static_cast<std::uint64_t>(epoch_), shuffle_site);
      placed_ = 0;
      ordered_epoch_ = epoch_;
    }
    const auto needed = static_cast<std::size_t>(index_ + std::min(options_.batch_size, size() - index_));
    shuffle(order_, placed_, needed, random_);
    placed_ = std::max(placed_, needed);
  }

  void pack() {
    batch_.used_ = 0;
    batch_.targets_ = 0;
    std::uint32_t ordinal = 0;
    for (const std::uint32_t story : batch_.stories_) {
      const index_t kept = std::min(source_.length(story), options_.max_len - 2);
      const std::span<token_t> item = std::span(item_).first(static_cast<std::size_t>(kept) + 2);
      item.front() = options_.bos;
      source_.read(story, item.subspan(1, static_cast<std::size_t>(kept)));
      item.back() = options_.eos;
      if (batch_.used_ == 0 || !batch_.micro_batches_[batch_.used_ - 1].fits(kept + 1)) {
        batch_.micro_batches_[batch_.used_++].clear();
      }
      batch_.micro_batches_[batch_.used_ - 1].append(item.first(item.size() - 1), item.subspan(1), ordinal++);
      batch_.targets_ += kept + 1;
    }
  }

  Source source_;
  LoaderOptions options_;
  Split split_;
  std::vector<std::uint32_t> members_;  // (size)  stories of this split, ascending
  std::vector<std::uint32_t> order_;    // (size)  the same, the first placed_ of them in the order of ordered_epoch_
  std::vector<token_t> item_;           // (max_len)
  StepBatch batch_;
  index_t ordered_epoch_ = -1;
  std::size_t placed_ = 0;
  RandomStream random_{0};  // of the epoch's further places
  std::uint64_t own_fingerprint_ = 0;
  // The state.
  index_t epoch_ = 0;
  index_t index_ = 0;
  std::uint64_t fingerprint_ = 0;
};
static_assert(Stateful<StoryLoader<TokenLists>>);

}  // namespace storylm
