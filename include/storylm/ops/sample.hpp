// SPDX-License-Identifier: MIT
/// @file
/// @brief Draws one token from each row of logits.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>

#include <storylm/kernels/backends.hpp>
#include <storylm/kernels/kernel.hpp>
#include <storylm/kernels/sampling.hpp>
#include <storylm/ops/checks.hpp>

namespace storylm::ops {

/// Throws unless every option is in its range. @throws ArgumentError
inline void expects_sampler_options(const SamplerOptions& options) {
  const auto require = [](bool ok, const char* name, const char* range, auto value) {
    expects<ArgumentError>(ok, "sample", name, " must be ", range, ": ", value);
  };
  const auto finite = [](double value) { return std::isfinite(value); };
  require(finite(options.temperature) && options.temperature >= 0.0, "temperature", "finite and at least 0",
          options.temperature);
  require(options.top_k >= 0, "top_k", "at least 0", options.top_k);
  require(options.top_p >= 0.0 && options.top_p <= 1.0, "top_p", "between 0 and 1", options.top_p);
  require(options.min_p >= 0.0 && options.min_p <= 1.0, "min_p", "between 0 and 1", options.min_p);
  require(finite(options.repetition_penalty) && options.repetition_penalty > 0.0, "repetition_penalty",
          "finite and greater than 0", options.repetition_penalty);
}

/// A draw failed: says for which story, and where. `stories` and `positions` are in host memory.
/// @throws ArgumentError when a token is no_sample
inline void expects_sampled(std::span<const token_t> tokens, const std::uint32_t* stories,
                            const std::int32_t* positions) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    expects<ArgumentError>(tokens[i] != no_sample, "sample", "no token can be drawn for position ", positions[i],
                           " of story ", stories[i],
                           ": its logits hold a NaN or plus infinity, or leave none that is not banned");
  }
}

/// out[r] = a token drawn from logits[r] as request.options says; with a history it is also stored there at its
/// position. The token depends on its row, its story so far and (seed, story, position) only, never on other rows.
/// @param out (rows), in the device's memory
/// @param logits (rows, vocab)
/// @throws ArgumentError when an option is out of range, a penalty has no history, or (in host memory) no token can be
/// drawn; ShapeError when `out` has another number of rows, or (in host memory) an index is out of range
template <class T, Device D>
requires FloatDtype<std::remove_const_t<T>>
void sample(const D& device, std::span<token_t> out, MatrixView<T> logits, const SampleRequest& request) {
  using Element = std::remove_const_t<T>;
  static_assert(Supports<D, op::sample, Element>, "storylm: op::sample has no kernel for this dtype on this device");
  expects_sampler_options(request.options);
  expects<ShapeError>(static_cast<index_t>(out.size()) == logits.rows, "sample", "out has ", out.size(),
                      " elements, expected ", logits.rows);
  expects<ArgumentError>(request.stories != nullptr && request.positions != nullptr, "sample",
                         "the request names no stories or no positions");
  const bool has_history = request.history != nullptr && request.slots != nullptr;
  expects<ArgumentError>(has_history || (request.history == nullptr && request.options.repetition_penalty == 1.0),
                         "sample", "a repetition penalty of ", request.options.repetition_penalty,
                         " needs the stories' tokens and their slots");
  detail::expects_indices("sample", "banned token", device, request.banned, request.banned_count, logits.cols);
  if (has_history)
    detail::expects_indices("sample", "position", device, request.positions, logits.rows, request.capacity);
  kernel<op::sample, D, Element>::run(device, out.data(), logits, request);
  if constexpr (D::host_memory) expects_sampled(out, request.stories, request.positions);
}

/// What follows a draw that the host does not look at: `out` becomes a row of stories.drawn, each story's latest token
/// is what was drawn, its positions go up by one, to at most stories.last, and stories.step by one.
/// @tparam T dtype of the logits
/// @param out (rows), in the device's memory, as sample() gave it
/// @throws ShapeError when `out` has another number of rows
template <FloatDtype T, Device D>
void advance_stories(const D& device, const StoryRows& stories, std::span<const token_t> out) {
  static_assert(Supports<D, op::sample, T>, "storylm: op::sample has no kernel for this dtype on this device");
  expects<ShapeError>(static_cast<index_t>(out.size()) == stories.rows, "advance_stories", "out has ", out.size(),
                      " elements, expected ", stories.rows);
  kernel<op::sample, D, T>::advance(device, stories, out.data());
}

}  // namespace storylm::ops
