// SPDX-License-Identifier: MIT
/// @file
/// @brief A stack that hands everything on to another: tests derive from it to look at what a Generator asks for.
#pragma once

#include <storylm/nn/transformer_stack.hpp>

namespace storylm::test {

/// Satisfies GenerativeStack. The stack must outlive it.
template <class Stack>
class ForwardingStack {
 public:
  using precision = typename Stack::precision;
  using device_type = typename Stack::device_type;
  using Element = typename Stack::Element;
  using Cache = typename Stack::Cache;

  explicit ForwardingStack(const Stack& stack) : head(stack.head), stack_(&stack) {}
  [[nodiscard]] const TransformerConfig& shape() const { return stack_->shape(); }
  [[nodiscard]] const device_type& device() const { return stack_->device(); }
  [[nodiscard]] Cache make_inference_cache(const Capacity& capacity) const {
    return stack_->make_inference_cache(capacity);
  }
  [[nodiscard]] MatrixView<const Element> hidden(const Pass<device_type>& pass, Cache& cache,
                                                 const nn::KvViews<precision>& kv) const {
    return stack_->hidden(pass, cache, kv);
  }
  void logits(MatrixView<const Element> x, MatrixView<Element> y, const Pass<device_type>& pass) const {
    stack_->logits(x, y, pass);
  }

  const nn::Head<precision, device_type>& head;

 private:
  const Stack* stack_;
};

}  // namespace storylm::test
