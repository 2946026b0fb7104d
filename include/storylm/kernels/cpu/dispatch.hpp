// SPDX-License-Identifier: MIT
/// @file
/// @brief From the kernels of each instruction set to storylm::kernel<Op, Cpu, T...>: picks the device's set.
#pragma once

#include <storylm/core/device.hpp>
#include <storylm/kernels/cpu/sets.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

namespace cpu {

/// Satisfied when the sets have a kernel for Op and these dtypes; all have the same.
template <class Op, class... T>
concept Vectorised = requires {
  sizeof(promised::kernel<Op, T...>);
};

/// A set as a type: f(Set<...>) can name its kernels.
template <InstructionSet set>
struct Kernels;
#if STORYLM_LOWEST_SET <= 0
template <>
struct Kernels<InstructionSet::baseline> {
  template <class Op, class... T>
  using kernel = baseline::kernel<Op, T...>;
};
#endif
#if STORYLM_LOWEST_SET <= 1 && STORYLM_HIGHEST_SET >= 1
template <>
struct Kernels<InstructionSet::avx2> {
  template <class Op, class... T>
  using kernel = avx2::kernel<Op, T...>;
};
#endif
#if STORYLM_LOWEST_SET <= 2 && STORYLM_HIGHEST_SET >= 2
template <>
struct Kernels<InstructionSet::avx512> {
  template <class Op, class... T>
  using kernel = avx512::kernel<Op, T...>;
};
#endif
#if STORYLM_HIGHEST_SET >= 3
template <>
struct Kernels<InstructionSet::avx512_bf16> {
  template <class Op, class... T>
  using kernel = avx512_bf16::kernel<Op, T...>;
};
#endif

/// f(Kernels<set>{}) for the device's set.
template <InstructionSet set = highest_instruction_set, class F>
decltype(auto) with_kernels(const Cpu& device, const F& f) {
  if constexpr (set > lowest_instruction_set) {
    constexpr auto poorer = static_cast<InstructionSet>(static_cast<int>(set) - 1);
    if (device.instruction_set() < set) return with_kernels<poorer>(device, f);
  }
  return f(Kernels<set>{});
}

}  // namespace cpu

/// The vectorised ops; their contracts are in kernels/kernel.hpp.
template <class Op, class... T>
requires cpu::Vectorised<Op, T...>
struct kernel<Op, Cpu, T...> {
  /// Op's run.
  template <class... Arguments>
  static decltype(auto) run(const Cpu& device, Arguments... arguments) {
    return cpu::with_kernels(device, [&](auto kernels) -> decltype(auto) {
      return decltype(kernels)::template kernel<Op, T...>::run(device, arguments...);
    });
  }
  /// Op's backward.
  template <class... Arguments>
  static void backward(const Cpu& device, Arguments... arguments) {
    cpu::with_kernels(
        device, [&](auto kernels) { decltype(kernels)::template kernel<Op, T...>::backward(device, arguments...); });
  }
  /// op::activation's.
  [[nodiscard]] static constexpr bool needs_input(Activation function) {
    return cpu::promised::kernel<Op, T...>::needs_input(function);
  }
  /// op::linear_activation's.
  [[nodiscard]] static constexpr index_t saved_columns(Activation function, index_t width) {
    return cpu::promised::kernel<Op, T...>::saved_columns(function, width);
  }
};

}  // namespace storylm
