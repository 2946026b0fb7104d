// SPDX-License-Identifier: MIT
/// @file
/// @brief From the kernels of each instruction set to storylm::kernel<Op, Cpu, T...>: picks the device's set.
///
/// A set's kernel<Op, T...> has a static run, and a static backward where its op has one: plain functions, neither
/// templates nor overloaded, with the same signature in every set. Those signatures are what callers see.
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/kernels/cpu/sets.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm {

namespace cpu {

/// Satisfied when the sets have a kernel for Op and these dtypes; all have the same.
template <class Op, class... T>
concept Vectorised = requires {
  sizeof(promised::kernel<Op, T...>);
};
/// Satisfied when it goes backward as well.
template <class Op, class... T>
concept VectorisedBackward = Vectorised<Op, T...> && requires {
  &promised::kernel<Op, T...>::backward;
};

/// The sets of a build. It is a part of every kernel's type, so that a program and kernels that were compiled apart
/// and do not agree on it do not link.
template <InstructionSet lowest, InstructionSet highest>
struct Sets;
/// Of this build.
using SetsOfBuild = Sets<lowest_instruction_set, highest_instruction_set>;

/// run of Op for the device's set. Signature is the function type of a set's.
template <class Builds, class Op, class Signature, class... T>
struct Run;
template <class Builds, class Op, class... Arguments, class Result, class... T>
struct Run<Builds, Op, Result(const Cpu&, Arguments...), T...> {
  /// What kernels/kernel.hpp says of Op.
  static Result run(const Cpu& device, Arguments... arguments);
};

/// backward of Op for the device's set.
template <class Builds, class Op, class Signature, class... T>
struct Backward;
template <class Builds, class Op, class... Arguments, class... T>
struct Backward<Builds, Op, void(const Cpu&, Arguments...), T...> {
  /// What kernels/kernel.hpp says of Op.
  static void backward(const Cpu& device, Arguments... arguments);
};

/// The type of a pointer's function.
template <auto function>
using signature_t = std::remove_pointer_t<decltype(function)>;

/// All that the dispatcher makes of Op's kernels.
template <class Op, class... T>
struct Dispatched : Run<SetsOfBuild, Op, signature_t<&promised::kernel<Op, T...>::run>, T...> {};
template <class Op, class... T>
requires VectorisedBackward<Op, T...>
struct Dispatched<Op, T...> : Run<SetsOfBuild, Op, signature_t<&promised::kernel<Op, T...>::run>, T...>,
                              Backward<SetsOfBuild, Op, signature_t<&promised::kernel<Op, T...>::backward>, T...> {
};

}  // namespace cpu

/// The vectorised ops; their contracts are in kernels/kernel.hpp.
template <class Op, class... T>
requires cpu::Vectorised<Op, T...>
struct kernel<Op, Cpu, T...> : cpu::Dispatched<Op, T...> {
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

#if !defined(STORYLM_WITH_KERNELS)
#include <storylm/kernels/cpu/pick.hpp>
#endif
