// SPDX-License-Identifier: MIT
/// @file
/// @brief What op::sample is told: the policy and its filters, and which story and position each row belongs to.
#pragma once

#include <cstdint>

#include <storylm/core/dtype.hpp>

namespace storylm {

/// How logits become the weights of a draw. T: the temperature.
enum class SamplingPolicy : std::uint8_t {
  softmax,              ///< exp(logit / T), normalised; T towards 0 is greedy: the usual meaning
  logits_as_weights,    ///< max(logit, 0) / T, normalised, so that T cancels; uniform where no logit is positive
  inverse_temperature,  ///< exp(T logit), normalised; T towards 0 is uniform
};

/// One token's draw. What is done to a row, in this order (that of Hugging Face transformers' `generate`: processors,
/// then the warpers for temperature, top-k, top-p and min-p; each renormalises what the one before it has left):
///  1. repetition penalty on the tokens that the story has so far, prompt included: a logit is divided by it if
///  positive
///     and multiplied if negative, once a token. Keskar et al., arXiv:1909.05858 (CTRL)
///  2. banned tokens and those with a logit of minus infinity leave
///  3. temperature 0 (under every policy) or top_k 1: the largest logit wins, and that is all
///  4. the policy makes weights, with the temperature in them
///  5. top_k: the k largest stay, exactly k. Fan et al., arXiv:1805.04833
///  6. top_p: the largest stay until their share reaches top_p. Holtzman et al., arXiv:1904.09751
///  7. min_p: those with at least min_p times the largest share stay. Nguyen et al., arXiv:2407.01082
///  8. one of the rest is drawn by its weight
/// Tokens with equal logits stand in the order of their ids, the lowest first, in 3 and in 5 to 8.
struct SamplerOptions {
  double temperature = 1.0;                         ///< 0: greedy
  index_t top_k = 0;                                ///< 0: off; 1: greedy
  double top_p = 1.0;                               ///< 1: off; the largest always stays
  double min_p = 0.0;                               ///< 0: off; the largest always stays
  double repetition_penalty = 1.0;                  ///< 1: off
  SamplingPolicy policy = SamplingPolicy::softmax;  ///< how logits become weights
  std::uint64_t seed = 1;                           ///< a draw is a function of (seed, story, position)
};

/// What the rows of one call of op::sample are. All pointers are into the device's memory.
struct SampleRequest {
  SamplerOptions options{};                ///< the same for all rows
  const token_t* banned = nullptr;         ///< (banned_count)  never drawn
  index_t banned_count = 0;                ///< number of them
  const std::uint32_t* stories = nullptr;  ///< (rows)  number of the row's story: part of the random key
  const std::int32_t* positions =
      nullptr;                 ///< (rows)  position of the token to draw = tokens that the story has so far
  token_t* history = nullptr;  ///< (slots, capacity)  tokens of the stories; may be none where there is no penalty
  index_t capacity = 0;        ///< tokens a slot of history holds
  const std::int32_t* slots = nullptr;  ///< (rows)  slot of each row's story in history
};

/// What op::sample gives for a row that holds a NaN or plus infinity, or in which nothing may be drawn.
inline constexpr token_t no_sample = -1;

}  // namespace storylm
