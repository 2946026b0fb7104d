// SPDX-License-Identifier: MIT
/// @file
/// @brief What the tests of layers share: a training pass over packed sequences, random parameters, dropout by its
/// definition.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/dropout.hpp>
#include <storylm/nn/module.hpp>

#include "support.hpp"

namespace storylm::test {

/// A batch of sequences, one of them empty, and a training pass over it in some step. The pass refers to the rest.
struct TrainingPass {
  explicit TrainingPass(const std::vector<index_t>& lengths = {1, 0, 7, 2}, index_t vocab_size = 11)
      : batch(packed(lengths, vocab_size)) {
    state.step = 5;
    pass.batch = batch.view();
    pass.state = &state;
    pass.seed = 99;
    pass.training = true;
  }
  TrainingPass(const TrainingPass&) = delete;
  TrainingPass& operator=(const TrainingPass&) = delete;

  [[nodiscard]] index_t tokens() const { return batch.tokens(); }
  [[nodiscard]] const Capacity& capacity() const { return batch.capacity(); }

  Cpu cpu;
  Packed<Cpu> batch;
  StepState state;
  Pass<Cpu> pass{.device = cpu, .batch = {}};
};

/// Gives every parameter of a module random values of this standard deviation, plus `mean`.
template <class M>
void randomise(M& module, double deviation = 1.0, double mean = 0.0, std::uint64_t seed = 3) {
  RandomStream random(seed, 0, 0x7E57);
  nn::for_each_parameter(module, [&](const std::string&, auto& p) {
    auto values = p.to_host();
    for (auto& v : values)
      v = static_cast<typename std::decay_t<decltype(values)>::value_type>(mean + deviation * random.normal());
    p.assign(values);
  });
}

/// Every parameter's gradient, by name, in the order of visit.
template <class M>
auto gradients_of(M& module) {
  using Values = std::vector<typename std::remove_cvref_t<M>::Element>;
  std::vector<std::pair<std::string, Values>> gradients;
  nn::for_each_parameter(module,
                         [&](const std::string& name, auto& p) { gradients.emplace_back(name, p.gradient_to_host()); });
  return gradients;
}

/// Compares every parameter's gradient, as it is now, with central differences of loss().
template <class Case, class M, class Loss>
void check_parameter_differences(M& module, Loss&& loss, std::size_t every = 1) {
  nn::for_each_parameter(module, [&](const std::string& name, auto& p) {
    using T = typename Case::value_type;
    check_differences<Case>(
        name, p.to_host(), p.gradient_to_host(), loss, [&](const std::vector<T>& values) { p.assign(values); }, every);
  });
}

/// The same of a tensor in host memory.
template <class Case, class Loss>
void check_tensor_differences(const std::string& what, typename Case::tensor& x,
                              const std::vector<typename Case::value_type>& gradient, Loss&& loss) {
  using T = typename Case::value_type;
  check_differences<Case>(what, x.to_host(), gradient, loss, [&](const std::vector<T>& values) {
    x.device().copy_from_host(x.data(), values.data(), x.bytes());
  });
}

/// values * mask, by the definition in kernels/kernel.hpp, element by element; values (tokens, width).
template <class T>
std::vector<T> dropped(std::vector<T> values, index_t width, const nn::Dropout& dropout, const Pass<Cpu>& pass) {
  const DropoutSpec spec = dropout.in(pass);
  if (!spec.active()) return values;
  const PhiloxKey key = derive_key(spec.seed, spec.state->step, spec.site);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<index_t>(i) / width;
    const auto column = static_cast<index_t>(i) % width;
    const PhiloxCounter block =
        philox4x32({pass.batch.ordinals[pass.batch.sequence[row]],
                    static_cast<std::uint32_t>(pass.batch.positions[row]), 0U, static_cast<std::uint32_t>(column / 8)},
                   key);
    const bool kept = lane16(block, static_cast<int>(column % 8)) >= spec.threshold();
    values[i] = kept ? static_cast<T>(static_cast<double>(values[i]) * spec.scale()) : T{0};
  }
  return values;
}

}  // namespace storylm::test
