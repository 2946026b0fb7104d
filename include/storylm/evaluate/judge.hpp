// SPDX-License-Identifier: MIT
/// @file
/// @brief How probable a model finds stories: their negative log-likelihoods, many stories packed together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/precision.hpp>
#include <storylm/evaluate/judge_policy.hpp>
#include <storylm/evaluate/summary.hpp>
#include <storylm/ops/elementwise.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>
#include <storylm/tensor/uploader.hpp>

namespace storylm::evaluate {

/// A story to score.
struct JudgeStory {
  std::vector<token_t> ids = {};  ///< of its text, without BOS and EOS
  index_t bytes = 0;              ///< of the text that is predicted, in UTF-8: without BOS, less its first token's
};

/// How a Judge works. No score depends on batch_tokens.
struct JudgeOptions {
  /// Tokens read at once; memory grows with them, and with the longest window if that is longer. 0: 1,024 where the
  /// host computes, else 8,192.
  index_t batch_tokens = 0;
  /// A story has the same bits whatever it is packed with. On a CPU that costs nothing and is always so; on a GPU
  /// matrix products are op::matmul_rows' instead of the library's.
  bool row_invariant = true;
};

/// How far a Judge has come.
struct JudgeProgress {
  std::size_t stories = 0;   ///< done; those that follow in the same batch are not counted before it is done
  index_t tokens = 0;        ///< predicted
  index_t total_tokens = 0;  ///< to be predicted, of all stories
};

/// Scores stories. Windows of all stories are packed together, one after another, until a batch is full, and the head
/// sees only the rows whose predictions are scored, chunk by chunk. Losses of a window are added in double, in their
/// order: a story's score depends on the story, the policy and the model alone.
/// @tparam Stack a nn::TransformerStack or TransformerLM
template <class Stack>
class Judge {
 public:
  using D = typename Stack::device_type;    ///< where it computes
  using Element = typename Stack::Element;  ///< dtype of activations
  using Loss = accumulator_t<Element>;      ///< dtype of a token's loss

  /// @param stack must outlive this
  /// @throws ArgumentError when the policy is none for this model, or batch_tokens negative
  explicit Judge(const Stack& stack, const JudgePolicy& policy = {}, const JudgeOptions& options = {})
      : stack_(&stack), policy_(resolved(policy, stack.shape().max_len)), options_(options) {
    const index_t vocab = stack.shape().vocab_size;
    expects<ArgumentError>(!policy.bos || policy.bos_id < vocab, "Judge", "BOS is ", policy.bos_id,
                           ", the model has a vocabulary of ", vocab);
    expects<ArgumentError>(options.batch_tokens >= 0, "Judge",
                           "batch_tokens must not be negative: ", options.batch_tokens);
    if (options_.batch_tokens == 0) options_.batch_tokens = D::host_memory ? 1024 : 8192;
  }

  /// With every 0 written out.
  [[nodiscard]] const JudgePolicy& policy() const noexcept { return policy_; }

  /// A score for each story, in their order.
  /// @param on_progress called with a JudgeProgress after each batch; when it returns false, scoring stops and stories
  /// that were not done have partial scores
  /// @throws ArgumentError when an id is not in the model's vocabulary
  template <class F>
  std::vector<StoryScore> score(std::span<const JudgeStory> stories, F&& on_progress) {
    std::vector<StoryScore> scores(stories.size());
    JudgeProgress progress;
    const std::vector<Part> parts = cut(stories, scores, progress);
    if (!parts.empty()) make_memory(parts);
    for (std::size_t begin = 0; begin < parts.size();) {
      const std::size_t end = pack(stories, parts, begin);
      add_losses(std::span(parts).subspan(begin, end - begin), scores, progress);
      progress.stories = end < parts.size() ? parts[end].story : stories.size();
      begin = end;
      if (!tell(on_progress, progress)) break;
    }
    return scores;
  }
  /// The same without a callback.
  std::vector<StoryScore> score(std::span<const JudgeStory> stories) {
    return score(stories, [](const JudgeProgress&) {});
  }

 private:
  /// A window of a story.
  struct Part {
    std::size_t story;
    JudgeWindow window;
    [[nodiscard]] index_t length() const { return window.end - window.begin; }
  };
  /// What batches of up to a capacity need.
  struct Memory {
    Memory(const Stack& stack, const Capacity& capacity)
        : cache(stack.make_inference_cache(capacity)),
          uploader(capacity, stack.device()),
          batch(capacity, Cpu{}),
          rows({capacity.tokens}, stack.device()),
          targets({capacity.tokens}, stack.device()),
          losses({capacity.tokens}, stack.device()) {}
    typename Stack::Cache cache;
    Uploader<D> uploader;
    Packed<Cpu> batch;
    Tensor<std::int32_t, D> rows;  // (tokens)  rows of the batch that are scored
    Tensor<token_t, D> targets;    // (tokens)  what they are to predict
    Tensor<Loss, D> losses;        // (tokens)  of those
  };

