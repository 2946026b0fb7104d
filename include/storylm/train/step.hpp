// SPDX-License-Identifier: MIT
/// @file
/// @brief One training step's worth of state and memory, reused from step to step.
#pragma once

#include <cstdint>

#include <storylm/core/state.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm::train {

/// What a step came to.
struct StepResult {
  double loss = 0.0;       ///< mean over the target tokens of the whole step
  double grad_norm = 0.0;  ///< L2 norm of all gradients; 0 unless clip_grad_norm measured it
  bool skipped = false;    ///< the gradients were not finite: nothing has changed
};

/// Holds the StepState on the device, the model's training cache, and the number of steps begun. A loop reads
///
///     step.begin(batch, lr);
///     for (const auto& micro : batch) { model.forward(micro, step); model.backward(micro, step); }
///     optim::clip_grad_norm(model.parameters(), 1.0, step);
///     optimizer.step(step);
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
        state_({static_cast<index_t>(sizeof(StepState))}, model.device()),
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

  /// What forward and backward need for one micro-batch.
  [[nodiscard]] Pass<device_type> pass(const Packed<device_type>& batch) {
    return {.device = device(), .batch = batch.view(), .state = state(), .seed = seed_, .training = true};
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

  /// Reads loss and gradient norm back from the device.
  [[nodiscard]] StepResult result() const {
    StepState now;
    device().copy_to_host(&now, state_.data(), sizeof(StepState));
    device().synchronize();
    return {.loss = now.loss_sum * now.inverse_targets, .grad_norm = now.grad_norm, .skipped = now.skip != 0};
  }

  /// The counters that random numbers depend on. Between steps there is nothing else.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("steps", self.steps_);
    f("seed", self.seed_);
  }

 private:
  Model* model_;
  Cache cache_;
  Tensor<std::uint8_t, device_type> state_;  // one StepState
  std::uint64_t steps_ = 0;
  std::uint64_t seed_;
};

}  // namespace storylm::train
