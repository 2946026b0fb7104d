// SPDX-License-Identifier: MIT
/// @file
/// @brief The bodies of dispatch.hpp's functions, left out of programs that link the kernels (STORYLM_WITH_KERNELS).
#pragma once

#include <type_traits>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/cpu/sets.hpp>

namespace storylm::cpu {

/// A set as a type, by which a function can name its kernels.
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

/// The richest set of the build that differs for these dtypes: without bf16 avx512_bf16 is avx512 once more.
template <class... T>
inline constexpr InstructionSet richest_set =
    std::min(highest_instruction_set,
             std::max(lowest_instruction_set,
                      (std::is_same_v<T, bf16> || ...) ? InstructionSet::avx512_bf16 : InstructionSet::avx512));

/// f(Kernels<set>{}) for the device's set, or the next poorer one from `set` on.
template <InstructionSet set, class F>
decltype(auto) with_kernels(const Cpu& device, const F& f) {
  if constexpr (set > lowest_instruction_set) {
    constexpr auto poorer = static_cast<InstructionSet>(static_cast<int>(set) - 1);
    if (device.instruction_set() < set) return with_kernels<poorer>(device, f);
  }
  return f(Kernels<set>{});
}

template <class Builds, class Op, class... Arguments, class Result, class... T>
Result Run<Builds, Op, Result(const Cpu&, Arguments...), T...>::run(const Cpu& device, Arguments... arguments) {
  return with_kernels<richest_set<T...>>(
      device, [&](auto set) { return decltype(set)::template kernel<Op, T...>::run(device, arguments...); });
}

template <class Builds, class Op, class... Arguments, class... T>
void Backward<Builds, Op, void(const Cpu&, Arguments...), T...>::backward(const Cpu& device, Arguments... arguments) {
  with_kernels<richest_set<T...>>(
      device, [&](auto set) { decltype(set)::template kernel<Op, T...>::backward(device, arguments...); });
}

}  // namespace storylm::cpu
