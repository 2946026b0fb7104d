// SPDX-License-Identifier: MIT
/// @file
/// @brief From the scores of stories to perplexity, bits per byte and error bars.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>

#include <storylm/core/dtype.hpp>

namespace storylm::evaluate {

/// What a judge says of a story. All zero where there was nothing to predict.
struct StoryScore {
  index_t tokens = 0;   ///< what a mean is over: predicted tokens, or what the policy counts instead
  double nll = 0.0;     ///< in nats, so that nll / tokens is the story's mean loss
  index_t targets = 0;  ///< tokens of the story behind its first (with BOS: all)
  index_t bytes = 0;    ///< of the text of those, in UTF-8

  /// exp(nll / tokens); NaN where there was nothing to predict.
  [[nodiscard]] double perplexity() const {
    return tokens == 0 ? std::numeric_limits<double>::quiet_NaN() : std::exp(nll / static_cast<double>(tokens));
  }
  /// Field by field.
  friend bool operator==(const StoryScore&, const StoryScore&) = default;
};

/// Numbers about many stories. What there is not enough for is NaN: everything real without a single scored story,
/// errors with less than two.
struct Summary {
  index_t stories = 0;                 ///< all, skipped ones too
  index_t skipped = 0;                 ///< had nothing to predict: empty, or one token without BOS
  index_t tokens = 0;                  ///< of all stories together
  double mean_nll = 0;                 ///< over tokens: all losses together by all tokens, in nats
  double perplexity = 0;               ///< over tokens: exp(mean_nll)
  double perplexity_over_stories = 0;  ///< the mean of the stories' perplexities, each counting the same
  double bits_per_byte = 0;            ///< mean_nll / ln 2 times the predicted tokens that a byte of text has
  /// Of mean_nll, which is the ratio of two sums over stories, stories being drawn and tokens not: the square root of
  /// n/(n - 1) sum (nll_i - mean_nll tokens_i)^2, by all tokens; W. G. Cochran, "Sampling Techniques", 3rd ed., 6.4.
  double standard_error = 0;
  double standard_error_over_stories = 0;  ///< of perplexity_over_stories: sample deviation by sqrt(n)
};

/// Adds stories up, in their order.
[[nodiscard]] inline Summary summarise(std::span<const StoryScore> stories) {
  Summary s;
  s.stories = static_cast<index_t>(stories.size());
  double nll = 0.0;
  double perplexities = 0.0;
  double targets = 0.0;
  double bytes = 0.0;
  for (const StoryScore& story : stories) {
    if (story.tokens == 0) {
      ++s.skipped;
      continue;
    }
    s.tokens += story.tokens;
    nll += story.nll;
    perplexities += story.perplexity();
    targets += static_cast<double>(story.targets);
    bytes += static_cast<double>(story.bytes);
  }
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  const auto ratio = [](double x, double by) { return by > 0.0 ? x / by : none; };
  const auto scored = static_cast<double>(s.stories - s.skipped);
  const auto tokens = static_cast<double>(s.tokens);
  s.mean_nll = ratio(nll, tokens);
  s.perplexity = std::exp(s.mean_nll);
  s.perplexity_over_stories = ratio(perplexities, scored);
  s.bits_per_byte = s.mean_nll / std::numbers::ln2 * ratio(targets, bytes);
  double squares = 0.0;
  double squares_over_stories = 0.0;
  for (const StoryScore& story : stories) {
    if (story.tokens == 0) continue;
    const double difference = story.nll - s.mean_nll * static_cast<double>(story.tokens);
    const double difference_over_stories = story.perplexity() - s.perplexity_over_stories;
    squares += difference * difference;
    squares_over_stories += difference_over_stories * difference_over_stories;
  }
  s.standard_error = ratio(std::sqrt(ratio(scored * squares, scored - 1.0)), tokens);
  s.standard_error_over_stories = std::sqrt(ratio(squares_over_stories, (scored - 1.0) * scored));
  return s;
}

}  // namespace storylm::evaluate
