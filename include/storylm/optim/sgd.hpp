// SPDX-License-Identifier: MIT
/// @file
/// @brief Stochastic gradient descent with momentum. PyTorch equivalent: torch.optim.SGD.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <storylm/core/state.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/optimizer.hpp>
#include <storylm/tensor/span.hpp>

namespace storylm::optim {

/// PyTorch's names and defaults.
struct SgdOptions {
  double momentum = 0.0;      ///< decay of the velocity; 0: none
  double dampening = 0.0;     ///< keeps this share of a gradient out of the velocity
  double weight_decay = 0.0;  ///< on matrices only, added to the gradient
  bool nesterov = false;      ///< looks one step ahead
};

/// b <- momentum b + (1 - dampening) g (the first time b = g); w <- w - lr b, or lr (g + momentum b) with Nesterov's
/// form. Sutskever et al., ICML 2013. The store must outlive it.
template <FloatDtype T, Device D>
class Sgd {
 public:
  /// @throws ArgumentError when options contradict each other or the store has no gradients
  explicit Sgd(nn::ParameterStore<T, D>& store, const SgdOptions& options = {})
      : store_(&store),
        constants_{options.momentum, options.dampening, options.weight_decay, options.nesterov},
        steps_({1}, store.device()) {
    expects<ArgumentError>(options.momentum >= 0.0 && options.weight_decay >= 0.0, "Sgd",
                           "momentum and weight_decay must not be negative: ", options.momentum, ", ",
                           options.weight_decay);
    expects<ArgumentError>(!options.nesterov || (options.momentum > 0.0 && options.dampening == 0.0), "Sgd",
                           "nesterov needs momentum and no dampening: ", options.momentum, ", ", options.dampening);
    expects<ArgumentError>(store.has_gradients(), "Sgd", "the model was made without gradients");
    if (options.momentum > 0.0) momentum_ = Tensor<accumulator_t<T>, D>({store.size()}, store.device());
  }

  /// Applies one step with the lr, clip and skip of step.state().
  template <StepHandle Step>
  void step(const Step& step) {
    ops::sgd(store_->device(), store_->arena(), {momentum_.data(), static_cast<std::size_t>(momentum_.size())},
             steps_.data(), constants_, step.state());
  }

  /// `momentum.<parameter>` (with momentum), steps.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    if (self.momentum_) {
      for (const nn::ParameterInfo& p : self.store_->table())
        f("momentum." + p.name,  // of a const object too: saving only reads
          StateSpan{const_cast<accumulator_t<T>*>(std::as_const(self.momentum_).data()) + p.offset, p.shape.size(),
                    self.store_->device()});
    }
    f("steps", self.steps_);
  }

 private:
  nn::ParameterStore<T, D>* store_;
  SgdConstants constants_;
  Tensor<accumulator_t<T>, D> momentum_;  // (size)  none without momentum
  Tensor<std::int64_t, D> steps_;         // (1)
};
static_assert(Stateful<Sgd<float, Cpu>>);

}  // namespace storylm::optim
