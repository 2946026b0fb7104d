// SPDX-License-Identifier: MIT
/// @file
/// @brief Mean loss of a model over any number of packed batches.
#pragma once

#include <cmath>
#include <limits>

#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>
#include <storylm/tensor/uploader.hpp>

namespace storylm::evaluate {

/// Adds up losses batch by batch, without dropout; the result is the mean over all target tokens.
/// @tparam Model a TransformerLM or nn::TransformerStack
template <class Model>
class LossMeter {
 public:
  using device_type = typename Model::device_type;  ///< where it computes

  /// @param capacity of the largest batch
  LossMeter(const Model& model, const Capacity& capacity)
      : model_(&model),
        cache_(model.make_inference_cache(capacity)),
        uploader_(capacity, model.device()),
        total_({1}, model.device()) {}

  /// Forgets all batches.
  void reset() {
    model_->device().fill_zero(total_.data(), total_.bytes());
    targets_ = 0;
  }
  /// Adds the losses of a batch in host memory or the device's; waits for nothing.
  /// @throws ShapeError when it exceeds the capacity
  template <Device Where>
  void add(const Packed<Where>& batch) {
    const Pass<device_type> pass{.device = model_->device(), .batch = uploader_(batch).view()};
    model_->loss(model_->hidden(pass, cache_), total_.data(), pass);
    targets_ += batch.target_count();
  }

  /// Target tokens added.
  [[nodiscard]] index_t targets() const noexcept { return targets_; }
  /// Mean negative log-likelihood in nats per target token; NaN when there was none.
  [[nodiscard]] double mean() const {
    return targets_ == 0 ? std::numeric_limits<double>::quiet_NaN()
                         : total_.to_host().front() / static_cast<double>(targets_);
  }
  /// exp(mean()).
  [[nodiscard]] double perplexity() const { return std::exp(mean()); }

 private:
  const Model* model_;
  typename Model::Cache cache_;
  Uploader<device_type> uploader_;
  Tensor<double, device_type> total_;  // (1)
  index_t targets_ = 0;
};

}  // namespace storylm::evaluate
