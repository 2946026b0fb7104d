// SPDX-License-Identifier: MIT
/// @file
/// @brief What op::sample is told: the policy and its filters, and which story and position each row belongs to.
#pragma once

#include <cmath>
#include <cstdint>

#include <storylm/core/dtype.hpp>
#include <storylm/core/host_device.hpp>
#include <storylm/core/random.hpp>

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

  /// Field by field.
  friend constexpr bool operator==(const SamplerOptions&, const SamplerOptions&) = default;
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

/// Stories that go on token by token without the host, one a row. All pointers are into the device's memory.
struct StoryRows {
  token_t* ids = nullptr;             ///< (rows)  latest tokens: what the next step is given
  std::int32_t* positions = nullptr;  ///< (rows)  their positions
  std::int32_t* next = nullptr;       ///< (rows)  positions of the tokens to draw
  token_t* drawn = nullptr;           ///< (steps, rows)  what was drawn in each step
  std::int32_t* step = nullptr;       ///< the steps taken
  index_t rows = 0;                   ///< number of stories
  std::int32_t last = 0;              ///< no position goes beyond it
};

/// The one random number of (seed, story, position): uniform in [0, 1), 53 bits.
[[nodiscard]] STORYLM_HOST_DEVICE constexpr double sample_uniform(std::uint64_t seed, std::uint32_t story,
                                                                  std::int32_t position) {
  constexpr std::uint32_t site = 0x73616D70U;  // apart from dropout's sites, which count from 0
  const PhiloxCounter block =
      philox4x32({story, static_cast<std::uint32_t>(position), 0U, 0U}, derive_key(seed, 0, site));
  const std::uint64_t bits = (std::uint64_t{block[1]} << 32U) | block[0];
  return static_cast<double>(bits >> 11U) * 0x1.0p-53;
}

/// What a logit weighs in a draw, where the largest, `best`, weighs 1; never more for a smaller logit.
[[nodiscard]] STORYLM_HOST_DEVICE inline double sample_weight(const SamplerOptions& options, double best,
                                                              double logit) {
  if (options.policy == SamplingPolicy::inverse_temperature) return std::exp((logit - best) * options.temperature);
  if (options.policy == SamplingPolicy::logits_as_weights) return best > 0.0 ? (logit > 0.0 ? logit / best : 0.0) : 1.0;
  return std::exp(options.temperature == 1.0 ? logit - best : (logit - best) / options.temperature);
}

/// What op::sample gives for a row that holds a NaN or plus infinity, or in which nothing may be drawn.
inline constexpr token_t no_sample = -1;

}  // namespace storylm
