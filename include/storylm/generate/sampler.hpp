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
    stories_device_ = Tensor<std::uint32_t, D>({slots}, device);
    positions_device_ = Tensor<std::int32_t, D>({slots}, device);
    slots_device_ = Tensor<std::int32_t, D>({slots}, device);
    drawn_device_ = Tensor<token_t, D>({slots}, device);
    const auto rows = static_cast<std::size_t>(slots);
    host_stories_.resize(rows);
    host_positions_.resize(rows);
    host_slots_.resize(rows);
    drawn_.resize(rows);
  }

  /// As given.
  [[nodiscard]] const SamplerOptions& options() const noexcept { return options_; }

  /// A story begins with these tokens. @throws ShapeError when the slot has no room for them
  void begin(std::int32_t slot, std::span<const token_t> tokens) {
    expects<ShapeError>(slot >= 0 && slot < slots_ && static_cast<index_t>(tokens.size()) <= capacity_, "Sampler",
                        tokens.size(), " tokens in slot ", slot, ": there are ", slots_, " slots of ", capacity_);
    history_.device().copy_from_host(history_.data() + slot * capacity_, tokens.data(), tokens.size_bytes());
  }

  /// The tokens drawn from rows of logits (rows, vocab), row r for draws[r]; valid until the next call. Each becomes
  /// part of its story. Allocates nothing.
  /// @throws ShapeError when there are not as many draws as rows, or more than slots; ArgumentError when no token can
  /// be drawn, naming story and position
  template <class T>
  [[nodiscard]] std::span<const token_t> sample(MatrixView<T> logits, std::span<const Draw> draws) {
    const std::size_t rows = draws.size();
    expects<ShapeError>(static_cast<index_t>(rows) == logits.rows && rows <= drawn_.size(), "Sampler", logits.rows,
                        " rows of logits, ", rows, " draws, ", slots_, " slots");
    for (std::size_t i = 0; i < rows; ++i) {
      host_stories_[i] = draws[i].story;
      host_positions_[i] = draws[i].position;
      host_slots_[i] = draws[i].slot;
    }
    const D& device = history_.device();
    device.copy_from_host(stories_device_.data(), host_stories_.data(), rows * sizeof(std::uint32_t));
    device.copy_from_host(positions_device_.data(), host_positions_.data(), rows * sizeof(std::int32_t));
    device.copy_from_host(slots_device_.data(), host_slots_.data(), rows * sizeof(std::int32_t));
    ops::sample(device, std::span<token_t>(drawn_device_.data(), rows), logits,
                {.options = options_,
                 .banned = banned_.data(),
                 .banned_count = banned_.size(),
                 .stories = stories_device_.data(),
                 .positions = positions_device_.data(),
                 .history = history_.data(),
                 .capacity = capacity_,
                 .slots = slots_device_.data()});
    device.copy_to_host(drawn_.data(), drawn_device_.data(), rows * sizeof(token_t));
    device.synchronize();
    const std::span<const token_t> drawn(drawn_.data(), rows);
    ops::expects_sampled(drawn, host_stories_.data(), host_positions_.data());
    return drawn;
  }

 private:
  SamplerOptions options_;
  index_t capacity_;
  index_t slots_;
  Tensor<token_t, D> banned_;                 // (banned)
  Tensor<token_t, D> history_;                // (slots, capacity)
  Tensor<std::uint32_t, D> stories_device_;   // (slots)  of the rows under way, as the next three
  Tensor<std::int32_t, D> positions_device_;  // (slots)
  Tensor<std::int32_t, D> slots_device_;      // (slots)
  Tensor<token_t, D> drawn_device_;           // (slots)
  std::vector<std::uint32_t> host_stories_;
  std::vector<std::int32_t> host_positions_;
  std::vector<std::int32_t> host_slots_;
  std::vector<token_t> drawn_;
};

}  // namespace storylm