  /// The windows of all stories; in scores and progress, what is known without reading them.
  std::vector<Part> cut(std::span<const JudgeStory> stories, std::vector<StoryScore>& scores,
                        JudgeProgress& progress) const {
    const index_t vocab = stack_->shape().vocab_size;
    std::vector<Part> parts;
    for (std::size_t i = 0; i < stories.size(); ++i) {
      for (const token_t id : stories[i].ids) {
        expects<ArgumentError>(id >= 0 && id < vocab, "Judge", "story ", i, ": token ", id,
                               " is not in the model's vocabulary of ", vocab);
      }
      const index_t tokens = static_cast<index_t>(stories[i].ids.size()) + (policy_.bos ? 1 : 0);
      const index_t targets = static_cast<index_t>(stories[i].ids.size()) - (policy_.bos ? 0 : 1);
      if (stories[i].ids.empty() || targets == 0) continue;
      scores[i].targets = targets;
      scores[i].bytes = stories[i].bytes;
      for (const JudgeWindow& window : judge_windows(tokens, policy_)) {
        parts.push_back({i, window});
        progress.total_tokens += window.scored();
      }
    }
    return parts;
  }

  /// Room for the longest window, and for batch_tokens if there are as many: what long stories need is not asked for
  /// before one comes.
  void make_memory(const std::vector<Part>& parts) {
    index_t longest = 0;
    index_t total = 0;
    for (const Part& part : parts) {
      longest = std::max(longest, part.length());
      total += part.length();
    }
    index_t tokens = std::max(longest, std::min(total, options_.batch_tokens));
    if (memory_) {
      const Capacity& has = memory_->batch.capacity();
      if (has.tokens >= tokens && has.longest >= longest) return;
      tokens = std::max(tokens, has.tokens);
      longest = std::max(longest, has.longest);
      memory_.reset();  // before the new one: there may not be room for both
    }
    if constexpr (!D::host_memory) tokens = (tokens + 511) / 512 * 512;
    memory_.emplace(*stack_, Capacity{.tokens = tokens, .sequences = tokens, .longest = longest});
  }

  /// Packs windows from `begin` on while there is room; returns behind the last.
  std::size_t pack(std::span<const JudgeStory> stories, const std::vector<Part>& parts, std::size_t begin) {
    Packed<Cpu>& batch = memory_->batch;
    batch.clear();
    rows_.clear();
    targets_.clear();
    std::size_t end = begin;
    for (; end < parts.size() && batch.fits(parts[end].length()); ++end) {
      const auto& [story, window] = parts[end];
      const std::vector<token_t>& ids = stories[story].ids;
      const index_t before = policy_.bos ? 1 : 0;
      const auto token = [&](index_t i) {
        return i < before ? policy_.bos_id : ids[static_cast<std::size_t>(i - before)];
      };
      const index_t row = batch.tokens() - window.begin;
      read_.clear();
      for (index_t i = window.begin; i < window.end; ++i) read_.push_back(token(i));
      for (index_t i = window.first; i < window.end; ++i) {
        rows_.push_back(static_cast<std::int32_t>(row + i));
        targets_.push_back(token(i + 1));
      }
      batch.append(read_, {}, 0);
    }
    return end;
  }

  /// Reads the batch, which holds these windows, and adds their losses to the stories' scores.
  void add_losses(std::span<const Part> parts, std::vector<StoryScore>& scores, JudgeProgress& progress) {
    const D& device = stack_->device();
    const auto count = static_cast<index_t>(targets_.size());
    const Pass<D> pass{.device = device,
                       .batch = memory_->uploader(memory_->batch).view(),
                       .row_invariant = options_.row_invariant && !D::host_memory};
    MatrixView<const Element> hidden = stack_->hidden(pass, memory_->cache);  // (tokens, d_model)
    auto scratch = device.scratch();
    if (count == memory_->batch.tokens()) {
      hidden = hidden.slice_rows(0, count);
    } else {
      const MatrixView<Element> scored(scratch.template take<Element>(count * hidden.cols), count, hidden.cols);
      device.copy_from_host(memory_->rows.data(), rows_.data(), rows_.size() * sizeof(rows_[0]));
      ops::gather_rows(device, scored, hidden, std::span<const std::int32_t>(memory_->rows.data(), rows_.size()));
      hidden = scored;
    }
    device.copy_from_host(memory_->targets.data(), targets_.data(), targets_.size() * sizeof(targets_[0]));
    stack_->token_losses(hidden, std::span<Loss>(memory_->losses.data(), targets_.size()),
                         std::span<const token_t>(memory_->targets.data(), targets_.size()), pass);
    losses_.resize(targets_.size());
    device.copy_to_host(losses_.data(), memory_->losses.data(), losses_.size() * sizeof(losses_[0]));
    device.synchronize();

    std::size_t at = 0;
    for (const auto& [story, window] : parts) {
      double sum = 0.0;
      for (index_t i = 0; i < window.scored(); ++i) sum += static_cast<double>(losses_[at++]);
      if (window.counted != window.scored())
        sum = sum / static_cast<double>(window.scored()) * static_cast<double>(window.counted);
      scores[story].nll += sum;
      scores[story].tokens += window.counted;
      progress.tokens += window.scored();
    }
  }

  template <class F>
  static bool tell(F& on_progress, const JudgeProgress& progress) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, const JudgeProgress&>>) {
      on_progress(progress);
      return true;
    } else {
      return static_cast<bool>(on_progress(progress));
    }
  }

  const Stack* stack_;
  JudgePolicy policy_;
  JudgeOptions options_;
  std::optional<Memory> memory_;
  std::vector<token_t> read_;       // of a window
  std::vector<std::int32_t> rows_;  // of the batch
  std::vector<token_t> targets_;    // of the batch
  std::vector<Loss> losses_;        // of the batch
};

}  // namespace storylm::evaluate
