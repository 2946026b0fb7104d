// SPDX-License-Identifier: MIT
/// @file
/// @brief Stories that go on token by token on a device, for several steps without the host.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <storylm/kernels/sampling.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm {

/// One row a story, and every step the batch of their latest tokens: what a step draws becomes the next step's input by
/// ops::advance_stories. The host says where the stories stand, gives the steps to the device, and then looks at all
/// that was drawn in them.
template <Device D>
class DecodeRows {
 public:
  /// Where a story stands.
  struct Row {
    token_t id = 0;             ///< its latest token
    std::int32_t position = 0;  ///< of that token
  };

  /// @param rows stories at a time
  /// @param steps between two looks, at most
  /// @param longest tokens of a story: rows of stories that have ended unseen do not go beyond
  DecodeRows(index_t rows, index_t steps, index_t longest, const D& device)
      : room_(rows),
        steps_(steps),
        last_(static_cast<std::int32_t>(longest - 1)),
        state_({1 + 2 * rows}, device),
        drawn_({steps, rows}, device),
        readback_(device, drawn_.bytes()),
        host_state_(static_cast<std::size_t>(1 + 2 * rows)) {
    std::vector<std::int32_t> counting(static_cast<std::size_t>(rows + 1));
    for (std::size_t i = 0; i < counting.size(); ++i) counting[i] = static_cast<std::int32_t>(i);
    counting_ = Tensor<std::int32_t, D>::from_host({rows + 1}, counting, device);
  }

  /// Steps between two looks, at most.
  [[nodiscard]] index_t steps() const noexcept { return steps_; }

  /// The stories stand there, and no step has been taken. @pre as many as there is room for, at most
  void assign(std::span<const Row> rows) {
    host_state_[0] = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      host_state_[1 + i] = rows[i].id;
      host_state_[1 + static_cast<std::size_t>(room_) + i] = rows[i].position;
    }
    rows_ = static_cast<index_t>(rows.size());
    state_.device().copy_from_host(state_.data(), host_state_.data(), state_.bytes());
  }
  /// Their latest tokens, as sequences of one token each.
  /// @param ordinals (rows)  numbers of the stories, in the device's memory
  [[nodiscard]] PackedView batch(const std::uint32_t* ordinals) const noexcept {
    return {.tokens = rows_,
            .sequences = rows_,
            .longest = 1,
            .ids = state_.data() + 1,
            .targets = nullptr,
            .offsets = counting_.data(),
            .positions = state_.data() + 1 + room_,
            .sequence = counting_.data(),
            .ordinals = ordinals};
  }
  /// What a step changes.
  /// @param next (rows)  positions of the tokens to draw, in the device's memory
  [[nodiscard]] StoryRows stories(std::int32_t* next) noexcept {
    return {.ids = state_.data() + 1,
            .positions = state_.data() + 1 + room_,
            .next = next,
            .drawn = drawn_.data(),
            .step = state_.data(),
            .rows = rows_,
            .last = last_};
  }
  /// What the steps given to the device so far have drawn, (steps, rows); waits for them. Valid until the next look.
  [[nodiscard]] std::span<const token_t> look() {
    readback_.post(drawn_.data());
    return {static_cast<const token_t*>(readback_.wait()), static_cast<std::size_t>(drawn_.size())};
  }

 private:
  index_t room_;
  index_t steps_;
  std::int32_t last_;
  index_t rows_ = 0;
  Tensor<std::int32_t, D> state_;     // (1 + 2 room)   steps taken, latest tokens, their positions
  Tensor<token_t, D> drawn_;          // (steps, rows)  with room for (steps, room)
  Tensor<std::int32_t, D> counting_;  // (room + 1)     0, 1, 2, ...: offsets and sequences of one token each
  typename D::Readback readback_;
  std::vector<std::int32_t> host_state_;
};

}  // namespace storylm
