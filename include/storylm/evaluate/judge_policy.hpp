// SPDX-License-Identifier: MIT
/// @file
/// @brief How a judge reads stories: BOS, windows over long ones, and what a mean is taken over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

namespace storylm::evaluate {

/// What a mean is taken over.
enum class Denominator : std::uint8_t {
  predicted_tokens,  ///< every token that is predicted, and each is, once
  /// As the perplexity guide of Hugging Face transformers has it (huggingface.co/docs/transformers/perplexity): a
  /// window's `context` tokens include the last target, and the mean loss of a window behind the first counts for one
  /// token less than it is the mean of.
  transformers_guide,
};

/// Whoever compares two numbers compares the policies first: BOS, window, stride and denominator each change them.
struct JudgePolicy {
  index_t context = 0;  ///< tokens the judge sees at once; 0: as many as it was made for
  index_t stride = 0;   ///< from one window of a longer story to the next; 0: half of the context
  bool bos = false;     ///< bos_id stands before every story, so that its first token is predicted too
  token_t bos_id = -1;  ///< looked at only with `bos`
  Denominator denominator = Denominator::predicted_tokens;  ///< what means are over

  /// Field by field.
  friend bool operator==(const JudgePolicy&, const JudgePolicy&) = default;
};

/// The policy with every 0 written out, for a judge that takes up to `max_len` tokens.
/// @throws ArgumentError when context or stride is out of its range, or there is to be a BOS and its id is negative
[[nodiscard]] inline JudgePolicy resolved(JudgePolicy policy, index_t max_len) {
  const index_t least = policy.denominator == Denominator::transformers_guide ? 2 : 1;
  if (policy.context == 0) policy.context = max_len;
  expects<ArgumentError>(policy.context >= least && policy.context <= max_len, "JudgePolicy", "context must be in [",
                         least, ", ", max_len, "]: ", policy.context);
  if (policy.stride == 0) policy.stride = std::max<index_t>(1, policy.context / 2);
  expects<ArgumentError>(policy.stride >= 1 && policy.stride <= policy.context, "JudgePolicy", "stride must be in [1, ",
                         policy.context, "], the context: ", policy.stride);
  expects<ArgumentError>(!policy.bos || policy.bos_id >= 0, "JudgePolicy",
                         "stories are to begin with BOS, but there is none: its id is ", policy.bos_id);
  return policy;
}

/// A part of a sequence that is read at once: tokens begin .. end - 1 are read, token i predicts token i + 1, and what
/// is predicted from `first` on is scored.
struct JudgeWindow {
  index_t begin = 0;    ///< first token read
  index_t end = 0;      ///< behind the last token read
  index_t first = 0;    ///< first token whose prediction is scored
  index_t counted = 0;  ///< tokens that the scored ones count for

  /// Predictions scored.
  [[nodiscard]] constexpr index_t scored() const noexcept { return end - first; }
  /// Field by field.
  friend bool operator==(const JudgeWindow&, const JudgeWindow&) = default;
};

/// The windows of a sequence of `tokens` tokens, BOS included; none when it has less than two.
///
/// Every token behind the first is predicted once, from at least context - stride + 1 tokens before it where there are
/// as many. As the guide has it, from context - stride at least, and with a stride of the whole context the first
/// tokens of windows are not predicted at all.
/// @param policy resolved
[[nodiscard]] inline std::vector<JudgeWindow> judge_windows(index_t tokens, const JudgePolicy& policy) {
  const bool guide = policy.denominator == Denominator::transformers_guide;
  const index_t width = guide ? policy.context - 1 : policy.context;
  std::vector<JudgeWindow> windows;
  index_t done = 0;  // predictions of the tokens before it are scored, or never will be
  for (index_t begin = 0; done < tokens - 1; begin += policy.stride) {
    const index_t end = std::min(begin + width, tokens - 1);
    const index_t first = std::max(begin, done);
    const bool one_less = guide && begin > 0 && done >= begin;
    if (first < end) windows.push_back({begin, end, first, end - first - (one_less ? 1 : 0)});
    done = end;
  }
  return windows;
}

/// The policy in words. @param policy resolved
[[nodiscard]] inline std::string words(const JudgePolicy& policy) {
  std::ostringstream text;
  if (policy.bos) {
    text << "BOS (id " << policy.bos_id << ") before every story, so that its first token is predicted too; ";
  } else {
    text << "no BOS, so that the first token of a story is not predicted; ";
  }
  text << "EOS is not scored; stories of more than " << policy.context << " tokens in windows of " << policy.context
       << " that advance by " << policy.stride << "; ";
  if (policy.denominator == Denominator::transformers_guide) {
    text << "denominator of the Hugging Face perplexity guide: the mean loss of a window behind the first counts for "
            "one token less than it predicts";
  } else {
    text << "denominator: every predicted token, and each is predicted once";
  }
  return text.str();
}

}  // namespace storylm::evaluate
