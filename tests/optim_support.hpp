// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of optimizers share: a module of two parameters, a step in host memory, all state as bytes.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <storylm/core/step_state.hpp>
#include <storylm/nn/module.hpp>

namespace storylm::test {

/// A matrix (5, 4) and a vector (7), with memory.
template <class T>
struct TwoParameters {
  nn::Parameter<T, Cpu> matrix;
  nn::Parameter<T, Cpu> vector;
  nn::ParameterStore<T, Cpu> store;

  /// @param decay of the vector; that of the matrix is on
  explicit TwoParameters(bool decay, nn::Gradients gradients = nn::Gradients::yes)
      : matrix(Shape{5, 4}), vector(Shape{7}, decay), store(nn::allocate<T>(*this, Cpu{}, gradients)) {}

  static void visit(auto& self, auto&& f) {
    f("matrix", self.matrix);
    f("vector", self.vector);
  }
};

/// What clip_grad_norm and optimizers ask of a step.
struct StepOnHost {
  mutable StepState values;

  [[nodiscard]] static Cpu device() { return Cpu{}; }
  [[nodiscard]] StepState* state() const { return &values; }
};

/// Every member that an object names in visit_state, as bytes: two of them are equal when nothing differs in any bit.
template <class S>
std::map<std::string, std::string> state_bytes(const S& object, const std::string& prefix = "") {
  std::map<std::string, std::string> all;
  S::visit_state(object, [&](std::string_view name, auto&& member) {
    using M = std::remove_cvref_t<decltype(member)>;
    const std::string full = prefix + std::string(name);
    const auto put = [&](const void* data, std::size_t bytes) {
      all[full] = std::string(bytes != 0 ? static_cast<const char*>(data) : "", bytes);
    };
    if constexpr (Stateful<M>) {
      all.merge(state_bytes(member, full + '.'));
    } else if constexpr (std::is_arithmetic_v<M> || std::is_enum_v<M>) {
      put(&member, sizeof member);
    } else if constexpr (requires { member.bytes(); }) {  // a Tensor
      put(member.data(), member.bytes());
    } else if constexpr (requires { member.device; }) {  // a StateSpan
      put(member.data, static_cast<std::size_t>(member.size) * sizeof(*member.data));
    } else {  // a vector or a string
      put(member.data(), member.size() * sizeof(*member.data()));
    }
  });
  return all;
}

}  // namespace storylm::test
