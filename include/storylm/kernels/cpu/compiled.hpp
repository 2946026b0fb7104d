// SPDX-License-Identifier: MIT
/// @file
/// @brief All kernels of an op, for one object of the kernel library: cmake/cpu_kernels.cmake includes this once an op.
#pragma once

#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/dtype.hpp>
#include <storylm/kernels/cpu/dispatch.hpp>
#include <storylm/kernels/kernel.hpp>

namespace storylm::cpu {

/// Any function: kernels of one op have several types.
using AnyFunction = void (*)();

namespace detail {
template <class Op, class... T>
void list_kernel(std::vector<AnyFunction>& kernels) {
  if constexpr (Vectorised<Op, T...>) {
    kernels.push_back(reinterpret_cast<AnyFunction>(&kernel<Op, Cpu, T...>::run));
    if constexpr (VectorisedBackward<Op, T...>) {
      kernels.push_back(reinterpret_cast<AnyFunction>(&kernel<Op, Cpu, T...>::backward));
    }
  }
}
/// Of one dtype, of two, of three.
template <class Op, class First, class... All>
void list_kernels_from(std::vector<AnyFunction>& kernels) {
  list_kernel<Op, First>(kernels);
  (list_kernel<Op, First, All>(kernels), ...);
  const auto third = [&]<class Second>(Second /*type*/) { (list_kernel<Op, First, Second, All>(kernels), ...); };
  (third(All{}), ...);
}
template <class Op, class... All>
void list_kernels(std::vector<AnyFunction>& kernels) {
  (list_kernels_from<Op, All, All...>(kernels), ...);
}
}  // namespace detail

/// Every kernel of Op that there is, of whichever dtypes. Where this is instantiated, so are they.
template <class Op>
[[nodiscard]] std::vector<AnyFunction> all_kernels() {
  std::vector<AnyFunction> kernels;
  detail::list_kernels<Op, float, double, bf16, half>(kernels);
  return kernels;
}

}  // namespace storylm::cpu
