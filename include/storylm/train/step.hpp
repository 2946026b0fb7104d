// SPDX-License-Identifier: MIT
/// @file
/// @brief One training step's worth of state and memory, reused from step to step.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <storylm/core/state.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>
#include <storylm/tensor/uploader.hpp>

namespace storylm::train {

/// What a step came to.
struct StepResult {
  double loss = 0.0;       ///< mean over the target tokens of the whole step
  double grad_norm = 0.0;  ///< L2 norm of all gradients; 0 unless clip_grad_norm measured it
  bool skipped = false;    ///< loss or gradients were not finite, or skip() was called: nothing has changed
};

/// Holds the StepState on the device, the model's training cache, and the number of steps begun. A loop reads
///
///     step.begin(batch, lr);
///     for (const auto& micro : batch) { model.forward(micro, step); model.backward(micro, step); }
///     optim::clip_grad_norm(model.parameters(), 1.0, step);
///     optimizer.step(step);
///
/// and is the same on every device: batches are brought to where the model is.
///
/// @tparam Model a TransformerLM or nn::TransformerStack
template <class Model>
class Step {
 public:
  using device_type = typename Model::device_type;  ///< where it computes
  using Cache = typename Model::Cache;              ///< of a training forward

  /// @param capacity of the largest micro-batch
  /// @param seed of the dropout masks
  Step(Model& model, const Capacity& capacity, std::uint64_t seed = 1)
      : model_(&model),
        cache_(model.make_training_cache(capacity)),
        uploader_(capacity, model.device()),
        state_({static_cast<index_t>(sizeof(StepState))}, model.device()),
        readbacks_{{{model.device(), sizeof(StepState)}, {model.device(), sizeof(StepState)}}},
        seed_(seed) {}

  /// Zeroes the gradients and writes the StepState. `targets`: the target tokens of all micro-batches of this step.
  /// @throws ArgumentError when there are none
  void begin(index_t targets, double lr) {
    expects<ArgumentError>(targets > 0, "Step::begin", "the step has no target tokens: ", targets);
    model_->parameters().zero_gradients();
    const StepState fresh{.step = steps_, .lr = lr, .inverse_targets = 1.0 / static_cast<double>(targets)};
    device().copy_from_host(state_.data(), &fresh, sizeof(StepState));
    ++steps_;
  }
  /// The same for a batch that knows its targets, such as a StepBatch.
  template <class Batch>
  requires requires(const Batch& batch) { batch.targets(); }
  void begin(const Batch& batch, double lr) { begin(batch.targets(), lr); }

  /// Has the optimizer leave everything as it is in this step: for a loop that does not trust its gradients. Comes
  /// after clip_grad_norm(), before the optimizer.
  void skip() const {
    const std::uint32_t yes = 1;
    device().copy_from_host(&state()->skip, &yes, sizeof(yes));
  }

  /// What forward and backward need for one micro-batch, in host memory or the device's. A batch in host memory is
  /// brought to the device by the first call, not by a second with the same batch.
  template <Device Where>
  [[nodiscard]] Pass<device_type> pass(const Packed<Where>& batch) {
    return {.device = device(), .batch = uploader_(batch).view(), .state = state(), .seed = seed_, .training = true};
  }
  /// The model's training cache.
  [[nodiscard]] Cache& cache() noexcept { return cache_; }
  /// The model's.
  [[nodiscard]] const device_type& device() const noexcept { return model_->device(); }
  /// In device memory.
  [[nodiscard]] StepState* state() const noexcept {
    return reinterpret_cast<StepState*>(const_cast<std::uint8_t*>(state_.data()));
  }
  /// Steps begun so far.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

  /// Reads loss and gradient norm back from the device; waits for the step.
  [[nodiscard]] StepResult result() {
    expects<ArgumentError>(posted_ == taken_, "Step::result", posted_ - taken_, " posted results are not taken yet");
    post_result();
    return take_result();
  }
  /// Orders loss and gradient norm of the step as it is now to the host, and waits for nothing: a loop that takes the
  /// result when it has given the device the next step never lets it stand idle. @throws ArgumentError when two are
  /// under way already
  void post_result() {
    expects<ArgumentError>(posted_ - taken_ < readbacks_.size(), "Step::post_result", posted_ - taken_,
                           " results are not taken yet");
    readbacks_[posted_++ % readbacks_.size()].post(state_.data());
  }
  /// The oldest result that was posted and not taken; waits for its step. @throws ArgumentError when there is none
  [[nodiscard]] StepResult take_result() {
    expects<ArgumentError>(posted_ != taken_, "Step::take_result", "no result was posted");
    StepState then;
    std::memcpy(&then, readbacks_[taken_++ % readbacks_.size()].wait(), sizeof(StepState));
    return {.loss = then.loss_sum * then.inverse_targets, .grad_norm = then.grad_norm, .skipped = then.skip != 0};
  }
  /// Results posted and not yet taken.
  [[nodiscard]] std::size_t pending_results() const noexcept { return posted_ - taken_; }

  /// The counters that random numbers depend on. Between steps there is nothing else.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("steps", self.steps_);
    f("seed", self.seed_);
  }

 private:
  Model* model_;
  Cache cache_;
  Uploader<device_type> uploader_;
  Tensor<std::uint8_t, device_type> state_;  // one StepState
  std::array<typename device_type::Readback, 2> readbacks_;
  std::size_t posted_ = 0;
  std::size_t taken_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t seed_;
};

}  // namespace storylm::train
