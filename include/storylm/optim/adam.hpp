// SPDX-License-Identifier: MIT
/// @file
/// @brief Adam and AdamW over a model's arenas. PyTorch equivalents: torch.optim.Adam, torch.optim.AdamW.
#pragma once

#include <cstdint>
#include <string>

#include <storylm/core/state.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/optimizer.hpp>
#include <storylm/tensor/span.hpp>

namespace storylm::optim {

/// PyTorch's names and defaults.
struct AdamOptions {
  double beta1 = 0.9;         ///< decay of the first moment
  double beta2 = 0.999;       ///< decay of the second moment
  double eps = 1e-8;          ///< added to the root of the second moment
  double weight_decay = 0.0;  ///< on matrices only; added to the gradient by Adam, to the weight by AdamW
};

namespace detail {

/// What the two share. Owns the moments; never sees a Parameter. A step in which StepState::skip is set changes
/// nothing.
template <FloatDtype T, Device D>
class AdamOver {
 public:
  using accumulator = accumulator_t<T>;

  /// Applies one step with the lr, clip and skip of step.state().
  template <StepHandle Step>
  void step(const Step& step) {
    ops::adam(store_->device(), store_->arena(), {first_.data(), size()}, {second_.data(), size()}, steps_.data(),
              constants_, step.state());
  }
  /// Steps taken: Adam's t.
  [[nodiscard]] std::int64_t steps() const { return steps_.to_host().front(); }

  /// `first_moment.<parameter>`, `second_moment.<parameter>`, steps.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    for (const nn::ParameterInfo& p : self.store_->table()) {
      const auto span = [&](const Tensor<accumulator, D>& moments) {  // of a const object too: saving only reads
        return StateSpan{const_cast<accumulator*>(moments.data()) + p.offset, p.shape.size(), self.store_->device()};
      };
      f("first_moment." + p.name, span(self.first_));
      f("second_moment." + p.name, span(self.second_));
    }
    f("steps", self.steps_);
  }

 protected:
  AdamOver(nn::ParameterStore<T, D>& store, const AdamOptions& options, bool decoupled)
      : store_(&store),
        constants_{options.beta1, options.beta2, options.eps, options.weight_decay, decoupled},
        first_({store.size()}, store.device()),
        second_({store.size()}, store.device()),
        steps_({1}, store.device()) {
    const auto check = [](bool ok, const char* name, double value, const char* range) {
      expects<ArgumentError>(ok, "Adam", name, " must be ", range, ": ", value);
    };
    check(options.beta1 >= 0.0 && options.beta1 < 1.0, "beta1", options.beta1, "in [0, 1)");
    check(options.beta2 >= 0.0 && options.beta2 < 1.0, "beta2", options.beta2, "in [0, 1)");
    check(options.eps >= 0.0, "eps", options.eps, "at least 0");
    check(options.weight_decay >= 0.0, "weight_decay", options.weight_decay, "at least 0");
    expects<ArgumentError>(store.has_gradients(), "Adam", "the model was made without gradients");
  }

 private:
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(store_->size()); }

  nn::ParameterStore<T, D>* store_;
  AdamConstants constants_;
  Tensor<accumulator, D> first_;   // (size)
  Tensor<accumulator, D> second_;  // (size)
  Tensor<std::int64_t, D> steps_;  // (1)  on the device: a skipped step does not count
};

}  // namespace detail

/// Kingma and Ba, arXiv:1412.6980. The store must outlive it.
template <FloatDtype T, Device D>
class Adam : public detail::AdamOver<T, D> {
 public:
  /// @throws ArgumentError when an option is out of its range or the store has no gradients
  explicit Adam(nn::ParameterStore<T, D>& store, const AdamOptions& options = {})
      : detail::AdamOver<T, D>(store, options, false) {}
};

/// Adam with decoupled weight decay. Loshchilov and Hutter, arXiv:1711.05101. The store must outlive it.
template <FloatDtype T, Device D>
class AdamW : public detail::AdamOver<T, D> {
 public:
  /// @throws ArgumentError when an option is out of its range or the store has no gradients
  explicit AdamW(nn::ParameterStore<T, D>& store, const AdamOptions& options = {.weight_decay = 0.01})
      : detail::AdamOver<T, D>(store, options, true) {}
};
static_assert(Stateful<Adam<float, Cpu>> && Stateful<AdamW<float, Cpu>>);

}  // namespace storylm::optim
