// SPDX-License-Identifier: MIT
/// @file
/// @brief Draws the next tokens of a batch of stories; names of the sampling policies.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/kernels/sampling.hpp>
#include <storylm/ops/sample.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm {

/// What programs call the policies.
inline constexpr std::array<std::pair<std::string_view, SamplingPolicy>, 3> sampling_policies = {
    {{"softmax", SamplingPolicy::softmax},
     {"logits-as-weights", SamplingPolicy::logits_as_weights},
     {"inverse-temperature", SamplingPolicy::inverse_temperature}}};

/// The policy of that name. @throws ArgumentError when there is none
[[nodiscard]] inline SamplingPolicy sampling_policy(std::string_view name) {
  for (const auto& [text, policy] : sampling_policies) {
    if (text == name) return policy;
  }
  detail::fail<ArgumentError>("sampling_policy", "there is no policy \"", name,
                              "\"; known are softmax, logits-as-weights and inverse-temperature");
}

/// Draws with fixed options, and keeps the stories' tokens for the repetition penalty.
template <Device D>
class Sampler {
 public:
  /// One row of logits: the token at `position` of `story`, whose tokens so far lie in `slot`.
  struct Draw {
    std::uint32_t story = 0;    ///< number of the story
    std::int32_t position = 0;  ///< tokens it has so far
    std::int32_t slot = 0;      ///< where its tokens lie
  };

  /// @param banned ids never drawn; negative ones (no such token) are left out
  /// @param slots stories at a time, and the most rows in one call
  /// @param capacity the most tokens of a story
  /// @throws ArgumentError when an option is out of its range or a size not positive
  Sampler(const SamplerOptions& options, std::span<const token_t> banned, index_t slots, index_t capacity,
          const D& device)
      : options_(options), capacity_(capacity), slots_(slots) {
    ops::expects_sampler_options(options);
    expects<ArgumentError>(slots > 0 && capacity > 0, "Sampler", "sizes must be positive: ", slots, " slots of ",
                           capacity, " tokens");
    std::vector<token_t> ids;
    for (const token_t id : banned) {
      if (id >= 0) ids.push_back(id);
    }
    if (!ids.empty()) banned_ = Tensor<token_t, D>::from_host({static_cast<index_t>(ids.size())}, ids, device);
    history_ = Tensor<token_t, D>({slots, capacity}, device);
    rows_ = Tensor<std::int32_t, D>({3, slots}, device);
    drawn_ = Tensor<token_t, D>({slots}, device);
    host_rows_.resize(static_cast<std::size_t>(3 * slots));
    host_drawn_.resize(static_cast<std::size_t>(slots));
  }

  /// As given.
  [[nodiscard]] const SamplerOptions& options() const noexcept { return options_; }

  /// A story begins with these tokens. @throws ShapeError when the slot has no room for them
  void begin(std::int32_t slot, std::span<const token_t> tokens) {
    expects<ShapeError>(slot >= 0 && slot < slots_ && static_cast<index_t>(tokens.size()) <= capacity_, "Sampler",
                        tokens.size(), " tokens in slot ", slot, ": there are ", slots_, " slots of ", capacity_);
    history_.device().copy_from_host(history_.data() + slot * capacity_, tokens.data(), tokens.size_bytes());
  }

  /// From now on rows of logits are those of these stories. @throws ShapeError when there are more than slots
  void assign(std::span<const Draw> draws) {
    expects<ShapeError>(static_cast<index_t>(draws.size()) <= slots_, "Sampler", draws.size(), " draws, ", slots_,
                        " slots");
    for (std::size_t i = 0; i < draws.size(); ++i) {
      const std::size_t row = i + static_cast<std::size_t>(slots_);
      host_rows_[i] = static_cast<std::int32_t>(draws[i].story);
      host_rows_[row] = draws[i].position;
      host_rows_[row + static_cast<std::size_t>(slots_)] = draws[i].slot;
    }
    history_.device().copy_from_host(rows_.data(), host_rows_.data(), rows_.bytes());
  }
  /// Draws from rows of logits (rows, vocab), and stores the tokens in their stories; only gives work to the device.
  /// Returns the tokens, in the device's memory.
  /// @throws ShapeError when there are more rows than slots; in host memory ArgumentError when no token can be drawn
  template <class T>
  [[nodiscard]] std::span<const token_t> draw(MatrixView<T> logits) {
    expects<ShapeError>(logits.rows <= slots_, "Sampler", logits.rows, " rows of logits, ", slots_, " slots");
    const std::span<token_t> drawn(drawn_.data(), static_cast<std::size_t>(logits.rows));
    ops::sample(history_.device(), drawn, logits,
                {.options = options_,
                 .banned = banned_.data(),
                 .banned_count = banned_.size(),
                 .stories = stories(),
                 .positions = positions(),
                 .history = history_.data(),
                 .capacity = capacity_,
                 .slots = positions() + slots_});
    return drawn;
  }
  /// The tokens drawn from rows of logits (rows, vocab), row r for draws[r]; valid until the next call. Each becomes
  /// part of its story. Allocates nothing.
  /// @throws ShapeError when there are not as many draws as rows, or more than slots; ArgumentError when no token can
  /// be drawn, naming story and position
  template <class T>
  [[nodiscard]] std::span<const token_t> sample(MatrixView<T> logits, std::span<const Draw> draws) {
    const std::size_t rows = draws.size();
    expects<ShapeError>(static_cast<index_t>(rows) == logits.rows, "Sampler", logits.rows, " rows of logits, ", rows,
                        " draws");
    assign(draws);
    const std::span<const token_t> on_device = draw(logits);
    const D& device = history_.device();
    device.copy_to_host(host_drawn_.data(), on_device.data(), on_device.size_bytes());
    device.synchronize();
    const std::span<const token_t> drawn(host_drawn_.data(), rows);
    for (std::size_t i = 0; i < rows; ++i)
      ops::expects_sampled(drawn.subspan(i, 1), &draws[i].story, &draws[i].position);
    return drawn;
  }

  /// (slots)  numbers of the rows' stories, in the device's memory.
  [[nodiscard]] std::uint32_t* stories() noexcept { return reinterpret_cast<std::uint32_t*>(rows_.data()); }
  /// (slots)  positions of the tokens that are drawn next, in the device's memory.
  [[nodiscard]] std::int32_t* positions() noexcept { return rows_.data() + slots_; }

 private:
  SamplerOptions options_;
  index_t capacity_;
  index_t slots_;
  Tensor<token_t, D> banned_;     // (banned)
  Tensor<token_t, D> history_;    // (slots, capacity)
  Tensor<std::int32_t, D> rows_;  // (3, slots)  stories, positions and slots of the rows
  Tensor<token_t, D> drawn_;      // (slots)
  std::vector<std::int32_t> host_rows_;
  std::vector<token_t> host_drawn_;
};

}  // namespace storylm
